"""A genome as Python source that needs nothing but ``math``: one line a node."""

from __future__ import annotations

from ..genome import ConnectionGene, Genome, NodeGene
from .names import check_function_name
from .order import check_kind, incoming, layers

__all__ = ["to_python"]

_NODE = """\
def _node(activation, bias, response, aggregate):
    scaled = response * aggregate
    z = bias + (0.0 if scaled != scaled else scaled)
    return _within(1e18, activation(_within(1e18, z)))
"""

_WITHIN = """\
def _within(bound, value):
    return max(-bound, min(bound, value))
"""

_ACTIVATIONS = {
    "identity": "z",
    "sigmoid": "1 / (1 + math.exp(-_within(60.0, z)))",
    "tanh": "math.tanh(_within(60.0, z))",
    "relu": "max(0.0, z)",
    "sin": "math.sin(_within(60.0, z))",
    "gauss": "math.exp(-z * z)",
    "softplus": "math.log1p(math.exp(_within(60.0, z)))",
    "abs": "abs(z)",
    "clamped": "_within(1.0, z)",
    "square": "z * z",
    "cube": "z * z * z",
    "exp": "math.exp(_within(60.0, z))",
    "log": "math.log(max(1e-7, z))",
    "inv": "1 / z if z else 0.0",
    "hat": "max(0.0, 1 - abs(z))",
    "elu": "z if z > 0 else math.expm1(z)",
    "lelu": "z if z > 0 else 0.005 * z",
    "selu": "1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * math.expm1(z))",
    "neat_sigmoid": "1 / (1 + math.exp(-_within(60.0, 4.9 * z)))",
    "steep_sigmoid": "1 / (1 + math.exp(-_within(60.0, 5 * z)))",
    "steep_tanh": "math.tanh(_within(60.0, 2.5 * z))",
    "steep_sin": "math.sin(_within(60.0, 5 * z))",
    "steep_gauss": "math.exp(-5 * z * z)",
    "steep_softplus": "0.2 * math.log1p(math.exp(_within(60.0, 5 * z)))",
}

_AGGREGATIONS = {
    "sum": "sum(terms)",
    "product": "math.prod(terms)",
    "max": "max(terms)",
    "min": "min(terms)",
    "maxabs": "max(terms, key=abs)",
    "median": "(sorted(terms)[(len(terms) - 1) // 2] + sorted(terms)[len(terms) // 2]) / 2",
    "mean": "sum(terms) / len(terms)",
}


def to_python(genome: Genome, function_name: str = "network", kind: str = "feed-forward") -> str:
    """Write the network as the source of a Python function on floats.

    A feed-forward network's function takes a sequence of inputs and returns a list of outputs. A
    recurrent one's takes the inputs and the list of the previous tick's nodes (None at rest) and
    returns outputs and nodes. Numbers keep all their digits; nodes that no output needs are left
    out.

    Args:
        genome: the network.
        function_name: an identifier.
        kind: "feed-forward" or "recurrent".

    Raises:
        TypeError: the name is no string.
        ValueError: a name that source cannot have, another kind, or a feed-forward network of a
            genome with a cycle.
    """
    check_function_name(function_name, "to_python")
    check_kind(kind, ("feed-forward", "recurrent"), "to_python")
    links = incoming(genome)
    if kind == "feed-forward":
        nodes = [node for layer in layers(genome, "to_python") for node in layer]
    else:
        nodes = sorted(node for node in genome.nodes if node.key in links)
    inputs = ", ".join(f"x{i}" for i in range(1, genome.inputs + 1))
    new = "n" if kind == "feed-forward" else "new"
    outputs = ", ".join(f"{new}{key}" for key in range(genome.outputs))
    size = f"{_count(genome.inputs, 'input')} to {_count(genome.outputs, 'output')}"
    if kind == "feed-forward":
        lines = [
            f"def {function_name}(inputs):",
            f'    """A feed-forward network, {size}."""',
            f"    [{inputs}] = inputs",
        ]
        result = f"    return [{outputs}]"
    else:
        keys = ", ".join(f"n{node.key}" for node in nodes)
        lines = [
            f"def {function_name}(inputs, state=None):",
            f'    """One tick of a recurrent network, {size}."""',
            f"    [{inputs}] = inputs",
            f"    [{keys}] = [0.0] * {len(nodes)} if state is None else state",
        ]
        after = ", ".join(f"new{node.key}" for node in nodes)
        result = f"    return [{outputs}], [{after}]"
    lines += [f"    {new}{node.key} = {_line(node, links[node.key])}" for node in nodes]
    return "\n\n".join([f"import math\n\n\n{_WITHIN}", *_functions(nodes, links), _NODE]) + (
        "\n\n" + "\n".join([*lines, result]) + "\n"
    )


def _functions(nodes: list[NodeGene], links: dict[int, list[ConnectionGene]]) -> list[str]:
    """The definitions of the functions that these nodes use, in the order of the tables."""
    activations = {node.activation for node in nodes}
    aggregations = {node.aggregation for node in nodes if links[node.key]}
    return [
        f"def _{name}(z):\n    return {body}\n"
        for name, body in _ACTIVATIONS.items()
        if name in activations
    ] + [
        f"def _{name}(*terms):\n    return {body}\n"
        for name, body in _AGGREGATIONS.items()
        if name in aggregations
    ]


def _line(node: NodeGene, links: list[ConnectionGene]) -> str:
    terms = ", ".join(f"{float(gene.weight)!r} * {_value(gene.source)}" for gene in links)
    nothing = "1.0" if node.aggregation == "product" else "0.0"
    aggregate = f"_{node.aggregation}({terms})" if links else nothing
    numbers = f"{float(node.bias)!r}, {float(node.response)!r}"
    return f"_node(_{node.activation}, {numbers}, {aggregate})"


def _value(key: int) -> str:
    return f"x{-key}" if key < 0 else f"n{key}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
