"""Figures of a run: its species over the generations, and its fitness. They need matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gonzo.core import require

from .generation import Generation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EXTRA = "gonzo-neuroevo[plot]"
_SMALL = 0.05


def plot_species(history: Sequence[Generation]) -> Figure:
    """Sizes of the species over the generations, stacked: each a band from its first member on.

    Args:
        history: of a run, `NEAT.history`; at least one generation.

    Raises:
        ValueError: no generation.
        MissingExtraError: matplotlib is not installed.
    """
    figure, axes = _axes(history)
    every = sorted({key for told in history for key in told.species})
    sizes = np.array([[told.species.get(key, 0) for told in history] for key in every])
    large = sizes.max(1) >= _SMALL * sizes.sum(0).max()  # the others make one band
    keys = [key for key, shown in zip(every, large, strict=True) if shown]
    sizes = np.vstack([sizes[large], sizes[~large].sum(0, keepdims=True)])
    colours = require("matplotlib", extra=_EXTRA).colormaps["tab20"]
    axes.stackplot(
        [told.number for told in history],
        sizes,
        colors=[*(colours(key % 20) for key in keys), "lightgrey"],
        rasterized=True,
        linewidth=0.3,
        edgecolor="white",
    )
    axes.set_ylabel("genomes")
    axes.set_ylim(0, sizes.sum(0).max())
    axes.margins(x=0)
    axes.set_title(
        f"{len(every)} species; grey: those that were never {_SMALL:.0%} of the genomes",
        fontsize="small",
    )
    figure.tight_layout()
    return figure


def plot_fitness(history: Sequence[Generation], *, target: float | None = None) -> Figure:
    """Best and mean fitness over the generations.

    Args:
        history: of a run; at least one generation.
        target: drawn as a line.

    Raises:
        ValueError: no generation.
        MissingExtraError: matplotlib is not installed.
    """
    figure, axes = _axes(history)
    numbers = [told.number for told in history]
    axes.plot(numbers, [told.best for told in history], label="best")
    axes.plot(numbers, [told.mean for told in history], label="mean")
    if target is not None:
        axes.axhline(target, color="grey", linestyle=":", label="target")
    axes.set_ylabel("fitness")
    axes.legend(fontsize="small")
    figure.tight_layout()
    return figure


def _axes(history: Sequence[Generation]) -> tuple[Figure, Axes]:
    if not history:
        raise ValueError("expected a history of at least one generation, got none")
    figure = require("matplotlib.figure", extra=_EXTRA).Figure(figsize=(6, 3))
    axes = figure.subplots()
    axes.set_xlabel("generation")
    return figure, axes
