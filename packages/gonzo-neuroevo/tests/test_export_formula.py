"""Formulas against one node at a time; they never hold NaN or an infinity."""

import math
import runpy
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings

from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS
from gonzo.neuroevo.export import to_latex, to_sympy
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene

sympy = pytest.importorskip("sympy")

shared = runpy.run_path(str(Path(__file__).with_name("genomes.py")))
genomes, evaluate, close = (shared[n] for n in ("genomes", "evaluate", "close"))


def symbols(genome):
    return [sympy.Symbol(f"x{i}", real=True) for i in range(1, genome.inputs + 1)]


def run(genome, x, **options):
    formulas = to_sympy(genome, **options)
    for formula in formulas:
        assert not formula.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo)
    compiled = sympy.lambdify(symbols(genome), formulas, modules="math")
    return [float(y) for y in compiled(*x)]


@pytest.mark.parametrize("limits", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation, limits):
    genome = Genome(1, 1, (NodeGene(0, 0.3, 0.7, activation),), (ConnectionGene(-1, 0, 1.5),))
    for x in (-3.0, -0.5, -0.2, 0.0, 0.4, 2.0):
        assert close(run(genome, [x], limits=limits), evaluate(genome, [x]), 1e-12)


def test_limits():
    saturated = Genome(
        1, 1, (NodeGene(0, activation="steep_softplus"),), (ConnectionGene(-1, 0, 1.0),)
    )
    assert close(run(saturated, [20.0], limits=True), evaluate(saturated, [20.0]), 1e-12)
    assert close(run(saturated, [20.0]), [20.0], 1e-12)  # the function that its name says
    large = Genome(1, 1, (NodeGene(0, activation="cube"),), (ConnectionGene(-1, 0, 1.0),))
    assert run(large, [1e7], limits=True) == [1e18]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("count", range(5))
def test_every_aggregation(aggregation, count):
    weights = (0.9, -1.3, 0.4, 2.0)
    links = tuple(ConnectionGene(-1 - i, 0, weights[i]) for i in range(count))
    genome = Genome(4, 1, (NodeGene(0, 0.3, 0.7, "tanh", aggregation),), links)
    for x in ([0.5, 0.1, -0.4, 0.3], [-0.1, 0.2, 0.7, -0.6], [1.0, 1.0, 1.0, 0.0]):
        assert close(run(genome, x), evaluate(genome, x), 1e-12)


@settings(max_examples=40, deadline=None)
@given(genomes(activations=shared["SMOOTH"]))
def test_feed_forward(genome):
    x = [math.sin(1 + 2.3 * i) for i in range(genome.inputs)]
    assert close(run(genome, x, limits=True), evaluate(genome, x), 1e-10)


def test_constants_never_become_nan():
    for activation in ACTIVATIONS:
        for bias in (0.0, -2.0, 1e6, -1e6):
            orphan = NodeGene(1, bias, 1.0, activation)
            genome = Genome(1, 1, (NodeGene(0, 0.0, 1.0, "identity"), orphan), (
                ConnectionGene(1, 0, 1.0), ConnectionGene(-1, 0, 1.0),
            ))  # fmt: skip
            (formula,) = to_sympy(genome)
            assert not formula.has(sympy.nan, sympy.zoo, sympy.oo), (activation, bias)
            (x,) = symbols(genome)
            assert math.isclose(
                float(formula.subs(x, 0)), evaluate(genome, [0.0])[0], rel_tol=1e-12, abs_tol=1e-12
            )
    # x - x is 0, of which inv is 0 and log is that of 1e-7.
    ends = [(-1, 2, 1.0), (-1, 3, 1.0), (2, 0, 1.0), (3, 0, -1.0), (2, 1, 1.0), (3, 1, -1.0)]
    links = tuple(ConnectionGene(*end) for end in ends)
    functions = ("inv", "log", "identity", "identity")
    nodes = tuple(NodeGene(key, activation=name) for key, name in enumerate(functions))
    inverse, logarithm = to_sympy(Genome(1, 2, nodes, links))
    assert inverse == 0
    assert float(logarithm) == pytest.approx(math.log(1e-7))


def test_names_and_simplify():
    nodes = (NodeGene(0, 0.5, 1.0, "identity"),)
    genome = Genome(2, 1, nodes, (ConnectionGene(-1, 0, 2.0), ConnectionGene(-2, 0, -0.25)))
    position, speed = (sympy.Symbol(name, real=True) for name in ("position", "speed"))
    assert to_sympy(genome, ("position", "speed")) == [2 * position - 0.25 * speed + 0.5]
    assert to_sympy(genome, ("position", "speed"), simplify=True)[0].equals(
        2 * position - 0.25 * speed + 0.5
    )


def test_latex():
    nodes = (NodeGene(0, 0.123456, 1.0, "tanh"), NodeGene(1, 0.0, 1.0, "relu", "maxabs"))
    links = [ConnectionGene(-1 - i, t, 1.0 + i / 3) for t in range(2) for i in range(3)]
    text = to_latex(Genome(3, 2, nodes, tuple(links)), ("a", "b", "theta"), digits=3)
    assert text.startswith("\\begin{aligned}\ny_{1} &= \\tanh")
    assert "0.123 " in text
    assert "0.1234" not in text
    assert "\\operatorname{maxabs}" in text
    assert "\\theta" in text
    assert text.count("\\\\\n") == 1
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("x",), "expected 2 names, got 1"),
        (("x", "x"), "the name 'x' comes more than once"),
        (("x", "y); import os"), "expected a name of ASCII letters"),
        (("x", "}"), "expected a name of ASCII letters"),
        (("x", "in"), "is no keyword, got 'in'"),
        (("x", "é"), "expected a name of ASCII letters"),
    ],
)
def test_bad_names(names, message):
    for function in (to_sympy, to_latex):
        with pytest.raises(ValueError, match=message):
            function(Genome(2, 1, (NodeGene(0),)), names)


def test_bad_input(monkeypatch):
    genome = Genome(2, 1, (NodeGene(0),))
    with pytest.raises(TypeError, match="the one string 'xy'"):
        to_sympy(genome, "xy")
    with pytest.raises(TypeError, match="expected a name, got int"):
        to_sympy(genome, (1, 2))
    with pytest.raises(ValueError, match="expected 1 digit or more, got 0"):
        to_latex(genome, digits=0)
    loop = Genome(1, 1, (NodeGene(0),), (ConnectionGene(0, 0, 1.0),))
    with pytest.raises(ValueError, match=r"to_sympy: a feed-forward network has no cycle.* 0 → 0;"):
        to_sympy(loop)
    # Twenty layers of two nodes that both read both: a million paths.
    keys = [(-1, -2), *((2 * i + 1, 2 * i + 2) for i in range(20)), (0,)]
    nodes = tuple(NodeGene(key) for layer in keys[1:] for key in layer)
    links = [(s, t) for a, b in pairwise(keys) for s in a for t in b]
    deep = Genome(2, 1, nodes, tuple(ConnectionGene(s, t, 1.0) for s, t in links))
    with pytest.raises(ValueError, match="the formulas have 4194303 terms, expected at most"):
        to_sympy(deep)
    monkeypatch.setitem(sys.modules, "sympy", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "gonzo-neuroevo\[sympy\]"'):
        to_sympy(genome)
