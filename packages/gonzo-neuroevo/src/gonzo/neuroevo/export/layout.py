"""Where nodes and connections of a genome go in a picture: layers from left to right.

Longest-path layers, bends for connections that pass layers, barycentre sweeps against crossings,
then heights nearest to the neighbours' that keep their distance.

Source:
    Sugiyama, Tagawa and Toda: Methods for Visual Understanding of Hierarchical System Structures
    (1981), whose steps these are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from ..genome import ConnectionGene, Genome

__all__ = ["Layout", "place"]

_SWEEPS = 12
_GAP = 44.0
_BEND_GAP = 22.0

Spot = int | tuple[int, int, int]
"""A key, or the bend (source, target, layer) of a connection."""


@dataclass(frozen=True)
class Layout:
    """Positions.

    Attributes:
        layers: keys from left to right; inputs are the first layer, outputs the last.
        height: of the middle of each node, by key; the smallest is 0.
        bends: heights at which a connection passes the layers between its ends, by its ends; a
            connection that does not lead to a later layer has no entry.
    """

    layers: list[list[int]]
    height: dict[int, float]
    bends: dict[tuple[int, int], list[float]]


def place(genome: Genome) -> Layout:
    """Lay a genome out."""
    rank = _ranks(genome)
    ahead = [g for g in genome.connections if rank[g.source] < rank[g.target]]
    layers: list[list[Spot]] = [[] for _ in range(rank[0] + 1)]
    for key in sorted(rank, key=abs):
        layers[rank[key]].append(key)
    neighbours: dict[Spot, list[Spot]] = {key: [] for key in rank}
    for gene in ahead:
        chain = _chain(gene, rank)
        for bend in chain[1:-1]:
            layers[rank[gene.source] + chain.index(bend)].append(bend)
            neighbours[bend] = []
        for left, right in pairwise(chain):
            neighbours[left].append(right)
            neighbours[right].append(left)
    height = _heights(layers, neighbours)
    return Layout(
        [[spot for spot in layer if isinstance(spot, int)] for layer in layers],
        {spot: y for spot, y in height.items() if isinstance(spot, int)},
        {(g.source, g.target): [height[spot] for spot in _chain(g, rank)[1:-1]] for g in ahead},
    )


def _ranks(genome: Genome) -> dict[int, int]:
    """Layer of every key: the longest path to it, without the connections that close a cycle."""
    hidden = {node.key for node in genome.nodes if node.key >= genome.outputs}
    readers: dict[int, list[int]] = {key: [] for key in hidden}
    fed = set()
    for gene in genome.connections:
        if gene.enabled and gene.target in hidden:
            if gene.source in hidden:
                readers[gene.source].append(gene.target)
            elif gene.source < 0:
                fed.add(gene.target)
    done: list[int] = []  # a node comes after all it leads to, but for what closes a cycle
    state = dict.fromkeys(hidden, "new")
    for start in sorted(hidden, key=lambda key: (key not in fed, key)):
        stack = [(start, iter(sorted(readers[start])))] if state[start] == "new" else []
        if stack:
            state[start] = "open"
        while stack:
            key, following = stack[-1]
            step = next((k for k in following if state[k] == "new"), None)
            if step is None:
                state[key] = "done"
                done.append(key)
                stack.pop()
            else:
                state[step] = "open"
                stack.append((step, iter(sorted(readers[step]))))
    position = {key: -i for i, key in enumerate(done)}
    rank = dict.fromkeys(hidden, 1)
    for key in reversed(done):
        for reader in readers[key]:
            if position[key] < position[reader]:
                rank[reader] = max(rank[reader], rank[key] + 1)
    last = max(rank.values(), default=0) + 1
    inputs = {-i: 0 for i in range(1, genome.inputs + 1)}
    return inputs | rank | dict.fromkeys(range(genome.outputs), last)


def _chain(gene: ConnectionGene, rank: dict[int, int]) -> list[Spot]:
    between = range(rank[gene.source] + 1, rank[gene.target])
    return [gene.source, *((gene.source, gene.target, layer) for layer in between), gene.target]


def _heights(layers: list[list[Spot]], neighbours: dict[Spot, list[Spot]]) -> dict[Spot, float]:
    height: dict[Spot, float] = {}
    for layer in layers:
        height |= dict(zip(layer, _spread(layer, [0.0] * len(layer)), strict=True))

    def mean(side: set[Spot] | None) -> Callable[[Spot], float]:
        def of(spot: Spot) -> float:
            near = [height[n] for n in neighbours[spot] if side is None or n in side]
            return sum(near) / len(near) if near else height[spot]

        return of

    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        inner = range(1, len(layers) - 1) if forward else range(len(layers) - 2, 0, -1)
        for i in inner:  # inputs and outputs keep their order, which people know
            layers[i].sort(key=mean(set(layers[i - 1 if forward else i + 1])))
            height |= dict(zip(layers[i], _spread(layers[i], [0.0] * len(layers[i])), strict=True))
    for _ in range(_SWEEPS):
        for layer in layers:
            wanted = [mean(None)(spot) for spot in layer]
            height |= dict(zip(layer, _spread(layer, wanted), strict=True))
    top = min((y for spot, y in height.items() if isinstance(spot, int)), default=0.0)
    return {spot: y - top for spot, y in height.items()}


def _spread(layer: list[Spot], wanted: list[float]) -> list[float]:
    """Heights nearest to the wanted ones, in least squares, that keep order and distance."""
    offsets = [0.0]
    for above, below in pairwise(layer):
        near = isinstance(above, int) and isinstance(below, int)
        offsets.append(offsets[-1] + (_GAP if near else _BEND_GAP))
    if not any(wanted) and layer:
        return [offset - offsets[-1] / 2 for offset in offsets]
    blocks: list[tuple[float, int]] = []  # mean and size of spots that touch
    for want, offset in zip(wanted, offsets, strict=False):
        mean, size = want - offset, 1
        while blocks and blocks[-1][0] >= mean:
            other, count = blocks.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        blocks.append((mean, size))
    flat = [mean for mean, size in blocks for _ in range(size)]
    return [mean + offset for mean, offset in zip(flat, offsets, strict=False)]
