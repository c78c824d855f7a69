"""Figures of early-bird tickets: how masks settle, and what their tickets are worth."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gonzo.pruning.recipes.early_bird_search import Search

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ARMS", "draw_distances", "draw_tickets"]

ARMS = {
    "early": ("early-bird", "#1f4e79"),
    "late": ("drawn at the end", "#c55a11"),
    "first": ("drawn after one epoch", "#2e8b57"),
    "random": ("by chance", "0.55"),
}
"""Label and colour of every way to draw a ticket."""
_DENSE = ("the whole network", "0.2")


def draw_distances(search: Search) -> Figure:
    """Draw the distances of the masks of all pairs of epochs, and the epochs of the tickets."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 3.8))
    for axes, kind in zip(figure.subplots(1, 2), search.watchers, strict=True):
        distances, drawn_at = search.distances(kind), search.drawn_at(kind)
        edge = len(distances) + 0.5
        image = axes.imshow(
            distances.numpy(), cmap="viridis_r", vmin=0, extent=(0.5, edge, edge, 0.5)
        )
        axes.axvline(drawn_at, color="white", lw=1)
        axes.axhline(drawn_at, color="white", lw=1)
        axes.set(xlabel="epoch", ylabel="epoch", title=f"{kind}, drawn after epoch {drawn_at}")
        figure.colorbar(image, ax=axes, label="share in which masks differ")
    figure.tight_layout()
    return figure


def draw_tickets(found: Sequence[Mapping[str, float]]) -> Figure:
    """Draw the accuracy of every arm, a dot for each seed and a bar for the mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 2.6))
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("channels", "weights"), strict=True):
        arms = {**{f"{kind}_{arm}": how for arm, how in ARMS.items()}, "dense": _DENSE}
        for place, (arm, (_, colour)) in enumerate(arms.items()):
            heights = [values[arm] for values in found]
            axes.plot(heights, [place] * len(found), "o", ms=5, color=colour, alpha=0.7)
            axes.plot(statistics.fmean(heights), place, "|", ms=18, mew=2, color=colour)
        axes.set_yticks(range(len(arms)), [label for label, _ in arms.values()])
        axes.set(xlabel="test accuracy, %", title=f"tickets of {kind}")
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    figure.tight_layout()
    return figure
