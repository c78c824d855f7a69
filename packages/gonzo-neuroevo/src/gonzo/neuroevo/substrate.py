"""Where a substrate's nodes lie, in any number of dimensions, and which of them may be connected.

HyperNEAT's genome says how strongly two nodes are connected by where they are; a substrate says
where they are. Its nodes have the keys of a genome: inputs -1, -2, …, outputs 0, 1, …, hidden nodes
after them, layer by layer.

Source:
    Stanley, D'Ambrosio and Gauci: A Hypercube-Based Encoding for Evolving Large-Scale Neural
    Networks (2009).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Points", "Substrate", "circle", "grid"]

Points = tuple[tuple[float, ...], ...]
"""Coordinates of n nodes in d dimensions."""


def grid(*sizes: int, at: Sequence[float] = ()) -> Points:
    """Points of a grid over [-1, 1] in every dimension, the last running fastest.

    Args:
        sizes: number of points along each dimension; a single point is at 0.
        at: further coordinates, the same for all points: which sheet they are on, say.

    Raises:
        ValueError: no sizes, or one below 1.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError(f"grid: expected one or more sizes of at least 1, got {sizes}")
    axes = [[-1 + 2 * i / (n - 1) if n > 1 else 0.0 for i in range(n)] for n in sizes]
    return tuple((*point, *map(float, at)) for point in itertools.product(*axes))


def circle(count: int, *, radius: float = 1.0, at: Sequence[float] = ()) -> Points:
    """Points on a circle about the origin, from (radius, 0) anticlockwise.

    Raises:
        ValueError: fewer than one point, or a radius not above 0.
    """
    if count < 1 or not radius > 0:
        raise ValueError(
            f"circle: expected at least one point and a radius above 0, got {count} and {radius}"
        )
    turns = (2 * math.pi * i / count for i in range(count))
    return tuple((radius * math.cos(a), radius * math.sin(a), *map(float, at)) for a in turns)


@dataclass(frozen=True)
class Substrate:
    """Nodes in space.

    Without `recurrent`, every layer is connected to the next: inputs, hidden layers, outputs. With
    it, the inputs are connected to all hidden nodes, those to each other and to themselves, and to
    the outputs.

    Args:
        inputs: where the inputs are.
        outputs: where the outputs are.
        hidden: where the nodes of each hidden layer are; none is fine.
        recurrent: see above.
        skip: whether the inputs are also connected to the outputs. Without hidden nodes they are.

    Raises:
        ValueError: no inputs or outputs, an empty layer, coordinates of several dimensions or not
            finite, or a recurrent substrate without hidden nodes.
    """

    inputs: Points
    outputs: Points
    hidden: tuple[Points, ...] = ()
    recurrent: bool = False
    skip: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", _points(self.inputs))
        object.__setattr__(self, "outputs", _points(self.outputs))
        object.__setattr__(self, "hidden", tuple(_points(layer) for layer in self.hidden))
        if not self.inputs or not self.outputs or not all(self.hidden):
            raise ValueError(
                "Substrate: expected at least one input, one output, and one node in every hidden "
                f"layer, got {len(self.inputs)}, {len(self.outputs)} and "
                f"{[len(layer) for layer in self.hidden]}"
            )
        points = list(itertools.chain(self.inputs, self.outputs, *self.hidden))
        if len(found := {len(point) for point in points}) > 1:
            raise ValueError(
                f"Substrate: expected points of one dimension, got {sorted(found)}; "
                "grid(…, at=(z,)) gives a layer further coordinates"
            )
        if not all(math.isfinite(value) for point in points for value in point):
            raise ValueError("Substrate: expected finite coordinates")
        if self.recurrent and not self.hidden:
            raise ValueError("Substrate: a recurrent substrate needs hidden nodes, got none")

    @classmethod
    def layered(cls, sizes: Sequence[int], *, skip: bool = False) -> Substrate:
        """Lay a multilayer perceptron out in the plane: x spaces a layer's nodes, y the layers.

        Both run over [-1, 1]; a layer of one node is at x = 0.

        Args:
            sizes: number of inputs, of nodes of each hidden layer, and of outputs.
            skip: see `Substrate`.
        """
        if len(sizes) < 2:
            raise ValueError(f"Substrate.layered: expected two or more sizes, got {list(sizes)}")
        heights = [-1 + 2 * i / (len(sizes) - 1) for i in range(len(sizes))]
        first, *middle, last = (grid(size, at=(y,)) for size, y in zip(sizes, heights, strict=True))
        return cls(first, last, tuple(middle), skip=skip)

    @property
    def dimensions(self) -> int:
        """Number of coordinates of a node."""
        return len(self.inputs[0])

    @property
    def kind(self) -> str:
        """How its networks are evaluated: see `gonzo.neuroevo.phenotypes`."""
        return "recurrent" if self.recurrent else "feed-forward"

    @property
    def nodes(self) -> Points:
        """Where the nodes with the keys 0, 1, … are: outputs, then hidden."""
        return (*self.outputs, *itertools.chain(*self.hidden))

    def edges(self) -> Tensor:
        """Keys (2, E) int64 of the sources and targets that may be connected."""
        parts = [
            torch.cartesian_prod(torch.tensor(sources), torch.tensor(targets)).reshape(-1, 2)
            for sources, targets in self._blocks()
        ]
        return torch.cat(parts).T.contiguous()

    def coordinates(self, keys: Tensor) -> Tensor:
        """Where the nodes with some keys (n,) are: (n, d) float64."""
        table = torch.tensor((*self.nodes, *reversed(self.inputs)), dtype=torch.float64)
        return table[keys]  # -1, the first input, is the last row

    def _blocks(self) -> Iterator[tuple[range, range]]:
        """Keys of the layers that are connected: all of one to all of the other."""
        inputs, outputs = range(-1, -1 - len(self.inputs), -1), range(len(self.outputs))
        hidden = range(len(outputs), len(self.nodes))
        if self.recurrent:
            yield from ((inputs, hidden), (hidden, hidden), (hidden, outputs))
        else:
            ends = itertools.accumulate(map(len, self.hidden), initial=len(outputs))
            layers = [range(*pair) for pair in itertools.pairwise(ends)]
            yield from itertools.pairwise([inputs, *layers, outputs])
        if self.skip and self.hidden:
            yield inputs, outputs


def _points(points: Sequence[Sequence[float]] | Tensor) -> Points:
    if isinstance(points, Tensor):
        points = points.tolist()
    return tuple(tuple(float(value) for value in point) for point in points)
