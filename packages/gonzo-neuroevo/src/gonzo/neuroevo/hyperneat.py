"""HyperNEAT: a CPPN that is asked at pairs of nodes for the weight of their connection.

With q the CPPN's first output at (source, target, 1), clamped to [-1, 1], and a threshold t,

    w = 0 where |q| <= t, elsewhere sign(q) · (|q| - t) / (1 - t) · max_weight

With the link expression output (LEO), the second output says where there is a connection, and
w = q · max_weight there.

The substrate networks of a population are themselves a `Population`, with one connection gene for
every possible connection: everything that evaluates, draws and exports genomes does it to them.

Sources:
    Stanley, D'Ambrosio and Gauci: A Hypercube-Based Encoding for Evolving Large-Scale Neural
    Networks (2009);
    Verbancsics and Stanley: Constraining Connectivity to Encourage Modularity in HyperNEAT (2011),
    for LEO and its seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS

from .cppn import connection_inputs
from .encoding import Encoding
from .genome import ConnectionGene, Genome, NodeGene
from .phenotypes import Networks, networks
from .population import Population
from .substrate import Substrate

__all__ = ["HyperNEAT", "locality_seed"]


@dataclass(frozen=True)
class HyperNEAT(Encoding):
    """Turns a population of CPPNs into the networks of their substrates.

    ``HyperNEAT(Substrate.layered([3, 4, 1])).neat(seed=0)`` is a run of NEAT over such CPPNs, for
    problems of 3 inputs and 1 output.

    Cost: one call of all CPPNs at E points, and about 100 bytes for each of the P · E possible
    connections.

    Args:
        substrate: where the nodes are.
        threshold: t above, 0 … 1; unused with `leo`.
        max_weight: the largest weight's magnitude.
        leo: whether a connection is there where the CPPN's second output is above 0.
        bias: whether nodes have a bias, from one more output of the CPPN: what it is for a
            connection from the origin to the node, times `max_weight`. Without it biases are 0.
        distance: whether the CPPN sees the distance between the nodes.
        activation: of hidden nodes.
        output_activation: of outputs; "" for the same.
        ticks: how many ticks a recurrent substrate sees an input, where there are no time steps.

    Raises:
        ValueError: a threshold outside [0, 1), a weight not above 0, an unknown activation, or no
            ticks.
    """

    substrate: Substrate
    threshold: float = 0.2
    max_weight: float = 3.0
    leo: bool = False
    bias: bool = False
    distance: bool = False
    activation: str = "neat_sigmoid"
    output_activation: str = ""
    ticks: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(
                f"HyperNEAT: expected a threshold from 0 to below 1, got {self.threshold}"
            )
        if not 0 < self.max_weight < math.inf:
            raise ValueError(f"HyperNEAT: expected a max_weight above 0, got {self.max_weight}")
        for name in (self.activation, self.output_activation or self.activation):
            if name not in ACTIVATIONS:
                raise ValueError(
                    f"HyperNEAT: there is no activation {name!r}; expected one of {ACTIVATIONS}"
                )
        if self.ticks < 1:
            raise ValueError(f"HyperNEAT: expected at least 1 tick, got {self.ticks}")

    @property
    def inputs(self) -> int:
        """Number of inputs of the substrate."""
        return len(self.substrate.inputs)

    @property
    def outputs(self) -> int:
        """Number of outputs of the substrate."""
        return len(self.substrate.outputs)

    @property
    def cppn_inputs(self) -> int:
        """Number of inputs of the genomes: two nodes' coordinates, their distance if asked, 1."""
        return 2 * self.substrate.dimensions + self.distance + 1

    @property
    def cppn_outputs(self) -> int:
        """Number of outputs of the genomes: weight, expression with LEO, bias if asked."""
        return 1 + self.leo + self.bias

    def __call__(self, population: Population) -> Networks:
        """The substrate networks of P CPPNs."""
        return networks(self.substrates(population), self.substrate.kind, ticks=self.ticks)

    def substrates(self, population: Population) -> Population:
        """The substrate networks of P CPPNs as genomes.

        Every possible connection is a gene, numbered in the order of `Substrate.edges`; where there
        is none it is disabled and its weight is 0.

        Raises:
            ValueError: CPPNs of other numbers of inputs or outputs.
        """
        cppns = self.check(population)
        like = population.bias
        edges = self.substrate.edges()
        places = self.substrate.coordinates(edges)
        size, count = len(population), len(self.substrate.nodes)
        weight, expressed = self._weights(
            cppns(connection_inputs(*places, distance=self.distance).to(like))
        )
        edges = edges.to(like.device)
        nodes, genes = (size, count), (size, edges.shape[1])
        bias = like.new_zeros(nodes)
        if self.bias:
            at = torch.tensor(self.substrate.nodes, dtype=torch.float64)
            asked = connection_inputs(torch.zeros_like(at), at, distance=self.distance)
            bias = cppns(asked.to(like))[..., -1].clamp(-1, 1) * self.max_weight
        activation = torch.full(
            nodes, ACTIVATIONS.index(self.activation), dtype=torch.int32, device=like.device
        )
        if self.output_activation:
            activation[:, : self.outputs] = ACTIVATIONS.index(self.output_activation)
        return Population(
            self.inputs,
            self.outputs,
            node_key=torch.arange(count, device=like.device).repeat(size, 1),
            node_mask=torch.ones(nodes, dtype=torch.bool, device=like.device),
            bias=bias,
            response=like.new_ones(nodes),
            time_constant=like.new_ones(nodes),
            activation=activation,
            aggregation=torch.full_like(activation, AGGREGATIONS.index("sum")),
            innovation=torch.arange(edges.shape[1], device=like.device).repeat(size, 1),
            source=edges[0].repeat(size, 1),
            target=edges[1].repeat(size, 1),
            connection_mask=torch.ones(genes, dtype=torch.bool, device=like.device),
            enabled=expressed,
            weight=weight,
        )

    def check(self, population: Population) -> Networks:
        """The CPPNs' networks, if they fit.

        Raises:
            ValueError: CPPNs of other numbers of inputs or outputs.
        """
        expected = (self.cppn_inputs, self.cppn_outputs)
        if (population.inputs, population.outputs) != expected:
            raise ValueError(
                f"HyperNEAT: expected CPPNs with {expected[0]} inputs (coordinates of two nodes"
                f"{', distance' if self.distance else ''}, 1) and {expected[1]} outputs (weight"
                f"{', expression' if self.leo else ''}{', bias' if self.bias else ''}), got "
                f"{population.inputs} and {population.outputs}"
            )
        return networks(population)

    def _weights(self, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (P, E), and which of them there are, from outputs (P, E, outputs)."""
        q = answers[..., 0].clamp(-1, 1)
        if self.leo:
            expressed = answers[..., 1] > 0
            return (q * self.max_weight).where(expressed, 0), expressed
        strength = (q.abs() - self.threshold) / (1 - self.threshold)
        expressed = strength > 0
        return (q.sign() * strength * self.max_weight).where(expressed, 0), expressed


def locality_seed(phenotype: HyperNEAT, *, width: float = 1.0) -> Genome:
    """A first CPPN for LEO that expresses connections between near nodes alone.

    For each dimension a hidden node computes exp(-(Δ / width)²) of the difference of the two
    coordinates; their sum minus (d - 1/2) is the expression output, above 0 where the difference is
    small in every dimension. Nothing is connected to the weight yet but the constant input, with
    weight 0, for evolution to start from.

    Deviation: the paper seeds the dimensions that its task needs; here it is all.

    Raises:
        ValueError: the phenotype has no LEO, or a width not above 0.
    """
    if not phenotype.leo:
        raise ValueError("locality_seed: expected a phenotype with leo=True")
    if not 0 < width < math.inf:
        raise ValueError(f"locality_seed: expected a width above 0, got {width}")
    d, outputs = phenotype.substrate.dimensions, phenotype.cppn_outputs
    hidden = range(outputs, outputs + d)
    nodes = [NodeGene(key, activation="tanh") for key in range(outputs)]
    nodes[1] = NodeGene(1, bias=0.5 - d, activation="identity")
    nodes += [NodeGene(key, activation="gauss") for key in hidden]
    connections = [ConnectionGene(-phenotype.cppn_inputs, 0, 0.0)]
    for i, key in enumerate(hidden):
        connections += [
            ConnectionGene(-1 - i, key, 1 / width),
            ConnectionGene(-1 - d - i, key, -1 / width),
            ConnectionGene(key, 1, 1.0),
        ]
    return Genome(phenotype.cppn_inputs, outputs, tuple(nodes), tuple(connections))
