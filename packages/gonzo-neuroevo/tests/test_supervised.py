"""Losses against torch in float64, and fitness that no company changes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gonzo.neuroevo.evaluators import InProcess
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.row_sums import row_sums
from gonzo.neuroevo.seeds import Episodes
from gonzo.neuroevo.supervised import LOSSES, Supervised, parity, xor, xor3d

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from evaluated_problems import random_population  # noqa: E402

sys.path.remove(HERE)

SOLVED_XOR = Genome(
    2,
    1,
    tuple(
        NodeGene(key, bias, activation="steep_sigmoid")
        for key, bias in ((0, -6.0), (1, -2.0), (2, 6.0))
    ),
    tuple(
        ConnectionGene(*gene)
        for gene in (
            (-1, 1, 4.0),
            (-2, 1, 4.0),
            (-1, 2, -4.0),
            (-2, 2, -4.0),
            (1, 0, 4.0),
            (2, 0, 4.0),
        )
    ),
)


def data(loss, samples=13):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(samples, 3))
    if loss in ("cross-entropy", "accuracy"):
        return x, rng.integers(0, 4, samples)
    return x, rng.normal(size=(samples, 4))


def evaluate(problem, population):
    ids = Episodes(0, 0, tuple(range(len(population))))
    return InProcess().evaluate(problem, population, ids)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_torchs(loss):
    x, y = data(loss)
    population = random_population(9, 3, 4)
    fitness = evaluate(Supervised(x, y, loss=loss, perfect=10.0, classes=4), population)
    out = networks(population)(torch.tensor(x, dtype=torch.float32)).double()
    target = torch.tensor(y)
    judges = {
        "mse": lambda o: F.mse_loss(o, target),
        "squared-error": lambda o: F.mse_loss(o, target, reduction="sum"),
        "cross-entropy": lambda o: F.cross_entropy(o, target),
        "accuracy": lambda o: (o.argmax(1) != target).double().mean(),
    }
    wanted = torch.stack([10.0 - judges[loss](o) for o in out])
    torch.testing.assert_close(fitness, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_whatever_shares_the_call_changes_no_bit(loss):
    population = random_population(37, 3, 4)
    for samples in (1, 13, 64):
        problem = Supervised(
            *data(loss, samples), loss=loss, **({} if loss in LOSSES[:2] else {"classes": 4})
        )
        whole = evaluate(problem, population)
        for row in range(37):
            alone = evaluate(problem, population.select(slice(row, row + 1)))
            assert torch.equal(alone, whole[row : row + 1]), (samples, row)


@pytest.mark.parametrize("loss", ["squared-error", "cross-entropy"])
def test_threads_change_no_bit_either(loss):
    population = random_population(3, 3, 4)
    classes = {"classes": 4} if loss == "cross-entropy" else {}
    problem = Supervised(*data(loss, 50_001), loss=loss, **classes)
    wanted = evaluate(problem, population)
    torch.set_num_threads(2)
    assert torch.equal(evaluate(problem, population), wanted)
    for row in range(3):
        alone = evaluate(problem, population.select(slice(row, row + 1)))
        assert torch.equal(alone, wanted[row : row + 1])


def test_a_huge_output_still_has_a_fitness():
    node = NodeGene(0, 1e18, activation="identity")
    population = Population.from_genomes([Genome(1, 1, (node,)), Genome(1, 1, (NodeGene(0),))])
    for loss, y in (("mse", [[1.0]]), ("cross-entropy", [0])):
        assert evaluate(Supervised([[0.0]], y, loss=loss), population).isfinite().all()


def test_xor_is_the_table_and_its_solution_is_solved():
    problem = xor()
    assert (problem.inputs, problem.outputs, problem.perfect) == (2, 1, 4.0)
    population = Population.from_genomes([SOLVED_XOR, Genome(2, 1, (NodeGene(0),))])
    fitness = evaluate(problem, population)
    assert 3.9 < fitness[0] < 4.0
    assert fitness[1] == 3.0  # always one half: 4 - 4 · ¼


def test_parity_counts_the_ones():
    half = Population.from_genomes([Genome(3, 1, (NodeGene(0),))])
    assert evaluate(xor3d(), half).item() == 6.0
    zero = Population.from_genomes([Genome(3, 1, (NodeGene(0, activation="identity"),))])
    assert evaluate(parity(3), zero).item() == 4.0  # half of the eight are odd
    with pytest.raises(ValueError, match="expected 1 to 16 bits, got 0"):
        parity(0)


def test_samples_kept_apart_are_judged_apart():
    population = random_population(5, 3, 4)
    (x, y), (x_test, y_test) = data("mse"), data("mse", 29)
    problem = Supervised(x, y, x_test=x_test, y_test=y_test)
    judged = problem.test_fitness(networks(population))
    assert torch.equal(judged, evaluate(Supervised(x_test, y_test), population))
    assert not torch.equal(judged, evaluate(problem, population))
    with pytest.raises(ValueError, match="no samples are kept apart; give x_test and y_test"):
        Supervised(x, y).test_fitness(networks(population))


@given(st.lists(st.floats(-1e6, 1e6), max_size=70), st.integers(1, 9))
def test_row_sums_add_in_one_order(values, rows):
    row = torch.tensor(values, dtype=torch.float64)
    alone = row_sums(row)
    assert alone.shape == ()
    assert abs(alone.item() - sum(values)) <= 1e-9 * max(1.0, sum(map(abs, values)))
    others = torch.randn(rows, len(values), dtype=torch.float64)
    assert torch.equal(row_sums(torch.cat([others, row[None], others]))[rows], alone)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[1.0]], [[1.0]]), {"loss": "hinge"}, "expected a loss of .*, got 'hinge'"),
        (([1.0], [[1.0]]), {}, r"expected x of shape \(samples, inputs\), got \(1,\)"),
        (([[1.0]], [1.0]), {}, r"expected y of shape \(1, outputs\), got \(1,\); .* y\[:, None\]"),
        (([[1.0]], [[1.0], [2.0]]), {}, r"expected y of shape \(1, outputs\), got \(2, 1\)"),
        (([[np.nan]], [[1.0]]), {}, "x holds NaN or infinite values"),
        (([[1.0]], [[np.inf]]), {}, "y holds NaN or infinite values"),
        (([[1.0]], [[0]]), {"loss": "accuracy"}, r"a class for each sample, got \(1, 1\)"),
        (([[1.0]], [0.0]), {"loss": "accuracy"}, "integer classes from 0, got torch.float64"),
        (([[1.0]], [-1]), {"loss": "cross-entropy"}, "got torch.int64 from -1"),
        (([[1.0]], [3]), {"loss": "cross-entropy", "classes": 3}, "classes 0 … 2, got 3"),
        (([[1.0]], [[1.0]]), {"x_test": [[1.0]]}, "expected x_test and y_test together"),
        (
            ([[1.0]], [[1.0]]),
            {"x_test": [[1.0, 2.0]], "y_test": [[1.0]]},
            r"expected x_test as wide as x, \(1,\), got \(2,\)",
        ),
    ],
)
def test_bad_data_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        Supervised(*arguments, **options)
