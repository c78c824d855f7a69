"""Figures of lottery runs, as in Figures 1, 3 and 4 of Frankle and Carbin (ICLR 2019)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .ticket_levels import Kind, Levels, Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_levels", "plot_trainings"]

_STYLES: dict[Kind, tuple[str, str, str]] = {
    "ticket": ("winning ticket", "#1f4e79", "-"),
    "reinit": ("weights drawn anew", "#c55a11", "--"),
    "random-mask": ("random mask", "#2e8b57", "--"),
    "one-shot": ("pruned at once", "#8c6bb1", "-"),
    "dense": ("small dense network", "#8c8c8c", "--"),
}
_LEVELS = ("#000000", "#1f4e79", "#2e8b57", "#c9a227", "#c55a11", "#8c6bb1")
_LABELS: dict[Quantity, str] = {
    "accuracy": "test accuracy at early stop, %",
    "step": "step of early stop",
    "loss": "lowest validation loss",
}


def plot_levels(
    levels: Levels, ticks: Sequence[int], quantities: Sequence[Quantity] = ("step", "accuracy")
) -> Figure:
    """Draw quantities against the weights that remain: means over seeds, lowest to highest.

    Args:
        levels: What was found.
        ticks: Levels that are named on the axis.
        quantities: One panel for each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(quantities), 3.8))
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, what in zip(panels, quantities, strict=True):
        for kind, (label, colour, line) in _STYLES.items():
            _with_ranges(axes, levels, kind, what, label, colour, line)
        dense = levels.mean("ticket", 0, what)
        axes.axhline(dense, color="0.6", lw=0.8, ls=":")
        axes.set(xscale="log", xlabel="weights remaining, %", ylabel=_LABELS[what])
        places = [levels.remaining(level) for level in ticks]
        axes.set_xticks(places, [f"{place:.3g}" for place in places])
        axes.minorticks_off()
        axes.invert_xaxis()
        if what == "step":
            axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].legend(fontsize="small", loc="lower left")
    figure.tight_layout()
    return figure


def _with_ranges(
    axes: Axes, levels: Levels, kind: Kind, what: Quantity, label: str, colour: str, line: str
) -> None:
    found = levels.levels(kind)
    if not found:
        return
    each = [levels.each(kind, level, what) for level in found]
    means = [statistics.fmean(values) for values in each]
    below = [mean - min(values) for mean, values in zip(means, each, strict=True)]
    above = [max(values) - mean for mean, values in zip(means, each, strict=True)]
    axes.errorbar(
        [levels.remaining(level) for level in found],
        means,
        yerr=[below, above],
        fmt=f"o{line}",
        ms=3,
        lw=1.2,
        elinewidth=0.7,
        capsize=2,
        color=colour,
        label=label,
    )


def plot_trainings(levels: Levels, shown: Sequence[int], compared: int) -> Figure:
    """Draw the validation accuracy while training, means over seeds.

    Args:
        levels: What was found.
        shown: Tickets in the left panel.
        compared: The level whose ticket and controls are in the right panel.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8))
    tickets, controls = figure.subplots(1, 2, sharey=True)
    for level, colour in zip(shown, _LEVELS, strict=False):
        label = f"{levels.remaining(level):.3g} % of the weights"
        tickets.plot(*_curve(levels, "ticket", level), color=colour, lw=1.2, label=label)
    controls.plot(*_curve(levels, "ticket", 0), color="0", lw=1.2, label="all weights")
    for kind, (label, colour, line) in _STYLES.items():
        if compared in levels.levels(kind):
            curve = _curve(levels, kind, compared)
            controls.plot(*curve, color=colour, ls=line, lw=1.2, label=label)
    tickets.set_title("winning tickets", fontsize="medium")
    controls.set_title(f"{levels.remaining(compared):.3g} % of the weights", fontsize="medium")
    tickets.set_ylabel("validation accuracy, %")
    # The first steps would take up most of the height.
    ends = [*_curve(levels, "ticket", 0)[1], *_curve(levels, "ticket", compared)[1]]
    tickets.set_ylim(max(ends) - 12 * (max(ends) - statistics.median(ends)) - 1, max(ends) + 0.5)
    for axes in (tickets, controls):
        axes.set_xlabel("step")
        axes.legend(fontsize="small", loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def _curve(levels: Levels, kind: Kind, level: int) -> tuple[list[float], list[float]]:
    """Return steps and the mean accuracy of all seeds and draws."""
    histories = [trial.history for trials in levels.trials(kind, level) for trial in trials]
    columns = list(zip(*histories, strict=True))
    return (
        [entries[0]["step"] for entries in columns],
        [
            statistics.fmean(entry["validation_accuracy"] for entry in entries)
            for entries in columns
        ],
    )
