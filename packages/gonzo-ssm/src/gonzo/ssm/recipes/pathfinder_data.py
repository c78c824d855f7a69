"""Pathfinder: does one dashed curve join the two discs?

A picture holds two dashed curves of equal length and shorter ones that distract. Two of the four
ends of the long curves wear a disc: the two ends of one curve (label 1), or an end of each (label
0). The task is from Linsley et al. 2018; the pictures are drawn here by rules of our own:

- a curve is a chain of straight strokes with equal gaps; from stroke to stroke it turns by at most
  `turn` degrees;
- strokes that are not neighbours in one curve are at least `clearance` apart, which is more than
  the gap and the radius of a disc together: who links strokes that are no further apart than the
  gap finds the curves;
- the second curve begins as far from an end of the first as the two ends of the first are from each
  other. Under label 1 the discs are on the ends of the first curve, under label 0 on that end and
  the beginning of the second. So the strokes, and the distance of the discs, have the same
  distribution under both labels.

Picture `index` is a pure function of (task, seed, index), whatever is drawn beside it. Even
indices have label 0, odd ones label 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gonzo.lab.training import require

TEST_START = 2**40
"""Index of the first test picture; training pictures count from 0."""

_NOWHERE = 1e6  # where strokes are that are not placed yet: in nobody's way
_CANDIDATES = 8  # directions tried for each stroke
_PATIENCE = 20  # curves that did not fit before a picture starts over
_MOST_RESTARTS = 1000  # of a picture, before it is given up
_CHUNK = 2048  # pictures drawn together, for speed alone


@dataclass(frozen=True)
class Pathfinder:
    """The sizes of a picture, in pixels."""

    side: int = 32
    strokes: int = 4
    """Strokes in each of the two long curves."""
    stroke: float = 2.5
    gap: float = 1.5
    distractors: int = 2
    distractor_strokes: int = 2
    clearance: float = 4.0
    """Least distance of strokes that are not neighbours."""
    turn: float = 40.0
    """Largest angle between neighbouring strokes, in degrees."""
    width: float = 1.0
    radius: float = 1.5
    """Of the discs."""

    def __post_init__(self) -> None:
        require(self.strokes >= 2, f"strokes of at least 2, got {self.strokes}")
        require(self.distractors >= 0, f"distractors of at least 0, got {self.distractors}")
        require(
            1 <= self.distractor_strokes <= self.strokes,
            f"1 <= distractor_strokes <= strokes, got {self.distractor_strokes}",
        )
        require(self.stroke > 0, f"stroke above 0, got {self.stroke}")
        require(self.gap > 0, f"gap above 0, got {self.gap}")
        # Otherwise two strokes could cross with all ends further away than the clearance.
        require(self.stroke < 2 * self.clearance, f"stroke < 2 clearance, got {self.stroke}")
        require(0 <= self.turn <= 90, f"0 <= turn <= 90, got {self.turn}")
        require(self.width > 0, f"width above 0, got {self.width}")
        require(self.radius > self.width / 2, f"radius above width / 2, got {self.radius}")
        # Otherwise a disc could be as near to another curve as the next stroke of its own.
        require(
            self.clearance > self.gap + self.radius,
            f"clearance > gap + radius, got {self.clearance}",
        )
        require(
            self.high - self.low > self.stroke,
            f"a side with room for a stroke between two discs, got {self.side}",
        )

    @property
    def low(self) -> float:
        """Least coordinate of a stroke, so that a disc fits; pixel centres are integers."""
        return self.radius

    @property
    def high(self) -> float:
        """Largest coordinate of a stroke."""
        return self.side - 1 - self.radius


class Pictures(NamedTuple):
    """Pictures and the geometry they were drawn from; coordinates are (x, y), row y, column x."""

    pixels: np.ndarray
    """(n, side, side) uint8."""
    label: np.ndarray
    """(n,) int64: 1 where one curve joins the discs."""
    strokes: np.ndarray
    """(n, strokes in all, 2 ends, 2)."""
    curve: np.ndarray
    """(strokes in all,): the curve each belongs to, 0 and 1 the long ones."""
    discs: np.ndarray
    """(n, 2, 2): their centres."""


def draw(task: Pathfinder, seed: int, start: int, count: int) -> Pictures:
    """Draw pictures start … start + count - 1."""
    require(seed >= 0 and start >= 0, f"seed and start of at least 0, got {seed} and {start}")
    require(count >= 1, f"count of at least 1, got {count}")
    indices = np.arange(start, start + count)
    parts = [_draw(task, seed, chunk) for chunk in np.split(indices, range(_CHUNK, count, _CHUNK))]
    pixels, label, strokes, discs = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Pictures(pixels, label, strokes, _curve_of_strokes(task), discs)


def _draw(task: Pathfinder, seed: int, indices: np.ndarray) -> tuple[np.ndarray, ...]:
    label = indices % 2
    strokes, discs = _place(task, [_generator(seed, int(index)) for index in indices])
    discs = discs[np.arange(len(label)), label]
    return _render(task, strokes, discs), label, strokes, discs


def _generator(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64)))


def _curve_of_strokes(task: Pathfinder) -> np.ndarray:
    lengths = [task.strokes] * 2 + [task.distractor_strokes] * task.distractors
    return np.repeat(np.arange(len(lengths)), lengths)


def _place(
    task: Pathfinder, generators: list[np.random.Generator]
) -> tuple[np.ndarray, np.ndarray]:
    """Return strokes (n, strokes in all, 2, 2), and the discs of either label (n, 2, 2, 2).

    All pictures grow side by side. In each round every unfinished one tries to add its next curve.
    """
    curve = _curve_of_strokes(task)
    n = len(generators)
    strokes, discs = np.full((n, len(curve), 2, 2), _NOWHERE), np.zeros((n, 2, 2, 2))
    placed, failures, restarts = np.zeros(n, int), np.zeros(n, int), np.zeros(n, int)
    while len(todo := np.flatnonzero(placed < 2 + task.distractors)):
        uniform = np.stack([generators[i].random((2 + task.strokes, _CANDIDATES)) for i in todo])
        start = (uniform[:, :2] * (task.high - task.low) + task.low).swapaxes(1, 2)
        second = placed[todo] == 1
        start[second] = _around(discs[todo[second], 1], uniform[second, 0])
        length = np.where(placed[todo] < 2, task.strokes, task.distractor_strokes)
        new, fits = _grow(task, strokes[todo], length, start, uniform[:, 2:])
        for which in np.unique(placed[todo[fits]]):
            here = fits & (placed[todo] == which)
            slots = np.flatnonzero(curve == which)
            strokes[todo[here, None], slots] = new[here, : len(slots)]
            if which == 0:
                discs[todo[here], 1] = np.stack([new[here, 0, 0], new[here, -1, 1]], 1)
            if which == 1:
                discs[todo[here], 0] = np.stack([discs[todo[here], 1, 0], new[here, 0, 0]], 1)
        placed[todo[fits]] += 1
        failures[todo[~fits]] += 1
        restarts += failures > _PATIENCE
        if restarts.max() > _MOST_RESTARTS:
            raise ValueError(
                f"no room for the strokes of {task}: make side larger, or clearance, strokes or "
                "distractors smaller"
            )
        hopeless = failures > _PATIENCE
        strokes[hopeless], placed[hopeless], failures[hopeless] = _NOWHERE, 0, 0
    return strokes, discs


def _around(ends: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return points (n, candidates, 2) as far from the first of two ends as is the second."""
    first, second = ends[:, None, 0], ends[:, None, 1]
    radius = np.linalg.norm(second - first, axis=-1, keepdims=True)
    return first + radius * _direction(2 * math.pi * uniform)


