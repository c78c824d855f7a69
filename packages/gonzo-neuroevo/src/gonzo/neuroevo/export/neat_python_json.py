"""Networks in the JSON that neat-python exports, read and written.

Source:
    neat-python 2.0.0, the module ``neat.export``, format version 1.0.
"""

from __future__ import annotations

import json
import os

from ..genome import ConnectionGene, Genome, NodeGene
from ..phenotypes import KINDS
from .neat_python import check_keys, our_activation, our_aggregation, their_node
from .order import check_kind, incoming, layers
from .strict_json import Fields, parse, read_text

__all__ = ["read_neat_python_json", "to_neat_python_json"]

_TYPES = {"feed-forward": "feedforward", "recurrent": "recurrent", "ctrnn": "ctrnn"}


def read_neat_python_json(path: str | os.PathLike[str]) -> Genome:
    """Read a file of ``neat.export.export_network_json``.

    It holds a network, not a whole genome: no disabled connections and no innovation numbers. Nodes
    that neat-python left out because they stay 0 come back as nodes that are 0.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: over 16 MiB, no such JSON, a spiking network, a function of the user's own, or
            genes that form no network; the message says where.
    """
    fields = parse(read_text(path, "read_neat_python_json"), os.fspath(path))
    version = fields.word("format_version")
    if version.partition(".")[0] != "1":
        raise ValueError(f"{fields.where}: expected format_version 1, got {version[:20]!r}")
    if (kind := fields.word("network_type")) not in _TYPES.values():
        raise ValueError(
            f"{fields.where}: expected network_type to be one of {list(_TYPES.values())}, got "
            f"{kind[:20]!r}"
        )
    topology = fields.part("topology")
    inputs, outputs = topology.items("input_keys"), topology.items("output_keys")
    check_keys(inputs, outputs, topology.where)
    nodes = {}
    for part in fields.parts("nodes"):
        if part.word("type") != "input":
            node = _node(part)
            if node.key in nodes:
                raise ValueError(f"{part.where}: the id {node.key} comes more than once")
            nodes[node.key] = node
    connections = [
        ConnectionGene(
            part.whole("from"), part.whole("to"), part.number("weight"), part.truth("enabled")
        )
        for part in fields.parts("connections")
    ]
    if kind != "feedforward":
        # Such a network reads nodes that it never computes; to it they are 0.
        silent = set(outputs) | {gene.source for gene in connections if gene.source >= 0}
        for key in sorted(silent - set(nodes)):
            nodes[key] = NodeGene(key, activation="identity")
    try:
        return Genome(len(inputs), len(outputs), tuple(nodes.values()), tuple(connections))
    except ValueError as error:
        raise ValueError(f"{fields.where}: {error}") from None


def to_neat_python_json(genome: Genome, kind: str = "feed-forward") -> str:
    """Write the network in neat-python's format: what the outputs need, enabled connections only.

    Args:
        genome: the network.
        kind: "feed-forward", "recurrent" or "ctrnn".

    Raises:
        ValueError: no such kind, a feed-forward network of a genome with a cycle, or an activation
            that neat-python lacks.
    """
    check_kind(kind, KINDS, "to_neat_python_json")
    links = incoming(genome)
    if kind == "feed-forward":
        order = [node for layer in layers(genome, "to_neat_python_json") for node in layer]
    else:
        order = sorted(node for node in genome.nodes if node.key in links)
    inputs = [-i for i in range(1, genome.inputs + 1)]
    nodes = [_entry(node, genome.outputs, kind) for node in order]
    for key in inputs:
        nodes.append(
            {
                "id": key,
                "type": "input",
                "activation": {"name": "identity", "custom": False},
                "aggregation": {"name": "none", "custom": False},
                "bias": 0.0,
                "response": 1.0,
            }
            | ({"time_constant": 1.0} if kind == "ctrnn" else {})
        )
    data = {
        "format_version": "1.0",
        "network_type": _TYPES[kind],
        "metadata": {"source": "gonzo-neuroevo"},
        "topology": {
            "num_inputs": genome.inputs,
            "num_outputs": genome.outputs,
            "input_keys": inputs,
            "output_keys": list(range(genome.outputs)),
        },
        "nodes": nodes,
        "connections": [
            {"from": gene.source, "to": gene.target, "weight": gene.weight, "enabled": True}
            for node in order
            for gene in links[node.key]
        ],
    }
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def _entry(node: NodeGene, outputs: int, kind: str) -> dict[str, object]:
    theirs = their_node(node, "to_neat_python_json")
    entry: dict[str, object] = {
        "id": node.key,
        "type": "output" if node.key < outputs else "hidden",
        "activation": {"name": theirs.activation, "custom": False},
        "aggregation": {"name": theirs.aggregation, "custom": False},
        "bias": theirs.bias,
        "response": theirs.response,
    }
    if kind == "ctrnn":
        entry["time_constant"] = theirs.time_constant
    return entry


def _node(fields: Fields) -> NodeGene:
    key = fields.whole("id")
    names = {}
    for field in ("activation", "aggregation"):
        part = fields.part(field)
        if part.truth("custom"):
            raise ValueError(
                f"{fields.where}: the {field} {part.word('name')[:40]!r} of node {key} was defined "
                "by a user and cannot be converted"
            )
        names[field] = part.word("name")
    return NodeGene(
        key,
        fields.number("bias"),
        fields.number("response"),
        our_activation(names["activation"], f"{fields.where} (node {key})"),
        our_aggregation(names["aggregation"], f"{fields.where} (node {key})"),
        fields.number("time_constant") if "time_constant" in fields.value else 1.0,
    )
