"""Genomes for property tests, and what they should compute, one node at a time in Python floats.

Load it beside a test file with ``runpy.run_path``; it imports nothing of what it judges but genes.
"""

import math
import statistics

from hypothesis import strategies as st

from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene

SMOOTH = ("identity", "sigmoid", "tanh", "sin", "gauss", "steep_tanh", "relu", "hat", "clamped")
"""Activations after which small errors stay small."""


def _sigmoid(z):
    return 1 / (1 + math.exp(-z))


def _limit(z, bound=60.0):
    return max(-bound, min(bound, z))


FUNCTIONS = {
    "identity": lambda z: z,
    "sigmoid": lambda z: _sigmoid(_limit(z)),
    "tanh": lambda z: math.tanh(z),
    "relu": lambda z: z if z > 0 else 0.0,
    "sin": lambda z: math.sin(_limit(z)),
    "gauss": lambda z: math.exp(-(z**2)),
    "softplus": lambda z: math.log(1 + math.exp(_limit(z))),
    "abs": abs,
    "clamped": lambda z: _limit(z, 1.0),
    "square": lambda z: z**2,
    "cube": lambda z: z**3,
    "exp": lambda z: math.exp(_limit(z)),
    "log": lambda z: math.log(max(z, 1e-7)),
    "inv": lambda z: 0.0 if z == 0 else 1 / z,
    "hat": lambda z: max(0.0, 1 - abs(z)),
    "elu": lambda z: z if z > 0 else math.exp(z) - 1,
    "lelu": lambda z: z if z > 0 else 0.005 * z,
    "selu": lambda z: (
        1.0507009873554804935 * (z if z > 0 else 1.6732632423543772848 * (math.exp(z) - 1))
    ),
    "neat_sigmoid": lambda z: _sigmoid(_limit(4.9 * z)),
    "steep_sigmoid": lambda z: _sigmoid(_limit(5 * z)),
    "steep_tanh": lambda z: math.tanh(2.5 * z),
    "steep_sin": lambda z: math.sin(_limit(5 * z)),
    "steep_gauss": lambda z: math.exp(-5 * z**2),
    "steep_softplus": lambda z: 0.2 * math.log(1 + math.exp(_limit(5 * z))),
}

GATHER = {
    "sum": math.fsum,
    "product": math.prod,
    "max": max,
    "min": min,
    "maxabs": lambda terms: max(terms, key=abs),
    "median": statistics.median,
    "mean": statistics.fmean,
}


def node_value(genome, node, values):
    """A node's value from a dictionary of values."""
    into = [g for g in genome.connections if g.enabled and g.target == node.key]
    into.sort(key=lambda g: (g.innovation < 0, g.innovation, g.source))
    terms = [g.weight * values[g.source] for g in into]
    nothing = 1.0 if node.aggregation == "product" else 0.0
    total = GATHER[node.aggregation](terms) if terms else nothing
    value = FUNCTIONS[node.activation](_limit(node.bias + node.response * total, 1e18))
    return _limit(value, 1e18)


def evaluate(genome, x):
    """Outputs of a genome without cycles, by asking each node for its value when it is needed."""
    genes = {node.key: node for node in genome.nodes}
    values = {-1 - i: v for i, v in enumerate(x)}

    class Lazy(dict):
        def __missing__(self, key):
            self[key] = node_value(genome, genes[key], self)
            return self[key]

    lazy = Lazy(values)
    return [lazy[key] for key in range(genome.outputs)]


def tick(genome, x, state, time_step=None):
    """The next state {key: value} of all nodes; with a time step, by Euler's rule."""
    values = state | {-1 - i: v for i, v in enumerate(x)}
    new = {node.key: node_value(genome, node, values) for node in genome.nodes}
    if time_step is None:
        return new
    rates = {node.key: time_step / node.time_constant for node in genome.nodes}
    return {key: state[key] + rates[key] * (new[key] - state[key]) for key in new}


def close(one, other, tolerance):
    """Whether floats agree, relative to the larger of 1 and the second."""
    return len(one) == len(other) and all(
        abs(a - b) <= tolerance * max(1.0, abs(b)) for a, b in zip(one, other, strict=True)
    )


@st.composite
def genomes(draw, cyclic=False, activations=tuple(FUNCTIONS), aggregations=tuple(GATHER)):
    """Genomes of up to 3 inputs, 3 outputs and 5 hidden nodes, with orphans and disabled genes."""
    inputs, outputs = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    hidden = draw(st.integers(0, 5))
    number = st.floats(-2, 2, allow_subnormal=False)
    nodes = [
        NodeGene(
            key,
            draw(number),
            draw(number),
            draw(st.sampled_from(activations)),
            draw(st.sampled_from(aggregations)),
            draw(st.floats(0.2, 3)),
        )
        for key in range(outputs + hidden)
    ]
    # Without cycles, a source comes before its target in this order.
    order = [*range(-inputs, 0), *range(outputs, outputs + hidden), *range(outputs)]
    pairs = [
        (source, target)
        for i, source in enumerate(order)
        for j, target in enumerate(order)
        if target >= 0 and (cyclic or i < j)
    ]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=14)) if pairs else []
    connections = [
        ConnectionGene(source, target, draw(number), draw(st.integers(0, 5)) > 0, i)
        for i, (source, target) in enumerate(chosen)
    ]
    return Genome(inputs, outputs, tuple(nodes), tuple(connections))
