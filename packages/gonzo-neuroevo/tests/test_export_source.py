"""Generated Python source, run here and equal to one node at a time."""

import ast
import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS
from gonzo.neuroevo.export import to_python
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene

shared = runpy.run_path(str(Path(__file__).with_name("genomes.py")))
genomes, evaluate, tick, close = (shared[n] for n in ("genomes", "evaluate", "tick", "close"))


def run(source, name="network"):
    scope = {}
    exec(source, scope)
    return scope[name]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_function(activation, aggregation):
    links = tuple(ConnectionGene(-1 - i, 0, w) for i, w in enumerate((0.9, -1.3, 0.4, 0.2)))
    genome = Genome(4, 1, (NodeGene(0, 0.3, 0.7, activation, aggregation),), links)
    network = run(to_python(genome))
    for x in ([0.0] * 4, [1.0, -0.5, 2.0, 3.0], [-300.0, 200.0, 10.0, 50.0], [1e200] * 4):
        if max(x) < 1e100:
            assert close(network(x), evaluate(genome, x), 1e-12)
        assert abs(network(x)[0]) <= 1e18


@settings(max_examples=60, deadline=None)
@given(genomes(activations=shared["SMOOTH"]), st.integers(0, 9))
def test_feed_forward(genome, seed):
    x = [math.sin(seed + 2.3 * i) for i in range(genome.inputs)]
    assert close(run(to_python(genome))(x), evaluate(genome, x), 1e-12)


@settings(max_examples=40, deadline=None)
@given(genomes(cyclic=True, activations=shared["SMOOTH"]))
def test_recurrent(genome):
    network = run(to_python(genome, kind="recurrent"))
    state, own = dict.fromkeys((node.key for node in genome.nodes), 0.0), None
    for t in range(3):
        x = [math.cos(t + i) for i in range(genome.inputs)]
        state = tick(genome, x, state)
        y, own = network(x, own)
        assert close(y, [state[key] for key in range(genome.outputs)], 1e-11)


def test_it_stands_alone_and_keeps_every_digit():
    genome = Genome(2, 1, (NodeGene(0, 0.1, 1 / 3, "tanh"),), (ConnectionGene(-2, 0, 2 / 3),))
    source = to_python(genome, "controller")
    for number in (0.1, 1 / 3, 2 / 3):
        assert repr(number) in source
    imports = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(n) for n in imports] == ["import math"]
    assert "_sigmoid" not in source  # what it does not use is not there
    assert run(source, "controller")([5.0, 1.0]) == [math.tanh(0.1 + 1 / 3 * (2 / 3))]
    with pytest.raises(ValueError, match="expected 2"):
        run(source, "controller")([1.0, 2.0, 3.0])


def test_no_inputs_and_orphans():
    genome = Genome(
        0, 2, (NodeGene(0, 1.0, 2.0, "identity", "product"), NodeGene(1, 0.0, 1.0, "log"))
    )
    assert run(to_python(genome))([]) == [3.0, math.log(1e-7)]
    y, state = run(to_python(genome, kind="recurrent"))([])
    assert y == state == [3.0, math.log(1e-7)]


@pytest.mark.parametrize(
    "name", ["a; import os", "lambda", "None", "", "1a", "a b", "nätwörk", "a\n", "print(1)", "a.b"]
)
def test_names_that_source_cannot_have(name):
    genome = Genome(1, 1, (NodeGene(0),))
    with pytest.raises(ValueError, match="to_python: expected a name of ASCII letters"):
        to_python(genome, name)


@pytest.mark.parametrize("name", ["max", "sum", "math", "_tanh", "_node", "__import__"])
def test_names_that_would_hide_others(name):
    with pytest.raises(ValueError, match="would hide another"):
        to_python(Genome(1, 1, (NodeGene(0),)), name)


def test_bad_input():
    genome = Genome(1, 1, (NodeGene(0),), (ConnectionGene(0, 0, 1.0),))
    with pytest.raises(
        ValueError, match=r"to_python: a feed-forward network has no cycle.* 0 → 0;"
    ):
        to_python(genome)
    with pytest.raises(ValueError, match="writes feed-forward and recurrent networks, got 'ctrnn'"):
        to_python(genome, kind="ctrnn")
    with pytest.raises(TypeError, match="expected a name, got int"):
        to_python(replace(genome, connections=()), 3)
