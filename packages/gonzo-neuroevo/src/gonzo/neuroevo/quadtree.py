"""Finds where in the plane a function carries information: quadtrees divide where it varies.

A tree starts as the square [-1, 1]² and divides a square into four while the function's values at
the quarters' centres vary. Then, from the root down, a quarter below which the values vary too
little stands for all of it; it is kept if it lies in a band: if in one direction its value
differs from those on both sides.

Many trees, each with a function of its own, grow at once, level by level.

Source:
    Risi and Stanley: An Enhanced Hypercube-Based Encoding for Evolving the Placement, Density, and
    Connectivity of Neurons (2012), algorithms 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Quadtree", "Spots"]

_CHILDREN = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
_BESIDE = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])


class Spots(NamedTuple):
    """What trees found, tree by tree where the trees are.

    Attributes:
        tree: (n,) int64 number of the tree.
        at: (n, 2) float64 place.
        value: (n,) float64 of the tree's function there.
    """

    tree: NDArray[np.int64]
    at: NDArray[np.float64]
    value: NDArray[np.float64]


@dataclass(frozen=True)
class Quadtree:
    """When to divide and what to keep.

    Attributes:
        initial_depth: how often the whole square is divided in any case; 3 gives 8 × 8 quarters.
        max_depth: how often any square is divided at most.
        division: variance of the four quarters above which they are divided again.
        variance: variance of all values below a quarter from which its parts are looked at.
        band: how much a value must differ from both neighbours in one direction.

    Raises:
        ValueError: depths not 1 <= initial_depth <= max_depth <= 12, or a threshold below 0.
    """

    initial_depth: int = 3
    max_depth: int = 3
    division: float = 0.03
    variance: float = 0.03
    band: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.initial_depth <= self.max_depth <= 12:
            raise ValueError(
                "Quadtree: expected depths 1 <= initial_depth <= max_depth <= 12, got "
                f"{self.initial_depth} and {self.max_depth}"
            )
        for name in ("division", "variance", "band"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"Quadtree: expected {name} of at least 0, got {getattr(self, name)}"
                )

    def find(
        self,
        function: Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64]],
        trees: int,
    ) -> Spots:
        """Grow the trees and extract what they keep.

        Cost: up to 4/3 · 4^max_depth values a tree, in as many calls as the depth, and one call for
        the neighbours of all candidates.

        Args:
            function: (tree (n,), places (n, 2)) → values (n,); asked outside of [-1, 1]² too.
            trees: how many.

        Returns:
            What they keep, sorted by tree.
        """
        levels = self._divide(function, trees)
        tree, at, value, beside = self._candidates(levels)
        around = at[:, None] + beside[:, None, None] * _BESIDE
        neighbours = function(tree.repeat(4), around.reshape(-1, 2)).reshape(-1, 4)
        difference = np.abs(value[:, None] - neighbours)
        left, right, top, bottom = difference.T
        kept = np.maximum(np.minimum(top, bottom), np.minimum(left, right)) > self.band
        order = np.argsort(tree[kept], kind="stable")
        return Spots(tree[kept][order], at[kept][order], value[kept][order])

    def _divide(self, function: Callable[..., NDArray[np.float64]], trees: int) -> list[_Level]:
        levels: list[_Level] = []
        tree, at, width = np.arange(trees), np.zeros((trees, 2)), 1.0
        for depth in range(1, self.max_depth + 1):
            quarters = at[:, None] + width / 2 * _CHILDREN  # (n, 4, 2)
            values = function(tree.repeat(4), quarters.reshape(-1, 2)).reshape(-1, 4)
            varied = _variance(np.ones_like(values), values, values * values)
            if depth < self.initial_depth:
                divided = np.ones(len(tree), bool)
            else:
                divided = (varied > self.division) & (depth < self.max_depth)
            levels.append(_Level(tree, quarters, values, width, divided))
            tree, at = tree[divided].repeat(4), quarters[divided].reshape(-1, 2)
            width /= 2
            if not len(tree):
                break
        return levels

    def _candidates(self, levels: list[_Level]) -> tuple[NDArray, ...]:
        """Tree, place and value of the quarters that stand for themselves, and their width."""
        spread = _spreads(levels)
        active = np.ones(len(levels[0].tree), bool)
        found = []
        for level, below in zip(levels, spread, strict=True):
            deeper = (below >= self.variance) & level.divided[:, None]
            kept = active[:, None] & ~deeper
            found.append(
                (
                    np.broadcast_to(level.tree[:, None], kept.shape)[kept],
                    level.quarters[kept],
                    level.values[kept],
                    np.full(kept.sum(), level.width),
                )
            )
            active = (active[:, None] & deeper)[level.divided].reshape(-1)
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


class _Level(NamedTuple):
    """The squares of one size: each has four quarters, which are the next level if `divided`."""

    tree: NDArray  # (n,)
    quarters: NDArray  # (n, 4, 2) centres
    values: NDArray  # (n, 4)
    width: float  # half of a square's side; a quarter's side
    divided: NDArray  # (n,)


def _spreads(levels: list[_Level]) -> list[NDArray]:
    """Variance (n, 4) of all undivided quarters' values below each quarter, level by level."""
    out = []
    sums = np.zeros((3, 0))  # numbers, sums and sums of squares of the level below
    for level in reversed(levels):
        below = np.stack([np.ones_like(level.values), level.values, level.values**2])
        below[:, level.divided] = sums.reshape(3, -1, 4)
        count, total, squares = below
        out.append(np.maximum(squares / count - (total / count) ** 2, 0))
        sums = _four(below)
    return out[::-1]


def _variance(count: NDArray, total: NDArray, squares: NDArray) -> NDArray:
    """Variance of the values in four quarters, (n, 4) → (n,)."""
    n = _four(count)
    return np.maximum(_four(squares) / n - (_four(total) / n) ** 2, 0)


def _four(values: NDArray) -> NDArray:
    """Sum over the last dimension of four, in this order whatever the other dimensions."""
    return values[..., 0] + values[..., 1] + values[..., 2] + values[..., 3]
