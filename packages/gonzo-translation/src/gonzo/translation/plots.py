"""Figures of an evaluation: hubs, precision by frequency, and stability over seeds.

They need matplotlib. A figure is returned, not shown: `figure.savefig("hubs.png")` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING

from gonzo.core import require
from gonzo.translation.frequency_bands import Band
from gonzo.translation.hubness import Hubness

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_frequency_bands", "plot_hubness", "plot_stability"]

_EXTRA = "gonzo-translation[plot]"
_COLOURS = ("#c55a11", "#1f4e79", "#2e8b57", "#8c6bb1", "#8c8c8c")


def plot_hubness(by_method: Mapping[str, Hubness]) -> Figure:
    """Draw how many targets are retrieved at least so often, on logarithmic axes.

    Without hubs the curve falls steeply just after the mean; hubs are its long tail.

    Args:
        by_method: results of `measure_hubness` with the same vocabularies and k, by name.

    Raises:
        ValueError: no result, or nothing retrieved in one.
        MissingExtraError: matplotlib is not installed.
    """
    if not by_method or not all(int(hubs.counts.sum()) for hubs in by_method.values()):
        raise ValueError("plot_hubness: expected at least one result, in which something was found")
    figure, axes = _axes()
    for (name, hubs), colour in zip(by_method.items(), _cycle(len(by_method)), strict=True):
        counts, having = hubs.counts[hubs.counts > 0].cpu().unique(return_counts=True)
        share = having.flip(0).cumsum(0).flip(0) / len(hubs.counts)  # with at least so many
        axes.step(
            counts.tolist(),
            share.tolist(),
            where="pre",
            color=colour,
            label=f"{name}: skewness {hubs.skewness:.1f}, {hubs.anti_hubs:.0%} never retrieved",
        )
        axes.plot(int(counts[-1]), float(share[-1]), "o", ms=4, color=colour)
        mean = float(hubs.counts.double().mean())
    axes.axvline(mean, color="0.6", lw=0.8, ls=":")
    axes.annotate(
        "mean",
        (mean, 0.95),
        xycoords=("data", "axes fraction"),
        xytext=(3, 0),
        textcoords="offset points",
        fontsize="small",
        color="0.4",
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="times retrieved (k-occurrence)",
        ylabel="share of the targets, at least so often",
    )
    axes.legend(fontsize="small", loc="lower left")
    figure.tight_layout()
    return figure


def plot_frequency_bands(by_method: Mapping[str, Sequence[Band]], *, k: int = 1) -> Figure:
    """Draw precision at k by the frequency of the source word, with 95 % intervals.

    Args:
        by_method: results of `by_frequency` with the same edges, by name.
        k: one that was searched for.

    Raises:
        ValueError: no result, or bands that differ.
        MissingExtraError: matplotlib is not installed.
    """
    layouts = {tuple(str(band) for band in bands) for bands in by_method.values()}
    if len(layouts) != 1:
        raise ValueError(
            f"plot_frequency_bands: expected results with the same bands, got {sorted(layouts)}"
        )
    figure, axes = _axes()
    width = 0.8 / len(by_method)
    ticks: list[str] = []
    for place, (name, bands) in enumerate(by_method.items()):
        ticks = [f"{band}\n{len(band.scores)} words" for band in bands]
        full = [(i, band.scores) for i, band in enumerate(bands) if len(band.scores)]
        shares = [scores.interval(k) for _, scores in full]
        heights = [float(scores.hits(k).double().mean()) for _, scores in full]
        axes.bar(
            [i + (place - (len(by_method) - 1) / 2) * width for i, _ in full],
            [100 * height for height in heights],
            width,
            yerr=[
                [100 * (h - low) for h, (low, _) in zip(heights, shares, strict=True)],
                [100 * (high - h) for h, (_, high) in zip(heights, shares, strict=True)],
            ],
            color=_COLOURS[place % len(_COLOURS)],
            error_kw={"lw": 1, "ecolor": "0.25", "capsize": 2},
            label=name,
        )
    axes.set_xticks(range(len(ticks)), ticks, fontsize="small")
    axes.set(xlabel="frequency rank of the source word", ylabel=f"precision at {k}, %")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    figure.tight_layout()
    return figure


def plot_stability(
    criteria: Mapping[int, Sequence[float]],
    *,
    failed: Set[int] = frozenset(),
    chosen: int | None = None,
    label: str = "unsupervised criterion",
) -> Figure:
    """Draw the criterion of several seeds, epoch by epoch; failed seeds are dashed and end in a ×.

    Args:
        criteria: by seed, one value for each epoch.
        failed: seeds that did not find the alignment.
        chosen: the seed that was kept, drawn thick.
        label: what the criterion is.

    Raises:
        ValueError: no seed, a seed without an epoch, or a failed or chosen one that is not there.
        MissingExtraError: matplotlib is not installed.
    """
    if not criteria or not all(len(values) for values in criteria.values()):
        raise ValueError("plot_stability: expected at least one seed, each with at least one epoch")
    named = failed if chosen is None else failed | {chosen}
    if not named <= criteria.keys():
        raise ValueError(
            f"plot_stability: expected failed and chosen seeds of {sorted(criteria)}, got "
            f"{sorted(named)}"
        )
    figure, axes = _axes()
    for seed, values in criteria.items():
        lost, kept = seed in failed, seed == chosen
        colour, epochs = _COLOURS[0 if lost else 1], range(1, len(values) + 1)
        line = "--" if lost else "-"
        axes.plot(epochs, values, marker="o", ms=3, color=colour, ls=line, lw=2.5 if kept else 1)
        if lost:
            axes.plot(len(values), values[-1], "x", ms=8, color=colour)
    _spread_names(axes, criteria)
    if len(failed) < len(criteria):
        axes.plot([], [], color=_COLOURS[1], label=f"aligned ({len(criteria) - len(failed)})")
    if failed:
        axes.plot([], [], color=_COLOURS[0], ls="--", marker="x", label=f"failed ({len(failed)})")
    if chosen is not None:
        colour = _COLOURS[0 if chosen in failed else 1]
        axes.plot([], [], color=colour, lw=2.5, label=f"kept: seed {chosen}")
    axes.set(xlabel="epoch", ylabel=label)
    axes.locator_params(axis="x", integer=True)
    axes.legend(fontsize="small")
    figure.tight_layout()
    return figure


def _spread_names(axes: Axes, criteria: Mapping[int, Sequence[float]]) -> None:
    """Write each seed's number after its last value, moved up where it would cover another."""
    low, high = axes.get_ylim()
    step, above = 0.05 * (high - low), -float("inf")
    for seed, values in sorted(criteria.items(), key=lambda item: item[1][-1]):
        above = max(values[-1], above + step)
        axes.annotate(
            f"{seed}",
            (len(values), above),
            (7, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
            color="0.3",
            annotation_clip=False,
        )


def _axes() -> tuple[Figure, Axes]:
    figure = require("matplotlib.figure", extra=_EXTRA).Figure(figsize=(6.5, 3.8))
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _cycle(number: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(number)]
