"""Synthetic diphthongs: ten glides between five vowels, by a source and a filter.

A buzz of pitch f₀ has harmonics k f₀, and vowels differ in which of them pass: those near the two
formants F₁ and F₂, which glide from one vowel's to another's. Both directions between neighbouring
vowels are classes, so that a spectrum averaged over time does not tell a class from its mirror
image. Pitch, its drift, the vocal tract's length (a factor on all formants), when the glide
happens, loudness, phases and noise are random.

This is not speech: 64 ms at 16 kHz, two formants, one glide. Everything lies below 3 kHz, noise
included, so that every second sample is the same sound at 8 kHz, without aliasing and without a
filter. The formants are the usual textbook averages, rounded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gonzo.lab.training import Examples

RATE = 16_000
SAMPLES = 1024
VOWELS = torch.tensor([[300.0, 2300.0], [500.0, 1900.0], [750.0, 1200.0], [550.0, 850.0],
                       [350.0, 800.0]])  # i, e, a, o, u: F₁ and F₂ in Hz  # fmt: skip
# From a vowel to its neighbour on the circle i, e, a, o, u, and back.
GLIDES = [(i, (i + 1) % 5) for i in range(5)] + [((i + 1) % 5, i) for i in range(5)]
HIGHEST = 3000  # Hz
_PITCH = (80.0, 250.0)
_HARMONICS = int(HIGHEST / _PITCH[0])
_BANDWIDTH = torch.tensor([80.0, 120.0])
_STRENGTH = torch.tensor([1.0, 0.6])
_AT_ONCE = 100  # sounds whose harmonics exist at the same time: 15 MB


def diphthongs(n: int, *, seed: int) -> Examples:
    """Return `n` sounds and their classes, a pure function of both arguments.

    Returns:
        x (n, SAMPLES, 1) with a root mean square of about 1, and label (n,), an index of GLIDES.
    """
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(len(GLIDES), (n,), generator=generator)
    x = torch.cat([_sounds(part, generator) for part in label.split(_AT_ONCE)])
    return Examples(x.unsqueeze(-1), label)


def _sounds(label: Tensor, generator: torch.Generator) -> Tensor:
    """(n, SAMPLES)."""
    n = len(label)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=generator)

    place = torch.linspace(0, 1, SAMPLES)
    pitch = (uniform(*map(math.log, _PITCH)).exp() * (1 + uniform(-0.1, 0.1) * place)).clamp(
        *_PITCH
    )  # (n, SAMPLES)
    phase = 2 * math.pi / RATE * pitch.cumsum(1)
    glide = torch.sigmoid((place - uniform(0.35, 0.65)) / 0.06)
    start, end = VOWELS[torch.tensor(GLIDES)[label]].unbind(1)  # (n, 2)
    formants = start[..., None] + (end - start)[..., None] * glide[:, None]
    formants = formants * (0.07 * normal(1, 1)).exp()  # (n, 2, SAMPLES)
    sound = torch.zeros(n, SAMPLES)
    offset = 2 * math.pi * torch.rand(n, _HARMONICS, generator=generator)
    for k in range(1, _HARMONICS + 1):
        frequency = k * pitch
        passes = torch.zeros_like(sound)
        for formant in range(2):
            away = (frequency - formants[:, formant]) / _BANDWIDTH[formant]
            passes += _STRENGTH[formant] / (1 + away.square())
        wave = torch.cos(k * phase + offset[:, k - 1 : k])
        sound += torch.where(frequency < HIGHEST, passes * wave, 0)
    sound = sound / sound.square().mean(1, keepdim=True).sqrt()
    return uniform(0.7, 1.4) * (sound + uniform(0.1, 0.5) * below(normal(SAMPLES)))


def below(x: Tensor) -> Tensor:
    """Keep of x (…, SAMPLES) what lies below HIGHEST."""
    spectrum = torch.fft.rfft(x)
    frequency = torch.fft.rfftfreq(x.shape[-1], 1 / RATE)
    return torch.fft.irfft(spectrum * (frequency < HIGHEST), n=x.shape[-1])
