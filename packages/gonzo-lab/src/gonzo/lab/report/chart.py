"""Line charts as inline SVG that takes its colours from the page, light or dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = 6

_WIDTH, _HEIGHT = 480, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 34
_POINTS = 100


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Args:
        name: for the legend.
        colour: index into the page's palette; lines of one colour belong together.
        points: (step, value) pairs, steps increasing.
    """

    name: str
    colour: int
    points: Sequence[tuple[float, float]]


def line_chart(title: str, series: Sequence[Series]) -> str:
    """Return a `<figure>` with the lines, a legend with each line's last value, and axes.

    Many points are averaged in buckets, with the range of each bucket as a faint band. The
    value axis is logarithmic when positive values span more than two decades.
    """
    finite = [
        Series(s.name, s.colour, [p for p in s.points if math.isfinite(p[1])]) for s in series
    ]
    drawn = [s for s in finite if s.points]
    if not drawn:
        return ""
    xs = [x for s in drawn for x, _ in s.points]
    ys = [y for s in drawn for _, y in s.points]
    logarithmic = min(ys) > 0 and max(ys) / min(ys) > 100
    x_axis = _Axis(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    y_axis = _Axis(min(ys), max(ys), _HEIGHT - _BOTTOM, _TOP, logarithmic=logarithmic)
    body = _grid(x_axis, y_axis) + "".join(_line(s, x_axis, y_axis) for s in drawn)
    legend = "".join(
        f'<li><i class="k{s.colour}"></i>{escape(s.name)} <b>{_last(s):.4g}</b></li>' for s in drawn
    )
    scale = " <small>log scale</small>" if logarithmic else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}{scale}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)} by step">'
        f'{body}</svg><ul class="legend">{legend}</ul></figure>'
    )


class _Axis:
    """A scale from values to pixels, with ticks at round numbers."""

    def __init__(
        self, low: float, high: float, begin: float, end: float, *, logarithmic: bool = False
    ) -> None:
        if high == low:
            margin = abs(low) / 2 or 0.5
            low, high = low - margin, high + margin
        self._logarithmic = logarithmic
        self._low, self._high = (math.log10(v) if logarithmic else v for v in (low, high))
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        position = math.log10(value) if self._logarithmic else value
        share = (position - self._low) / (self._high - self._low)
        return self._begin + share * (self._end - self._begin)

    def ticks(self) -> list[float]:
        if self._logarithmic:
            return [10.0**k for k in range(math.ceil(self._low), math.floor(self._high) + 1)]
        rough = (self._high - self._low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        first = math.ceil(self._low / step - 1e-9)
        last = math.floor(self._high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def _grid(x_axis: _Axis, y_axis: _Axis) -> str:
    parts = []
    for tick in y_axis.ticks():
        y = y_axis.at(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" class="end">{_short(tick)}</text>')
    for tick in x_axis.ticks():
        x = x_axis.at(tick)
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" class="middle">{_short(tick)}</text>'
        )
    parts.append(f'<path class="axis" d="M{_LEFT} {_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}"/>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 2}" class="end faint">step</text>')
    return "".join(parts)


def _line(series: Series, x_axis: _Axis, y_axis: _Axis) -> str:
    buckets = _buckets(series.points)
    middle = [(x, sum(values) / len(values)) for x, values in buckets]
    path = _path([(x_axis.at(x), y_axis.at(y)) for x, y in middle])
    line = f'<path class="line s{series.colour}" d="M{path}"/>'
    if len(buckets) == len(series.points):
        return line
    above = [(x_axis.at(x), y_axis.at(max(values))) for x, values in buckets]
    below = [(x_axis.at(x), y_axis.at(min(values))) for x, values in reversed(buckets)]
    return f'<path class="band f{series.colour}" d="M{_path(above + below)}Z"/>' + line


def _buckets(points: Sequence[tuple[float, float]]) -> list[tuple[float, list[float]]]:
    size = math.ceil(len(points) / _POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), [y for _, y in g]) for g in groups]


def _last(series: Series) -> float:
    _, values = _buckets(series.points)[-1]
    return sum(values) / len(values)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _short(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 10_000:
        return f"{value / 1e3:g}k"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:g}"
