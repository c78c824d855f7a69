"""Symbolic regression: the named targets at known points, the points, and R²."""

import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gonzo.neuroevo.evaluators import InProcess
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.regression import TARGETS, Grid, SymbolicRegression, Uniform
from gonzo.neuroevo.seeds import Episodes

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from evaluated_problems import random_population  # noqa: E402

sys.path.remove(HERE)

# Worked out by hand, or in radians that make it easy.
KNOWN = {
    "nguyen-1": ((2.0,), 14.0),
    "nguyen-2": ((2.0,), 30.0),
    "nguyen-3": ((2.0,), 62.0),
    "nguyen-4": ((2.0,), 126.0),
    "nguyen-5": ((math.sqrt(math.pi),), -1.0),
    "nguyen-6": ((-1.0,), -math.sin(1)),
    "nguyen-7": ((1.0,), 2 * math.log(2)),
    "nguyen-8": ((2.25,), 1.5),
    "keijzer-1": ((0.25,), 0.075),
    # sin² cos = ½ √½ there, and sin cos = ½
    "keijzer-4": (
        (math.pi / 4,),
        (math.pi / 4) ** 3 * math.exp(-math.pi / 4) * 0.5 * (0.5 * math.sqrt(0.5) - 1),
    ),
    "keijzer-11": ((1.0, 3.0), 3.0),
    "keijzer-12": ((2.0, 4.0), 12.0),
    "keijzer-13": ((math.pi / 2, math.pi), -6.0),
    "keijzer-14": ((1.0, 1.0), 2.0),
}


def line(weight, bias):
    node = NodeGene(0, bias, activation="identity")
    return Genome(1, 1, (node,), (ConnectionGene(-1, 0, weight),))


def test_every_target_has_a_known_value():
    assert KNOWN.keys() == TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_what_their_papers_say(name):
    point, value = KNOWN[name]
    arrays = [np.array([number]) for number in point]
    assert TARGETS[name].function(*arrays)[0] == pytest.approx(value, abs=1e-12)
    assert len(TARGETS[name].variables) == len(point)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_makes_a_problem(name):
    problem = SymbolicRegression(name)
    target = TARGETS[name]
    assert problem.inputs == len(target.variables)
    assert problem.x.shape == (len(problem.y), problem.inputs)
    for x, where in ((problem.x, target.train), (problem.x_test, target.test)):
        assert (x >= where.low - 1e-12).all()
        assert (x <= where.high + 1e-12).all()
    pickle.loads(pickle.dumps(problem))
    population = random_population(4, problem.inputs, 1)
    ids = Episodes(0, 0, tuple(range(4)))
    fitness = InProcess().evaluate(problem, population, ids)
    assert (fitness <= 1).all()
    alone = InProcess(chunk=1).evaluate(problem, population, ids)
    assert torch.equal(alone, fitness)


def test_the_points_are_those_of_the_papers():
    assert len(SymbolicRegression("nguyen-1").y) == 20
    one = SymbolicRegression("keijzer-1")
    assert (len(one.y), len(one.y_test)) == (21, 2001)
    four = SymbolicRegression("keijzer-4")
    assert (len(four.y), len(four.y_test)) == (201, 101)
    assert four.x_test[-1] == pytest.approx(10.05)
    assert len(SymbolicRegression("keijzer-12").y_test) == 61 * 61


def test_r_squared_is_its_definition():
    own = SymbolicRegression(lambda x: 2 * x + 1, ("x",), Grid(0, 4, 1), Grid(0.5, 4.5, 0.5))
    mean = own.y.mean()
    population = Population.from_genomes([line(2.0, 1.0), line(0.0, mean), line(2.0, 2.0)])
    fitness = own.evaluate(networks(population), Episodes(0, 0, (0, 1, 2)))
    assert fitness.tolist() == [1.0, 0.0, 1 - 5 / 40]  # Σ (y - ȳ)² = 4 (4 + 1 + 0 + 1 + 4)
    assert own.test_fitness(networks(population))[0] == 1.0
    assert own.test_fitness(networks(population))[1] != 0.0


def test_r_squared_forgets_the_scale():
    genomes = [line(1.0, 0.5), line(-2.0, 0.25)]
    far = [line(1024.0 * w, 1024.0 * b) for w, b in ((1.0, 0.5), (-2.0, 0.25))]
    points = Grid(-1, 1, 0.25), Grid(-1, 1, 0.5)
    small = SymbolicRegression(lambda x: x**2 + x, ("x",), *points)
    large = SymbolicRegression(lambda x: 1024 * (x**2 + x), ("x",), *points)
    ids = Episodes(0, 0, (0, 1))
    assert torch.equal(
        small.evaluate(networks(Population.from_genomes(genomes)), ids),
        large.evaluate(networks(Population.from_genomes(far)), ids),
    )


def test_drawn_points_follow_the_seed_and_judges_are_drawn_apart():
    a, b, c = (SymbolicRegression("nguyen-5", seed=seed) for seed in (1, 1, 2))
    assert (a.x == b.x).all()
    assert (a.x_test == b.x_test).all()
    assert not np.isin(a.x, c.x).any()
    assert not np.isin(a.x, a.x_test).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nguyen-99",), "expected a target of .*nguyen-1.*, got 'nguyen-99'"),
        ((np.sin,), "expected variables, train and test points with a function of your own"),
        (
            (np.log, ("x",), Grid(-1, 1, 0.5), Grid(1, 2, 0.5)),
            r"the function is not finite at \{'x': -1.0\}",
        ),
        (
            (np.ones_like, ("x",), Grid(-1, 1, 0.5), Grid(1, 2, 0.5)),
            "the function is constant on its points",
        ),
        (
            (lambda x: 1.0, ("x",), Grid(-1, 1, 0.5), Grid(1, 2, 0.5)),
            r"expected the function to give 5 values for 5 points, got the shape \(\)",
        ),
        (("nguyen-1", ("x", "y")), r"names for the variables \('x',\) of nguyen-1, got \('x', 'y"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in log:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide by zero encountered in log:RuntimeWarning")
def test_bad_targets_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SymbolicRegression(*arguments)


def test_a_target_of_ones_own_may_draw_its_points():
    own = SymbolicRegression(
        lambda x, y: x * y, ("x", "y"), Uniform(-1, 1, 7), Uniform(2, 3, 5), seed=4
    )
    assert own.x.shape == (7, 2)
    assert (own.x_test >= 2).all()
    assert (own.y == own.x[:, 0] * own.x[:, 1]).all()
