"""Hubs: in many dimensions nearest neighbours have them, CSLS has fewer, and translates better.

Claim: among vectors of many dimensions a few targets are the nearest neighbours of very many
queries, and many of none; scores that take hubs down, CSLS and the inverted softmax, retrieve
more evenly, and that is what they gain in precision.

Clouds are drawn, so that everything but the score is held equal. A target vector is normal with
standard deviation i^-½ along direction i, falling as that of word vectors does. A mapped source
vector is a target vector with noise: the mapping is taken to be perfect, and what is left to go
wrong is retrieval. Three things are measured:

    dimensions  skewness of the k-occurrence (k = 10) against the dimension
    noise       precision at 1 of the three scores against the noise
    control     an even cloud, the same deviation along all directions: its cosines have no hubs
                in any dimension, so CSLS should have little to gain at equal difficulty

What differs from the papers: vectors are drawn and not trained, and nothing is mapped.
Radovanović et al. measure Euclidean distances, which make hubs in even clouds too: points near the
middle are near to all. Cosines of an even cloud around the origin have no middle, and no hubs.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require
from gonzo.translation.hubness import measure_hubness
from gonzo.translation.plots import plot_hubness
from gonzo.translation.retrieval import Method
from gonzo.translation.word_translation_scores import word_translation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METHODS: dict[Method, str] = {
    "nn": "nearest neighbours",
    "csls": "CSLS",
    "isf": "inverted softmax",
}
_COLOURS = ("#c55a11", "#1f4e79", "#2e8b57")
_UNEVEN, _EVEN = 0.5, 0.0  # deviation along direction i is i to the minus this


@dataclass(frozen=True)
class Config:
    """Sizes of the clouds, and what is swept."""

    words: int = 10_000
    """Of each side."""
    test: int = 1500
    """Words that precision is counted on."""
    dimensions: tuple[int, ...] = (3, 10, 30, 100, 300)
    """The last one is that of the noise and the control, too."""
    noises: tuple[float, ...] = (0.75, 1.0, 1.5, 2.0, 3.0)
    """Deviation of the noise, as a multiple of the vectors'."""
    noise: float = 1.5
    """At which precision is reported."""
    even_noise: float = 4.0
    """Of the control: here nearest neighbours find about as many as in the uneven cloud."""
    seeds: int = 5

    def __post_init__(self) -> None:
        require(min(self.dimensions, default=0) >= 2, "dimensions of at least 2")
        require(1 <= self.test <= self.words, f"test of 1 to words, {self.words}, got {self.test}")
        require(
            self.words >= 10, f"words of at least 10, as many as are retrieved, got {self.words}"
        )
        require(self.noise in self.noises, f"noise of {self.noises}, got {self.noise}")
        require(self.seeds >= 1, f"seeds of at least 1, got {self.seeds}")


