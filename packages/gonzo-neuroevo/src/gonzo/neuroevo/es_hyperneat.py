"""ES-HyperNEAT: the CPPN also decides where hidden nodes are, and how many.

From every input, and then from the hidden nodes found so, quadtrees look for places to which the
CPPN's weights carry information: those are hidden nodes. Trees to every output say which of them
reach it. What lies on no path from an input to an output is dropped.

The networks are a `Population` like any other; a place has the same key in all genomes.

Source:
    Risi and Stanley: An Enhanced Hypercube-Based Encoding for Evolving the Placement, Density, and
    Connectivity of Neurons (2012), algorithm 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS

from .cppn import connection_inputs
from .encoding import Encoding
from .phenotypes import Networks, networks
from .population import PAD, Population
from .quadtree import Quadtree
from .substrate import Points

__all__ = ["ESHyperNEAT"]

_POINTS = 2**20  # asked of the CPPNs in one call, about


@dataclass(frozen=True)
class ESHyperNEAT(Encoding):
    """Turns a population of CPPNs into networks whose hidden nodes they place.

    ``ESHyperNEAT(grid(3, at=(-1,)), grid(1, at=(1,))).neat(seed=0)`` is a run of NEAT over such
    CPPNs, for problems of 3 inputs and 1 output.

    Cost: (inputs + hidden nodes found + outputs) trees a genome, see `Quadtree.find`; the CPPNs of
    all genomes are asked together. What is found is put together on the CPU.

    Deviation: without `recurrent`, connections between hidden nodes run from what was found earlier
    to what was found later alone, so that there is no cycle; the paper has no such rule.

    Args:
        inputs_at: where the inputs are, in the plane.
        outputs_at: where the outputs are.
        quadtree: where to divide and what to keep.
        iterations: how often hidden nodes that were found look for others.
        max_weight: a weight is this times the CPPN's first output, clamped to [-1, 1].
        recurrent: whether networks are recurrent.
        leo: whether a connection is only there where the CPPN's second output is above 0.
        bias: whether nodes have a bias, from one more output of the CPPN: what it is for a
            connection from the origin to the node, times `max_weight`. Without it biases are 0.
        distance: whether the CPPN sees the distance between the nodes.
        activation: of hidden nodes.
        output_activation: of outputs; "" for the same.
        ticks: how many ticks a recurrent network sees an input, where there are no time steps.

    Raises:
        ValueError: no inputs or outputs, places that are not in the plane, a weight not above 0,
            iterations below 0, an unknown activation, or no ticks.
    """

    inputs_at: Points
    outputs_at: Points
    quadtree: Quadtree = field(default_factory=Quadtree)
    iterations: int = 1
    max_weight: float = 3.0
    recurrent: bool = False
    leo: bool = False
    bias: bool = False
    distance: bool = False
    activation: str = "neat_sigmoid"
    output_activation: str = ""
    ticks: int = 10

    def __post_init__(self) -> None:
        for name in ("inputs_at", "outputs_at"):
            points = tuple(tuple(map(float, point)) for point in getattr(self, name))
            object.__setattr__(self, name, points)
            if not points or {len(point) for point in points} != {2}:
                raise ValueError(
                    f"ESHyperNEAT: expected {name} as one or more points (x, y), got {points!r:.80}"
                )
        if not 0 < self.max_weight < math.inf:
            raise ValueError(f"ESHyperNEAT: expected a max_weight above 0, got {self.max_weight}")
        if self.iterations < 0 or self.ticks < 1:
            raise ValueError(
                "ESHyperNEAT: expected iterations of at least 0 and ticks of at least 1, got "
                f"{self.iterations} and {self.ticks}"
            )
        for name in (self.activation, self.output_activation or self.activation):
            if name not in ACTIVATIONS:
                raise ValueError(
                    f"ESHyperNEAT: there is no activation {name!r}; expected one of {ACTIVATIONS}"
                )

    @property
    def inputs(self) -> int:
        """Number of inputs of the networks."""
        return len(self.inputs_at)

    @property
    def outputs(self) -> int:
        """Number of outputs of the networks."""
        return len(self.outputs_at)

    @property
    def cppn_inputs(self) -> int:
        """Number of inputs of the genomes: two places, their distance if asked, 1."""
        return 5 + self.distance

    @property
    def cppn_outputs(self) -> int:
        """Number of outputs of the genomes: weight, expression with LEO, bias if asked."""
        return 1 + self.leo + self.bias

    def __call__(self, population: Population) -> Networks:
        """The networks of P CPPNs."""
        kind = "recurrent" if self.recurrent else "feed-forward"
        return networks(self.substrates(population), kind, ticks=self.ticks)

    def coordinates(self, keys: Tensor) -> Tensor:
        """Where the nodes with some keys (n,) of any network are: (n, 2) float64."""
        return torch.from_numpy(self._places(keys.cpu().numpy()))

    def substrates(self, population: Population) -> Population:
        """The networks of P CPPNs as genomes.

        Raises:
            ValueError: CPPNs of other numbers of inputs or outputs.
        """
        expected = (self.cppn_inputs, self.cppn_outputs)
        if (population.inputs, population.outputs) != expected:
            raise ValueError(
                f"ESHyperNEAT: expected CPPNs with {expected[0]} inputs and {expected[1]} outputs, "
                f"got {population.inputs} and {population.outputs}"
            )
        cppns = networks(population)
        edges = self._connected(self._discover(cppns))
        return self._population(population, cppns, edges)

    def _discover(self, cppns: Networks) -> _Edges:
        """All connections of the trees, in the paper's order."""
        size = len(cppns)
        inputs = -1 - np.arange(self.inputs)
        first = self._grow(cppns, np.arange(size).repeat(self.inputs), np.tile(inputs, size), True)
        found = [first]
        known = np.empty((2, 0), np.int64)  # genomes and keys
        new = _distinct(first.genome, first.target)
        for _ in range(self.iterations):
            outward = self._grow(cppns, *new, True)
            known = np.concatenate([known, new], 1)
            fresh = ~_among(outward.genome, outward.target, known)
            found.append(outward if self.recurrent else outward.where(fresh))
            new = _distinct(outward.genome[fresh], outward.target[fresh])
        known = np.concatenate([known, new], 1)
        outputs = np.arange(self.outputs)
        inward = self._grow(
            cppns, np.arange(size).repeat(self.outputs), np.tile(outputs, size), False
        )
        found.append(inward.where(_among(inward.genome, inward.source, known)))
        edges = _Edges(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
        if self.leo:
            expressed = self._ask(
                cppns, edges.genome, self._places(edges.source), self._places(edges.target), 1
            )
            edges = edges.where(expressed > 0)
        return edges

    def _grow(self, cppns: Networks, genome: NDArray, key: NDArray, outward: bool) -> _Edges:
        """Connections that trees find from (or to) nodes."""
        piece = max(1, _POINTS // 4**self.quadtree.max_depth)
        found = []
        for start in range(0, len(genome), piece):
            some_genome, some_key = genome[start : start + piece], key[start : start + piece]
            asked = self._asker(cppns, some_genome, self._places(some_key), outward)
            spots = self.quadtree.find(asked, len(some_genome))
            ends = (some_key[spots.tree], self._keys(spots.at))
            source, target = ends if outward else ends[::-1]
            found.append(_Edges(some_genome[spots.tree], source, target, spots.value))
        if not found:
            return _Edges(genome, key, key, np.empty(0))
        return _Edges(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _asker(
        self, cppns: Networks, genome: NDArray, place: NDArray, outward: bool
    ) -> Callable[[NDArray, NDArray], NDArray]:
        def ask(tree: NDArray, at: NDArray) -> NDArray:
            ends = (place[tree], at) if outward else (at, place[tree])
            return self._ask(cppns, genome[tree], *ends, 0)

        return ask

    def _ask(
        self, cppns: Networks, genome: NDArray, source: NDArray, target: NDArray, output: int
    ) -> NDArray[np.float64]:
        """One output, clamped to [-1, 1], of each genome's CPPN between places: (n,)."""
        if not len(genome):
            return np.empty(0)
        asked = np.bincount(genome, minlength=len(cppns)) > 0
        row = (np.cumsum(asked) - 1)[genome]
        if not asked.all():
            cppns = cppns.select(torch.from_numpy(asked))
        order = np.argsort(row, kind="stable")
        inputs = connection_inputs(
            torch.from_numpy(source[order]), torch.from_numpy(target[order]), distance=self.distance
        )
        table = _Table(row[order], len(cppns))
        values = np.empty(len(genome))
        with torch.no_grad():
            answers = cppns(table.of(inputs.to(cppns.bias)))[..., output]
        values[order] = table.entries(answers.double().clamp(-1, 1).cpu()).numpy()
        return values

    def _connected(self, edges: _Edges) -> _Edges:
        """The connections on a path from an input to an output."""
        edges = edges.where(_reached(edges.genome, edges.source, edges.target, edges.source < 0))
        ends = edges.target < self.outputs
        return edges.where(_reached(edges.genome, edges.target, edges.source, ends))

    def _population(self, cppn: Population, cppns: Networks, edges: _Edges) -> Population:
        size, like = len(cppn), cppn.bias
        genome, key = _distinct(
            np.concatenate([np.arange(size).repeat(self.outputs), edges.genome, edges.genome]),
            np.concatenate([np.tile(np.arange(self.outputs), size), edges.source, edges.target]),
        )
        genome, key = genome[key >= 0], key[key >= 0]
        bias = np.zeros(len(key))
        if self.bias:
            place = self._places(key)
            bias = self._ask(cppns, genome, np.zeros_like(place), place, 1 + self.leo)
        node = _Table(genome, size)
        most = self.outputs + (2 ** (self.quadtree.max_depth + 1) + 1) ** 2  # above every key
        number = (edges.source + self.inputs) * most + edges.target
        order = np.lexsort((number, edges.genome))
        edges, number = edges.where(order), number[order]
        edge = _Table(edges.genome, size)
        function = np.full(len(key), ACTIVATIONS.index(self.activation), np.int32)
        function[key < self.outputs] = ACTIVATIONS.index(self.output_activation or self.activation)
        here, there = (np.ones(len(each), bool) for each in (key, number))
        substrates = Population(
            self.inputs,
            self.outputs,
            node_key=node.of(key, PAD),
            node_mask=node.of(here),
            bias=node.of(bias * self.max_weight).to(like),
            response=node.of(here).to(like),
            time_constant=node.of(here).to(like),
            activation=node.of(function),
            aggregation=node.of(np.full(len(key), AGGREGATIONS.index("sum"), np.int32)),
            innovation=edge.of(number, PAD),
            source=edge.of(edges.source, PAD),
            target=edge.of(edges.target, PAD),
            connection_mask=edge.of(there),
            enabled=edge.of(there),
            weight=edge.of(edges.value * self.max_weight).to(like),
        )
        return substrates.to(like.device)

    def _keys(self, at: NDArray) -> NDArray[np.int64]:
        """Keys of hidden nodes: the place in the finest grid, whose lines hold all centres."""
        steps = 2**self.quadtree.max_depth
        x, y = np.rint((at + 1) * steps).astype(np.int64).T
        return self.outputs + x * (2 * steps + 1) + y

    def _places(self, key: NDArray) -> NDArray[np.float64]:
        steps = 2**self.quadtree.max_depth
        ends = np.array((*self.outputs_at, *reversed(self.inputs_at)))  # -1 is the first input
        hidden = np.stack(np.divmod(key - self.outputs, 2 * steps + 1), 1) / steps - 1
        place = ends[np.where(key < self.outputs, key, 0)]
        return np.where((key < self.outputs)[:, None], place, hidden)


class _Edges(NamedTuple):
    genome: NDArray[np.int64]  # (n,)
    source: NDArray[np.int64]  # keys
    target: NDArray[np.int64]
    value: NDArray[np.float64]

    def where(self, kept: NDArray) -> _Edges:
        return _Edges(*(column[kept] for column in self))


class _Table:
    """Places lists that are sorted by row, and of different lengths, into the rows of a table."""

    def __init__(self, row: NDArray[np.int64], size: int) -> None:
        counts = np.bincount(row, minlength=size)
        self._row = torch.from_numpy(row)
        self._column = torch.from_numpy(np.arange(len(row)) - (np.cumsum(counts) - counts)[row])
        self._shape = (size, int(counts.max(initial=0)))

    def of(self, values: NDArray | Tensor, fill: int = 0) -> Tensor:
        """Entries (n, …) in a table (rows, columns, …)."""
        values = torch.as_tensor(values)
        out = values.new_full((*self._shape, *values.shape[1:]), fill)
        out[self._row, self._column] = values
        return out

    def entries(self, table: Tensor) -> Tensor:
        """The inverse of `of`."""
        return table[self._row, self._column]


def _reached(genome: NDArray, start: NDArray, end: NDArray, first: NDArray) -> NDArray[np.bool_]:
    """Connections that follow from the first ones: each starts where another of them ends."""
    while True:
        more = first | _among(genome, start, np.stack([genome[first], end[first]]))
        if (more == first).all():
            return first
        first = more


_KEYS, _INPUTS = 1 << 41, 1 << 20  # above any key, and the number of any input


def _code(genome: NDArray, key: NDArray) -> NDArray[np.int64]:
    return genome * _KEYS + (key + _INPUTS)


def _distinct(genome: NDArray, key: NDArray) -> NDArray[np.int64]:
    """Different pairs (2, n), sorted."""
    genome, key = np.divmod(np.unique(_code(genome, key)), _KEYS)
    return np.stack([genome, key - _INPUTS])


def _among(genome: NDArray, key: NDArray, pairs: NDArray) -> NDArray[np.bool_]:
    """Which (genome, key) are among `pairs` (2, n)."""
    return np.isin(_code(genome, key), _code(*pairs))
