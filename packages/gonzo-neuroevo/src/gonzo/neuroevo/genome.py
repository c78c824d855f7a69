"""One genome as plain Python values: what files, pictures and generated code are made from.

A node computes ``activation(bias + response · aggregate(weight_i · value_i))`` over its enabled
connections. Inputs have the keys -1, -2, … and no gene; outputs have 0, 1, …; hidden nodes follow.
These are neat-python's keys.

Source:
    Stanley and Miikkulainen: Evolving Neural Networks through Augmenting Topologies (2002).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS

LARGEST_KEY = 2**62
"""Keys and innovation numbers stay below; the tensors' padding is above."""


class NodeGene(NamedTuple):
    """A hidden or output node.

    Attributes:
        key: 0 or more; below the number of outputs, it is an output.
        bias: added to the aggregate.
        response: multiplies the aggregate.
        activation: a name in `ACTIVATIONS`.
        aggregation: a name in `AGGREGATIONS`.
        time_constant: of a continuous-time network, in seconds; above 0.
    """

    key: int
    bias: float = 0.0
    response: float = 1.0
    activation: str = "sigmoid"
    aggregation: str = "sum"
    time_constant: float = 1.0


class ConnectionGene(NamedTuple):
    """A connection from an input or node to a node.

    Attributes:
        source: key of an input (negative) or node.
        target: key of a node.
        weight: of the connection.
        enabled: whether the network has it.
        innovation: historical marking; -1 where there is none.
    """

    source: int
    target: int
    weight: float
    enabled: bool = True
    innovation: int = -1


@dataclass(frozen=True)
class Genome:
    """A network's genes.

    Args:
        inputs: number of inputs.
        outputs: number of outputs.
        nodes: genes of all outputs and hidden nodes.
        connections: at most one for each (source, target).

    Raises:
        ValueError: a missing output, a key that comes twice, a connection that starts or ends
            nowhere, a number that is not finite, or a function that does not exist.
    """

    inputs: int
    outputs: int
    nodes: tuple[NodeGene, ...]
    connections: tuple[ConnectionGene, ...] = ()

    def __post_init__(self) -> None:
        if self.inputs < 0 or self.outputs < 1:
            raise ValueError(
                f"Genome: expected 0 or more inputs and 1 or more outputs, got {self.inputs} and "
                f"{self.outputs}"
            )
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "connections", tuple(self.connections))
        keys = [node.key for node in self.nodes]
        _once(keys, "node key")
        for node in self.nodes:
            _check_node(node)
        if missing := sorted(set(range(self.outputs)) - set(keys)):
            raise ValueError(f"Genome: no node gene for output {missing[0]}; outputs have keys 0 …")
        _once([(gene.source, gene.target) for gene in self.connections], "connection")
        _once([g.innovation for g in self.connections if g.innovation != -1], "innovation number")
        known = set(keys)
        for gene in self.connections:
            self._check_connection(gene, known)

    def _check_connection(self, gene: ConnectionGene, known: set[int]) -> None:
        name = f"connection {gene.source} → {gene.target}"
        if gene.target not in known:
            hint = "; nothing connects into an input" if gene.target < 0 else ""
            raise ValueError(f"Genome: {name} ends at a node that does not exist{hint}")
        if gene.source not in known and not -self.inputs <= gene.source < 0:
            raise ValueError(
                f"Genome: {name} starts at a node that does not exist; "
                f"inputs are -1 … -{self.inputs}"
            )
        if not math.isfinite(gene.weight):
            raise ValueError(f"Genome: {name} has the weight {gene.weight}, expected a number")
        if not -1 <= gene.innovation < LARGEST_KEY:
            raise ValueError(
                f"Genome: {name} has the innovation number {gene.innovation}, expected 0 … 2^62, "
                "or -1 for none"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Numbers of nodes and of enabled connections."""
        return len(self.nodes), sum(gene.enabled for gene in self.connections)


def _check_node(node: NodeGene) -> None:
    name = f"Genome: node {node.key}"
    if not 0 <= node.key < LARGEST_KEY:
        raise ValueError(f"{name} has no key in 0 … 2^62; inputs (negative keys) have no gene")
    for field in ("bias", "response", "time_constant"):
        if not math.isfinite(value := getattr(node, field)):
            raise ValueError(f"{name} has the {field} {value}, expected a number")
    if node.time_constant <= 0:
        raise ValueError(f"{name} has the time_constant {node.time_constant}, expected above 0")
    for field, names in (("activation", ACTIVATIONS), ("aggregation", AGGREGATIONS)):
        if (value := getattr(node, field)) not in names:
            raise ValueError(f"{name} has the {field} {value!r}, expected one of {list(names)}")


def _once(values: Iterable[object], what: str) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"Genome: the {what} {twice[0]} comes more than once")