RECIPE = Recipe(
    claim="Nearest neighbours in many dimensions have hubs; CSLS has fewer, and gains by it",
    paper=Paper(
        "Conneau, Lample, Ranzato, Denoyer and Jégou, Word Translation Without Parallel Data, "
        "ICLR 2018; Radovanović, Nanopoulos and Ivanović, Hubs in Space, JMLR 11, 2010",
        where="section 2.3 of the first, section 3 of the second; vectors drawn here",
        url="https://arxiv.org/abs/1710.04087",
    ),
    metrics={
        "skewness_low": Metric("skewness of nearest neighbours, lowest dimension"),
        "skewness_nn": Metric("skewness of nearest neighbours, highest dimension"),
        "skewness_csls": Metric("skewness of CSLS, highest dimension"),
        "unreached_nn": Metric("never retrieved, nearest neighbours", unit="%", digits=1),
        "unreached_csls": Metric("never retrieved, CSLS", unit="%", digits=1),
        "precision_nn": Metric("P@1, nearest neighbours", unit="%", digits=1),
        "precision_csls": Metric("P@1, CSLS", unit="%", digits=1),
        "precision_isf": Metric("P@1, inverted softmax", unit="%", digits=1),
        "gain": Metric("CSLS above nearest neighbours", unit="points", digits=1),
        "even_skewness": Metric("control without hubs: skewness of nearest neighbours"),
        "even_precision": Metric("control: P@1, nearest neighbours", unit="%", digits=1),
        "even_gain": Metric("control: CSLS above nearest neighbours", unit="points", digits=1),
    },
    presets={
        "quick": Preset(
            Config(words=4000, seeds=2),
            time="20 s",
            targets=[
                Target("skewness_nn", ">=", 3),
                Target("skewness_csls", "<=", 1.6),
                Target("gain", ">=", 5),
                Target("even_gain", "<=", 3),
            ],
            reduced=["vectors drawn, not trained", "4,000 words of each side", "2 seeds"],
        ),
        "cpu": Preset(
            Config(),
            time="3 min on one core",
            targets=[
                Target("skewness_nn", ">=", 3),
                Target("skewness_csls", "<=", 1.6),
                Target("gain", ">=", 5),
                Target("even_gain", "<=", 3),
            ],
            reduced=["vectors drawn, not trained"],
        ),
    },
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Measure clouds of all dimensions, then of all noises, then the control."""
    torch.set_num_threads(1)
    highest = config.dimensions[-1]
    swept = [(d, config.noise, _UNEVEN) for d in config.dimensions]
    swept += [(highest, noise, _UNEVEN) for noise in config.noises if noise != config.noise]
    swept += [(highest, config.even_noise, _EVEN)]
    means: dict[tuple[int, float, float], dict[str, float]] = {}
    for cloud in swept:
        dimension, noise, decay = cloud
        seeds = [
            run.once(
                f"{dimension}-{noise}-{decay}-{seed}",
                lambda: _measure(config, *cloud, seed=1000 * run.seed + seed),
            )
            for seed in range(config.seeds)
        ]
        means[cloud] = {
            name: statistics.fmean(values[name] for values in seeds) for name in seeds[0]
        }
    by_dimension = [means[d, config.noise, _UNEVEN] for d in config.dimensions]
    by_noise = [means[highest, noise, _UNEVEN] for noise in config.noises]
    run.figure("dimensions", _curves(config.dimensions, by_dimension, "skewness", "dimensions"))
    run.figure("noise", _curves(config.noises, by_noise, "precision", "noise"))
    run.figure("occurrences", _occurrences(config, seed=1000 * run.seed))
    hubs, even = by_dimension[-1], means[highest, config.even_noise, _EVEN]
    return {
        "skewness_low": by_dimension[0]["skewness_nn"],
        **hubs,
        "gain": hubs["precision_csls"] - hubs["precision_nn"],
        "even_skewness": even["skewness_nn"],
        "even_precision": even["precision_nn"],
        "even_gain": even["precision_csls"] - even["precision_nn"],
    }


def _measure(
    config: Config, dimension: int, noise: float, decay: float, *, seed: int
) -> dict[str, float]:
    mapped, target = _clouds(config, dimension, noise, decay, seed)
    gold = torch.arange(config.test)[:, None].expand(-1, 2)
    measured = {}
    for method in _METHODS:
        found = word_translation(mapped, target, gold, method=method, ks=(1,))
        hubs = measure_hubness(mapped, target, method=method)
        measured[f"precision_{method}"] = 100 * found.precision[1]
        measured[f"skewness_{method}"] = hubs.skewness
        measured[f"unreached_{method}"] = 100 * hubs.anti_hubs
    return measured


def _clouds(
    config: Config, dimension: int, noise: float, decay: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Return mapped sources and their targets, (words, d) each."""
    generator = torch.Generator().manual_seed(seed)
    deviation = torch.arange(1, dimension + 1) ** -decay
    drawn, moved = torch.randn(2, config.words, dimension, generator=generator) * deviation
    return drawn + noise * moved, drawn


def _curves(
    values: Sequence[float], measured: Sequence[Mapping[str, float]], what: str, along: str
) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5))
    axes = figure.subplots()
    for (method, label), colour in zip(_METHODS.items(), _COLOURS, strict=True):
        heights = [means[f"{what}_{method}"] for means in measured]
        axes.plot(values, heights, "o-", ms=4, color=colour, label=label)
    if along == "dimensions":
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set_xlabel({"noise": "noise, deviation as a multiple of the vectors'"}.get(along, along))
    axes.set_ylabel({"precision": "precision at 1, %"}.get(what, f"{what} of the k-occurrence"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize="small")
    figure.tight_layout()
    return figure


def _occurrences(config: Config, *, seed: int) -> Figure:
    clouds = _clouds(config, config.dimensions[-1], config.noise, _UNEVEN, seed)
    return plot_hubness(
        {label: measure_hubness(*clouds, method=method) for method, label in _METHODS.items()}
    )
