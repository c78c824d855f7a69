"""From genes to evaluation order: which nodes matter, in which order, and the edges each one reads.

On the CPU a depth-first walk back from the outputs visits what they need, in an order in which
every node comes after what it reads; a walk that meets a node it has not left yet has found a
cycle. On other devices the same is a relaxation over all genomes at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .population import Population


class Order(NamedTuple):
    """What `population_forward` reads, for P genomes, cropped to the widest.

    Attributes:
        node_gene: (P, N) int64 column of the node at each position.
        edge_gene: (P, E) int64 column of the connection of each edge.
        source: (P, E) int32 slot that an edge reads: inputs first, then positions.
        first: (P, N + 1) int32 where each position's edges begin.
        nodes: (P,) int32 number of positions in use.
        outputs: (P, O) int32 position of each output.
        cyclic: (P,) bool, the genome has a cycle and the rest of its row means nothing.
    """

    node_gene: Tensor
    edge_gene: Tensor
    source: Tensor
    first: Tensor
    nodes: Tensor
    outputs: Tensor
    cyclic: Tensor


def evaluation_order(population: Population, *, acyclic: bool) -> Order:
    """Order the nodes of every genome.

    Args:
        population: P genomes.
        acyclic: True: only nodes that an output needs, each after the nodes it reads. False: all
            nodes as they stand, for networks that read the previous tick.
    """
    if population.device.type == "cpu":
        from . import order_cpu

        order = Order(*order_cpu.order(population, acyclic))
    else:
        order = _relax(population, acyclic)
    if not len(population):
        return order
    nodes = int(order.nodes.max())
    edges = int(order.first[:, -1].max())
    return order._replace(
        node_gene=order.node_gene[:, :nodes],
        edge_gene=order.edge_gene[:, :edges],
        source=order.source[:, :edges],
        first=order.first[:, : nodes + 1],
    )


def columns(population: Population) -> tuple[Tensor, Tensor]:
    """Slots of sources (P, C), inputs first and then node columns, and columns of targets (P, C).

    In padding they are without meaning but within range.
    """
    node_key = population.node_key.contiguous()
    last = node_key.shape[1] - 1
    source, target = (
        torch.searchsorted(node_key, key.contiguous()).clamp_(max=last)
        for key in (population.source, population.target)
    )
    is_input = population.source < 0
    return torch.where(is_input, -1 - population.source, source + population.inputs), target


def _relax(population: Population, acyclic: bool) -> Order:
    """The order by longest distance from the inputs, as tensors on any device."""
    size, width = population.node_key.shape
    device = population.device
    slot, target = columns(population)
    column = (slot - population.inputs).clamp(min=0)  # of the source, where it is a node
    live = population.connection_mask & population.enabled
    inner = live & (slot >= population.inputs)
    depth = torch.zeros(size, width, dtype=torch.int64, device=device)
    needed = population.node_mask
    cyclic = torch.zeros(size, dtype=torch.bool, device=device)
    if acyclic:
        needed = torch.zeros_like(population.node_mask)
        needed[:, : population.outputs] = True
        needed = _spread(needed, target, column, inner)
        live = live & needed.gather(1, target)
        inner = inner & live
        depth = _depth(depth, target, column, inner)
        cyclic = (depth >= width).any(1)
    # Nodes by depth, those that nobody needs last.
    node_gene = torch.where(needed, depth, width + 1).argsort(dim=1, stable=True)
    position = node_gene.argsort(dim=1)
    edge_position = torch.where(live, position.gather(1, target), width)
    edge_gene = edge_position.argsort(dim=1, stable=True)
    edges_at = edge_position.gather(1, edge_gene)
    ends = torch.arange(width + 1, device=device).expand(size, -1).contiguous()
    source = torch.where(inner, position.gather(1, column) + population.inputs, slot)
    source = torch.where(live, source, 0)
    return Order(
        node_gene,
        edge_gene,
        source.gather(1, edge_gene).int(),
        torch.searchsorted(edges_at, ends).int(),
        needed.sum(1).int(),
        position[:, : population.outputs].int(),
        cyclic,
    )


def has_cycle(population: Population) -> Tensor:
    """Whether the connections (P, C), enabled or not, have a cycle: (P,) bool."""
    slot, target = columns(population)
    inner = population.connection_mask & (slot >= population.inputs)
    depth = torch.zeros_like(population.node_key)
    column = (slot - population.inputs).clamp(min=0)
    return (_depth(depth, target, column, inner) >= depth.shape[1]).any(1)


def _depth(depth: Tensor, target: Tensor, source: Tensor, edges: Tensor) -> Tensor:
    """Longest distances (P, N) over `edges`; N or more on and behind a cycle."""
    for _ in range(depth.shape[1]):
        below = torch.where(edges, depth.gather(1, source) + 1, 0)
        deeper = depth.scatter_reduce(1, target, below, "amax")
        if torch.equal(deeper, depth):
            break
        depth = deeper
    return depth


def _spread(marked: Tensor, start: Tensor, end: Tensor, edges: Tensor) -> Tensor:
    """Mark every node column (P, N) that a marked one reaches over `edges` (P, C)."""
    for _ in range(marked.shape[1]):
        reached = (marked.gather(1, start) & edges).int()
        grown = marked.int().scatter_reduce(1, end, reached, "amax").bool()
        if torch.equal(grown, marked):
            break
        marked = grown
    return marked


def closes_cycle(population: Population, source: Tensor, target: Tensor) -> Tensor:
    """Whether a connection from node column `source` (P,) to `target` (P,) closes a cycle.

    A negative source is an input, which closes none. Disabled connections count: a mutation can
    enable them later.
    """
    if population.device.type == "cpu":
        from . import order_cpu

        return order_cpu.closes_cycle(population, source, target)
    slot, end = columns(population)
    inner = population.connection_mask & (slot >= population.inputs)
    reached = torch.zeros_like(population.node_mask).scatter_(1, target[:, None], True)
    start = (slot - population.inputs).clamp(min=0)
    reached = _spread(reached, start, end, inner)
    return reached.gather(1, source.clamp(min=0)[:, None])[:, 0] & (source >= 0)
