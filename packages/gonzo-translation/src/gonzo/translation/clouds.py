"""A picture of two vocabularies before and after the mapping, on the plane that shows most of them.

Every vector is brought to length 1, as only its direction counts for retrieval. The plane is that
of the two first principal components of mapped source and target together, and both panels have it,
so that the target stays where it is and the source moves onto it.

Source: Conneau, Lample, Ranzato, Denoyer and Jégou: Word Translation Without Parallel Data (2018),
figure 1, whose clouds are drawn by hand; these are the vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gonzo.core import require
from gonzo.translation.label_placement import Label, place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Plane", "plot_clouds", "principal_plane", "spread_out"]

_EXTRA = "gonzo-translation[plot]"
_SHORTEST = 3  # articles and pronouns have no one translation
_BLUE, _ORANGE = "#1f4e79", "#c55a11"


class Plane(NamedTuple):
    """A centre (d,) and two orthonormal directions (2, d); share is that of the variance on it."""

    centre: Tensor
    axes: Tensor
    share: float

    def project(self, points: Tensor) -> Tensor:
        """Return (n, 2) coordinates of (n, d) points."""
        return (points - self.centre) @ self.axes.T


def principal_plane(points: Tensor) -> Plane:
    """Find the plane of the two first principal components; each points to where its sum is ≥ 0.

    Args:
        points: (n, d), n and d at least 2.

    Raises:
        ValueError: fewer.
    """
    if points.ndim != 2 or min(points.shape) < 2:
        raise ValueError(
            f"expected at least 2 points of at least 2 dimensions, got {tuple(points.shape)}"
        )
    centre = points.mean(0)
    _, lengths, directions = torch.linalg.svd(points - centre, full_matrices=False)
    axes = directions[:2]
    axes = axes * torch.where(axes.sum(1, keepdim=True) < 0, -1.0, 1.0)
    variance = lengths.square()
    share = float(variance[:2].sum() / variance.sum()) if variance.sum() > 0 else 0.0
    return Plane(centre, axes, share)


def spread_out(points: Tensor, number: int) -> list[int]:
    """Choose points far from each other: the first, then always the one farthest from all chosen.

    Args:
        points: (n, 2)
        number: how many; all if there are fewer.
    """
    if not len(points):
        return []
    chosen, far = [0], (points - points[0]).norm(dim=1)
    while len(chosen) < min(number, len(points)):
        chosen.append(int(far.argmax()))
        far = far.minimum((points - points[chosen[-1]]).norm(dim=1))
        far[chosen] = -1
    return chosen


def plot_clouds(
    source: Tensor,
    mapped: Tensor,
    target: Tensor,
    *,
    source_words: Sequence[str],
    target_words: Sequence[str],
    pairs: Tensor,
    points: int = 400,
    labels: int = 12,
    names: tuple[str, str] = ("source", "target"),
) -> Figure:
    """Draw the most frequent words of both languages, and translation pairs joined by lines.

    Args:
        source: (n, d) vectors before the mapping, the most frequent word first.
        mapped: (n, d) the same words after it.
        target: (m, d) in the space of `mapped`.
        source_words: by row.
        target_words: by row.
        pairs: (p, 2) int64, translations, the best of each word first. Those of words that are
            drawn, of at least three letters and not spelt the same can be joined, each word once.
        points: words of each language, the most frequent.
        labels: pairs that are joined, spread over the picture; their words are written where there
            is room.
        names: of the languages.

    Raises:
        ValueError: shapes that do not fit together.
        MissingExtraError: matplotlib is not installed.
    """
    if source.shape != mapped.shape or mapped.shape[1:] != target.shape[1:]:
        raise ValueError(
            "plot_clouds: expected source (n, d), mapped (n, d) and target (m, d), got "
            f"{tuple(source.shape)}, {tuple(mapped.shape)} and {tuple(target.shape)}"
        )
    if len(source_words) < len(source) or len(target_words) < len(target):
        raise ValueError(
            f"plot_clouds: expected words for all rows, {len(source)} and {len(target)}, got "
            f"{len(source_words)} and {len(target_words)}"
        )
    before, after, fixed = (
        normalize(side[:points].detach().double().cpu()) for side in (source, mapped, target)
    )
    plane = principal_plane(torch.cat([after, fixed]))
    goal = plane.project(fixed)
    drawable = _joinable(pairs, source_words[: len(after)], target_words[: len(fixed)])
    middle = torch.tensor(drawable, dtype=torch.int64).reshape(-1, 2)
    middle = plane.project(after[middle[:, 0]]) + goal[middle[:, 1]]
    joined = [drawable[i] for i in spread_out(middle, labels)]

    figure = require("matplotlib.figure", extra=_EXTRA).Figure(figsize=(11, 5.2))
    panels = figure.subplots(1, 2)
    for axes, side, title in zip(panels, (before, after), ("before", "after"), strict=True):
        moved = plane.project(side)
        axes.scatter(*moved.T.numpy(), s=5, c=_BLUE, alpha=0.45, lw=0, label=names[0])
        axes.scatter(*goal.T.numpy(), s=5, c=_ORANGE, alpha=0.45, lw=0, label=names[1])
        axes.set(xticks=[], yticks=[], title=f"{title} the mapping")
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.08)
    panels[0].legend(loc="upper left", fontsize="small", markerscale=2)
    figure.supxlabel(
        f"two principal components of mapped {names[0]} and {names[1]}, "
        f"{plane.share:.0%} of the variance",
        fontsize="small",
    )
    figure.tight_layout()
    figure.draw_without_rendering()  # settles the limits, which the labels depend on
    for axes, side in zip(panels, (before, after), strict=True):
        _join(axes, plane.project(side), goal, joined, source_words, target_words)
    return figure


def _joinable(
    pairs: Tensor, source_words: Sequence[str], target_words: Sequence[str]
) -> list[tuple[int, int]]:
    chosen: dict[int, int] = {}
    for x, y in pairs.tolist():
        if x >= len(source_words) or y >= len(target_words) or x in chosen or y in chosen.values():
            continue
        one, other = source_words[x], target_words[y]
        if one != other and min(len(one), len(other)) >= _SHORTEST:
            chosen[x] = y
    return list(chosen.items())


def _join(
    axes: Axes,
    moved: Tensor,
    goal: Tensor,
    joined: list[tuple[int, int]],
    source_words: Sequence[str],
    target_words: Sequence[str],
) -> None:
    axes.autoscale(False)
    texts = []
    for x, y in joined:
        (a, b), (c, d) = moved[x].tolist(), goal[y].tolist()
        axes.plot([a, c], [b, d], color="0.35", lw=0.8, zorder=3)
        axes.scatter([a, c], [b, d], s=16, c=[_BLUE, _ORANGE], zorder=4, lw=0)
        texts += [Label(a, b, source_words[x], _BLUE), Label(c, d, target_words[y], _ORANGE)]
    place_labels(axes, texts, extra=_EXTRA)
