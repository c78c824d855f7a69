"""Genomes to and from neat-python's live objects.

Its sigmoid, tanh, sin, gauss and softplus are steeper than the functions these names stand for;
they are our ``steep_*``. Reading needs no neat-python; its pickles are never read.

Deviation: in neat-python's recurrent and continuous-time networks, a node that no enabled
connection enters stays 0; here, as in all feed-forward networks, it is activation(bias).

Deviation: values are kept within ±1e18, where neat-python's exp reaches e^60.

Deviation: neat-python's continuous-time network adds a step's change to the values of two steps ago
and returns those of one step ago, so that it moves at half the speed; ours is Euler's rule.

Source:
    neat-python 2.0.0, https://github.com/CodeReclaimers/neat-python
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gonzo.core import require
from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS

from ..genome import ConnectionGene, Genome, NodeGene

__all__ = [
    "check_keys",
    "from_neat_python",
    "our_activation",
    "our_aggregation",
    "their_activation",
    "their_node",
    "to_neat_python",
]

_STEEP = ("sigmoid", "tanh", "sin", "gauss", "softplus")
_THEIRS = (
    *_STEEP, "relu", "elu", "lelu", "selu", "identity", "clamped", "inv", "log", "exp", "abs",
    "hat", "square", "cube",
)  # fmt: skip
_SLOPES = {
    "sigmoid": ("sigmoid", 5.0),
    "neat_sigmoid": ("sigmoid", 5.0 / 4.9),
    "tanh": ("tanh", 2.5),
    "sin": ("sin", 5.0),
    "gauss": ("gauss", math.sqrt(5.0)),
}
"""Functions that are one of theirs with the argument divided by a slope."""


def our_activation(name: str, where: str) -> str:
    """Return our name of a function of neat-python's.

    Raises:
        ValueError: neat-python has no such function; the message opens with ``where``.
    """
    if name not in _THEIRS:
        raise ValueError(
            f"{where}: the activation {name!r} is none of neat-python's own, which are "
            f"{', '.join(_THEIRS)}; a function of the user's cannot be converted"
        )
    return f"steep_{name}" if name in _STEEP else name


def our_aggregation(name: str, where: str) -> str:
    """Return our name of an aggregation of neat-python's, which is the same.

    Raises:
        ValueError: neat-python has no such aggregation; the message opens with ``where``.
    """
    if name not in AGGREGATIONS:
        raise ValueError(
            f"{where}: the aggregation {name!r} is none of neat-python's own, which are "
            f"{', '.join(AGGREGATIONS)}; a function of the user's cannot be converted"
        )
    return name


def their_activation(name: str) -> str | None:
    """Return neat-python's name of the very function, or None where it has none."""
    theirs = name.removeprefix("steep_")
    same = theirs in _THEIRS and (theirs in _STEEP) == (theirs != name)
    return theirs if same else None


def their_node(node: NodeGene, what: str) -> NodeGene:
    """Return a node in neat-python's functions: its activation's name, bias and response adapted.

    Plain functions become steep ones by dividing bias and response: σ(z) = σ₅(z/5).

    Raises:
        ValueError: neat-python has no function of this shape; the message opens with ``what``.
    """
    if node.activation in _SLOPES:
        name, slope = _SLOPES[node.activation]
        return node._replace(
            activation=name, bias=node.bias / slope, response=node.response / slope
        )
    if node.activation == "softplus":
        raise ValueError(
            f"{what}: node {node.key} has the activation 'softplus', and neat-python's differs in "
            "the scale of its output; 'steep_softplus' is neat-python's"
        )
    name = their_activation(node.activation)
    assert name is not None, f"{node.activation} of {ACTIVATIONS} has no counterpart"
    return node._replace(activation=name)