def _grow(
    task: Pathfinder,
    placed: np.ndarray,
    length: np.ndarray,
    start: np.ndarray,
    uniform: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Grow a curve in each picture, stroke by stroke, each the first candidate that has room.

    Args:
        task: the sizes.
        placed: (n, strokes in all, 2, 2), what is there.
        length: (n,), how many strokes.
        start: (n, candidates, 2), where to begin.
        uniform: (n, strokes, candidates), how to turn.

    Returns:
        (n, strokes, 2, 2), of which the first `length` count, and whether these fit, (n,).
    """
    n = len(placed)
    largest = np.full(task.strokes, math.radians(task.turn))
    largest[0] = math.pi  # the first stroke may point anywhere
    turns = largest[:, None] * (2 * uniform - 1)
    angle, grown = np.zeros(n), np.full((n, task.strokes, 2, 2), _NOWHERE)
    fits = np.ones(n, bool)
    for k in range(task.strokes):
        at = np.flatnonzero(fits & (k < length))  # the curves that grow on
        bend, before = turns[at, k], angle[at, None]
        tip = grown[at, k - 1, None, 1] + task.gap * _direction(before + bend / 2)
        begin = tip if k else start[at]
        end = begin + task.stroke * _direction(before + bend)
        candidates = np.stack([begin, end], 2)  # (growing, candidates, 2, 2)
        others = np.concatenate([placed[at], grown[at, : max(0, k - 1)]], 1)
        inside = (candidates > task.low) & (candidates < task.high)
        free = np.asarray(inside.all((2, 3)))
        free &= (distance(candidates[:, :, None], others[:, None]) >= task.clearance).all(2)
        pick, rows = free.argmax(1), np.arange(len(at))
        fits[at] = free[rows, pick]
        grown[at, k] = candidates[rows, pick]
        angle[at] += bend[rows, pick]
    return grown, fits


def _direction(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distance of segments (…, 2 ends, 2) that do not cross."""
    ends = [
        _from_segment(point, segment)
        for one, segment in ((a, b), (b, a))
        for point in (one[..., 0, :], one[..., 1, :])
    ]
    return np.sqrt(np.minimum.reduce(ends))


def _from_segment(point: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Return the squared distance of points (…, 2) from segments (…, 2 ends, 2)."""
    x, y = segment[..., 0, 0], segment[..., 0, 1]
    dx, dy = segment[..., 1, 0] - x, segment[..., 1, 1] - y
    squared = np.maximum(dx * dx + dy * dy, 1e-12)
    px, py = point[..., 0] - x, point[..., 1] - y
    along = np.minimum(np.maximum((px * dx + py * dy) / squared, 0), 1)
    return (px - along * dx) ** 2 + (py - along * dy) ** 2


def _render(task: Pathfinder, strokes: np.ndarray, discs: np.ndarray) -> np.ndarray:
    """Draw with soft edges one pixel wide: white minus the distance from the mark."""
    n, pad = len(strokes), math.ceil(max(task.stroke, task.radius) + task.width) + 2
    canvas = np.zeros((n, task.side + 2 * pad, task.side + 2 * pad), np.float32)
    dots = np.repeat(discs[:, :, None], 2, 2)  # a disc is a thick stroke of length 0
    for marks, half in ((strokes, task.width / 2), (dots, task.radius)):
        reach = np.ptp(marks, axis=2).max() / 2 + half + 0.5
        window = np.arange(-math.ceil(reach), math.ceil(reach) + 1)
        centre = np.rint(marks.mean(2)).astype(int)
        x = centre[..., 0, None, None] + window
        y = centre[..., 1, None, None] + window[:, None]
        x, y = np.broadcast_arrays(x, y)
        square = _from_segment(np.stack([x, y], -1), marks[:, :, None, None])
        white = np.clip(0.5 + half - np.sqrt(square), 0, 1).astype(np.float32)
        picture = np.broadcast_to(np.arange(n)[:, None, None, None], x.shape)
        np.maximum.at(canvas, (picture, y + pad, x + pad), white)
    inside = slice(pad, pad + task.side)
    return np.rint(255 * canvas[:, inside, inside]).astype(np.uint8)
