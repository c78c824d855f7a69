"""A genome as groups of nodes that are computed at once: what modules and ONNX graphs are made of.

All values of a network stand in one row: a constant 0, the inputs, then the nodes. A group's nodes
share their functions; ``sources`` (n, K) says where in the row each finds what it reads. Sums may
be padded, with the constant 0; other aggregations are not, since a padded maximum needs a mask:
their groups also share the number of connections.
"""

from __future__ import annotations

from typing import NamedTuple

from ..genome import ConnectionGene, Genome, NodeGene
from .order import incoming, layers

__all__ = ["Group", "Plan", "plan"]


class Group(NamedTuple):
    """Nodes of one layer with the same functions.

    Attributes:
        aggregation: a name.
        activation: a name.
        start: position of the first node among all nodes; the others follow.
        stop: position after the last.
        sources: (n, K) positions in the row of values.
        connections: (n, K) positions among the plan's connections; 0 where padded.
    """

    aggregation: str
    activation: str
    start: int
    stop: int
    sources: list[list[int]]
    connections: list[list[int]]


class Plan(NamedTuple):
    """Everything an output needs, in an order of computation.

    Attributes:
        inputs: number of inputs.
        layers: groups that may be computed together; a feed-forward network has as many as its
            longest path has nodes, others have one.
        nodes: genes, group after group.
        connections: enabled genes between needed nodes.
        outputs: positions of the outputs among the nodes.
    """

    inputs: int
    layers: list[list[Group]]
    nodes: list[NodeGene]
    connections: list[ConnectionGene]
    outputs: list[int]


def plan(genome: Genome, kind: str, what: str) -> Plan:
    """Group the nodes that the outputs need.

    Raises:
        ValueError: a feed-forward network was asked of a genome with a cycle.
    """
    links = incoming(genome)
    if kind == "feed-forward":
        levels = layers(genome, what)
    else:
        levels = [sorted(node for node in genome.nodes if node.key in links)]
    nodes: list[NodeGene] = []
    bounds: list[list[tuple[int, int]]] = []
    for level in levels:
        alike: dict[tuple[str, str, int], list[NodeGene]] = {}
        for node in level:
            count = 0 if node.aggregation == "sum" else len(links[node.key])
            alike.setdefault((node.aggregation, node.activation, count), []).append(node)
        bounds.append([])
        for members in alike.values():
            bounds[-1].append((len(nodes), len(nodes) + len(members)))
            nodes += members
    row = {-key: key for key in range(1, genome.inputs + 1)}
    row |= {node.key: 1 + genome.inputs + place for place, node in enumerate(nodes)}
    connections = [gene for node in nodes for gene in links[node.key]]
    place = {(gene.source, gene.target): i for i, gene in enumerate(connections)}

    def group(start: int, stop: int) -> Group:
        members = nodes[start:stop]
        width = max(len(links[node.key]) for node in members)
        sources, used = [], []
        for node in members:
            mine = links[node.key]
            padding = [0] * (width - len(mine))
            sources.append([row[gene.source] for gene in mine] + padding)
            used.append([place[gene.source, gene.target] for gene in mine] + padding)
        return Group(members[0].aggregation, members[0].activation, start, stop, sources, used)

    position = {node.key: i for i, node in enumerate(nodes)}
    return Plan(
        genome.inputs,
        [[group(start, stop) for start, stop in level] for level in bounds],
        nodes,
        connections,
        [position[key] for key in range(genome.outputs)],
    )
