"""Tiny Shakespeare as numbers, how a language model learns it, and how well it predicts it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gonzo.core.nn import LanguageModel
from gonzo.core.nn.linear_cross_entropy import IGNORED
from gonzo.lab.batches import Batches
from gonzo.lab.data.tinyshakespeare import tinyshakespeare
from gonzo.lab.run import Run
from gonzo.lab.training import Training, minimise

_READ_AT_ONCE = 8192
"""Characters in a batch that is only judged."""


class Text(NamedTuple):
    """A text to learn from, and one to judge by."""

    train: Tensor
    """(n,) int64, each character as its place in the vocabulary."""
    held_out: Tensor
    """(m,) int64, in the same vocabulary."""
    vocab_size: int


def load(judge: Literal["valid", "test"], run: Run) -> Text:
    """Return the training text and a held-out one, on the run's device."""
    texts = [tinyshakespeare(split) for split in ("train", judge)]
    vocabulary = {character: place for place, character in enumerate(sorted(set(texts[0])))}
    train, held_out = (
        torch.tensor([vocabulary[character] for character in text], device=run.device)
        for text in texts
    )
    return Text(train, held_out, len(vocabulary))


def windows(text: Tensor, starts: Tensor, length: int) -> Tensor:
    """Return the stretches of `length` characters that begin at `starts`, (n, length)."""
    return text[starts.to(text.device)[:, None] + torch.arange(length, device=text.device)]


def learn(model: LanguageModel, text: Tensor, training: Training, context: int, run: Run) -> None:
    """Train in place on stretches of the text that begin anywhere, the same ones in every arm."""
    length = context + 1
    places = torch.arange(len(text) - length + 1)
    batches = Batches(places, batch_size=training.batch, seed=run.seed)

    def measure(step: int) -> dict[str, Tensor]:
        (starts,) = batches.at(step)
        return {"loss": model.loss(windows(text, starts, length))}

    minimise(model, training, run, measure)


@torch.no_grad()
def bits_per_character(model: LanguageModel, text: Tensor, context: int) -> float:
    """Return the mean of -log₂ p over every character but the first, each predicted once.

    The model reads windows of `context` characters that overlap by half, so that a prediction has
    half a window before it or more; only at the beginning of the text it has less.
    """
    model.eval()
    n, stride = len(text) - 1, (context + 1) // 2
    count = 1 + max(0, math.ceil((n - context) / stride))
    missing = context + (count - 1) * stride - n
    read = F.pad(text[:-1], (0, missing)).unfold(0, context, stride)
    targets = F.pad(text[1:], (0, missing), value=IGNORED).unfold(0, context, stride).clone()
    targets[1:, : context - stride] = IGNORED
    batch = max(1, _READ_AT_ONCE // context)
    nats = sum(
        float(model.loss(x, targets=y)) * int((y != IGNORED).sum())
        for x, y in zip(read.split(batch), targets.split(batch), strict=True)
    )
    return nats / n / math.log(2)


def bigram_bits(text: Text) -> float:
    """Return the bits per character of counted pairs: what a model without memory comes to.

    Every pair counts a tenth more often than it was seen.
    """
    pairs = text.train[:-1] * text.vocab_size + text.train[1:]
    counts = torch.bincount(pairs, minlength=text.vocab_size**2).double() + 0.1
    counts = counts.view(text.vocab_size, text.vocab_size)
    bits = -(counts / counts.sum(1, keepdim=True)).log2()
    return float(bits[text.held_out[:-1], text.held_out[1:]].mean())