def from_neat_python(genome: Any, genome_config: Any) -> Genome:
    """Read a ``neat.DefaultGenome``.

    Args:
        genome: has ``nodes`` and ``connections``.
        genome_config: the ``genome_config`` of its ``neat.Config``.

    Raises:
        TypeError: the configuration has no input and output keys.
        ValueError: a function of the user's own, or genes that form no genome.
    """
    if not (hasattr(genome_config, "input_keys") and hasattr(genome_config, "output_keys")):
        raise TypeError(
            "from_neat_python: expected the genome_config of a neat.Config, with input_keys and "
            f"output_keys, got {type(genome_config).__name__}"
            + ("; pass its .genome_config" if hasattr(genome_config, "genome_config") else "")
        )
    check_keys(list(genome_config.input_keys), list(genome_config.output_keys), "from_neat_python")
    activations = _own(getattr(genome_config, "activation_defs", None), "neat.activations")
    aggregations = _own(
        getattr(genome_config, "aggregation_function_defs", None), "neat.aggregations"
    )
    nodes = []
    for key, gene in sorted(genome.nodes.items()):
        where = f"from_neat_python: node {key}"
        for field, own in (("activation", activations), ("aggregation", aggregations)):
            if not own(name := getattr(gene, field)):
                raise ValueError(
                    f"{where}: the {field} {name!r} was defined by the user, in neat-python's "
                    "place, and cannot be converted"
                )
        nodes.append(
            NodeGene(
                int(key),
                float(gene.bias),
                float(gene.response),
                our_activation(gene.activation, where),
                our_aggregation(gene.aggregation, where),
                float(getattr(gene, "time_constant", 1.0)),
            )
        )
    connections = [
        ConnectionGene(
            int(source),
            int(target),
            float(gene.weight),
            bool(gene.enabled),
            int(getattr(gene, "innovation", -1)),
        )
        for (source, target), gene in genome.connections.items()
    ]
    size = len(genome_config.input_keys), len(genome_config.output_keys)
    return Genome(*size, tuple(nodes), tuple(connections))


def to_neat_python(genome: Genome, config: Any, key: int = 0) -> Any:
    """Make a ``neat.DefaultGenome``.

    Connections without innovation number get new ones, after the genome's largest.

    Args:
        genome: of the configuration's numbers of inputs and outputs.
        config: a ``neat.Config`` or its ``genome_config``.
        key: the new genome's.

    Returns:
        A ``neat.DefaultGenome``, whose outputs are the genome's; numbers are not clamped to the
        configuration's ranges.

    Raises:
        ValueError: other numbers of inputs or outputs, or an activation that neat-python lacks.
        MissingExtraError: neat-python is not installed.
    """
    neat = require("neat", extra="gonzo-neuroevo[neat-python]")
    settings = getattr(config, "genome_config", config)
    size = settings.num_inputs, settings.num_outputs
    if size != (genome.inputs, genome.outputs):
        raise ValueError(
            f"to_neat_python: the configuration has {size[0]} inputs and {size[1]} outputs, the "
            f"genome {genome.inputs} and {genome.outputs}"
        )
    made = neat.DefaultGenome(key)
    for node in genome.nodes:
        theirs = their_node(node, "to_neat_python")
        made.nodes[node.key] = gene = settings.node_gene_type(node.key)
        for field in theirs._fields[1:]:
            setattr(gene, field, getattr(theirs, field))
    following = 1 + max((c.innovation for c in genome.connections), default=-1)
    for link in genome.connections:
        innovation = link.innovation
        if innovation < 0:
            innovation, following = following, following + 1
        ends = link.source, link.target
        made.connections[ends] = gene = settings.connection_gene_type(ends, innovation=innovation)
        gene.weight, gene.enabled = link.weight, link.enabled
    return made


def check_keys(inputs: list[Any], outputs: list[Any], what: str) -> None:
    """Raise ValueError unless inputs are -1, -2, … and outputs 0, 1, …, as neat-python numbers."""
    expected = [-i - 1 for i in range(len(inputs))], list(range(len(outputs)))
    whole = all(type(key) is int for key in (*inputs, *outputs))
    if not whole or (inputs, outputs) != expected:
        raise ValueError(
            f"{what}: expected the inputs -1, -2, … and the outputs 0, 1, …, got {inputs[:5]} and "
            f"{outputs[:5]}"
        )


def _own(definitions: Any, module: str) -> Callable[[str], bool]:
    """Whether a name still means neat-python's own function, where the configuration can tell."""
    functions = getattr(definitions, "functions", {})
    return lambda name: getattr(functions.get(name), "__module__", module) == module
