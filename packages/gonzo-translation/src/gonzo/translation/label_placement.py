"""Labels of a figure's points that overlap neither each other nor the frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from gonzo.core import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Label", "place_labels"]

# Where a label can stand, in points from its point, the best place first.
_DIRECTIONS = [(1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8)]
_PLACES = [(distance * x, distance * y) for distance in (4, 9, 16) for x, y in _DIRECTIONS]
_SIDE = {1: "left", -1: "right", 0: "center"}
_HEIGHT = {1: "bottom", -1: "top", 0: "center"}


class Label(NamedTuple):
    """A text that belongs to a point, in the coordinates of the data."""

    x: float
    y: float
    text: str
    colour: str


def place_labels(axes: Axes, labels: Iterable[Label], *, extra: str, size: float = 8) -> int:
    """Write labels beside their points; one without a free place is left out.

    Limits of the axes and the layout of the figure must not change afterwards. The first labels
    choose first.

    Args:
        axes: of a figure.
        labels: what to write.
        extra: the distribution and extra that bring matplotlib.
        size: of the font, points.

    Returns:
        How many were placed.
    """
    agg = require("matplotlib.backends.backend_agg", extra=extra)
    effects = require("matplotlib.patheffects", extra=extra)
    figure: Any = axes.figure
    renderer = agg.FigureCanvasAgg(figure).get_renderer()
    halo = [effects.withStroke(linewidth=2, foreground="white")]
    frame = axes.get_window_extent(renderer)
    taken: list[Any] = []
    for label in labels:
        for dx, dy in _PLACES:
            text = axes.annotate(
                label.text,
                (label.x, label.y),
                (dx, dy),
                textcoords="offset points",
                ha=_SIDE[_sign(dx)],
                va=_HEIGHT[_sign(dy)],
                fontsize=size,
                color=label.colour,
                path_effects=halo,
                zorder=5,
            )
            box = text.get_window_extent(renderer)
            inside = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
    return len(taken)


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)
