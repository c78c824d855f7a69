"""Problems made of functions, and what is said of functions that misbehave."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gonzo.neuroevo.evaluators import InProcess
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.problem import GenomeFitness, Network, NetworkFitness, checked_fitness
from gonzo.neuroevo.seeds import Episodes

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from evaluated_problems import random_population  # noqa: E402

sys.path.remove(HERE)

EPISODES = Episodes(3, 9, (40, 41, 42))


def linear(weight, bias=0.0):
    node = NodeGene(0, bias, activation="identity")
    return Genome(1, 1, (node,), (ConnectionGene(-1, 0, weight),))


def counter():
    """A recurrent network whose output grows by its input at every tick."""
    node = NodeGene(0, activation="identity")
    return Genome(1, 1, (node,), (ConnectionGene(-1, 0, 1.0), ConnectionGene(0, 0, 1.0)))


def test_a_function_of_all_networks():
    population = Population.from_genomes([linear(w) for w in (1.0, 2.0, -3.0)])
    x = torch.tensor([[2.0], [5.0]])
    problem = NetworkFitness(lambda nets: nets(x).sum((1, 2)), 1, 1)
    fitness = problem.evaluate(networks(population), EPISODES)
    assert fitness.dtype == torch.float64
    assert fitness.tolist() == [7.0, 14.0, -21.0]


def test_a_function_of_one_genome_gets_its_network_and_seeds():
    population = Population.from_genomes([linear(w) for w in (1.0, 2.0, -3.0)])
    calls = []

    def function(network, seed):
        calls.append(seed)
        assert isinstance(network([4.0]), np.ndarray)
        return network([4.0])[0] + seed % 2

    problem = GenomeFitness(function, 1, 1, episodes=2)
    fitness = problem.evaluate(networks(population), EPISODES)
    assert fitness.tolist() == [4.0, 8.0, -12.0]  # training seeds are even
    assert calls == [EPISODES.seed(row, episode) for row in range(3) for episode in range(2)]


def test_the_fitness_is_the_mean_over_episodes():
    population = Population.from_genomes([linear(1.0)])
    one = Episodes(0, 0, (0,))
    problem = GenomeFitness(lambda network, seed: seed, 1, 1, episodes=4)
    assert problem.evaluate(networks(population), one).item() == one.seeds(4).mean()


def test_a_network_takes_a_row_or_rows():
    network = Network(networks(Population.from_genomes([linear(2.0, 1.0)])))
    assert network([3]).tolist() == [7.0]
    assert network([[3.0], [4.0]]).tolist() == [[7.0], [9.0]]
    assert network(np.zeros((0, 1))).shape == (0, 1)
    assert network.step([3.0]).tolist() == [7.0]
    with pytest.raises(ValueError, match=r"expected x of shape \(1,\) or \(samples, 1\), got \(2,"):
        network([1.0, 2.0])
    with pytest.raises(ValueError, match=r"Network.step: expected x of shape \(1,\), got \(2, 1\)"):
        network.step([[1.0], [2.0]])


def test_a_step_keeps_the_state_until_reset():
    network = Network(networks(Population.from_genomes([counter()]), "recurrent", ticks=3))
    assert network([2.0]).tolist() == [6.0]  # three ticks from rest
    assert [network.step([2.0]).item() for _ in range(3)] == [2.0, 4.0, 6.0]
    assert network([2.0]).tolist() == [6.0]  # a call from rest leaves the state alone
    assert network.step([1.0]).tolist() == [7.0]
    network.reset()
    assert network.step([1.0]).tolist() == [1.0]


def test_genomes_do_not_share_state():
    seen = []

    def function(network, seed):
        seen.append(network.step([1.0]).item())
        return 0

    problem = GenomeFitness(function, 1, 1, episodes=2)
    problem.evaluate(networks(Population.from_genomes([counter()] * 3), "recurrent"), EPISODES)
    assert seen == [1.0] * 6


def test_whatever_shares_the_call_changes_no_bit():
    population = random_population(23, 3, 2)
    episodes = Episodes(0, 0, tuple(range(23)))
    x = torch.linspace(-2, 2, 30).reshape(10, 3)
    problem = GenomeFitness(lambda network, seed: network(x.numpy()).sum() + seed, 3, 2)
    whole = InProcess().evaluate(problem, population, episodes)
    assert torch.equal(InProcess(chunk=4).evaluate(problem, population, episodes), whole)


@pytest.mark.parametrize("given", [[1, 2, 3], np.array([1, 2, 3]), torch.tensor([1, 2, 3])])
def test_numbers_come_in_any_form(given):
    fitness = checked_fitness(given, EPISODES)
    assert fitness.dtype == torch.float64
    assert fitness.tolist() == [1.0, 2.0, 3.0]


def test_fitness_carries_no_gradient():
    assert not checked_fitness(torch.ones(3, requires_grad=True), EPISODES).requires_grad


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (torch.ones(3, 1), ValueError, r"one number for each of 3 genomes, got the shape \(3, 1\)"),
        (1.5, ValueError, r"got the shape \(\)"),
        (
            torch.ones(3, dtype=torch.bool),
            TypeError,
            "expected real numbers, got a tensor of torch",
        ),
        (torch.ones(3, dtype=torch.complex64), TypeError, "expected real numbers"),
        (None, TypeError, "expected a tensor of numbers, got NoneType: None"),
        (["a", "b", "c"], TypeError, "expected a tensor of numbers, got list"),
        ([1, math.nan, math.inf], ValueError, "got nan for the genome with id 41 in generation 9"),
        ([1, 2, -math.inf], ValueError, "got -inf for the genome with id 42 .* -1e9 for a failure"),
    ],
)
def test_what_is_no_fitness_is_named(given, error, message):
    problem = NetworkFitness(lambda nets: given, 1, 1)
    with pytest.raises(error, match=message):
        problem.evaluate(networks(Population.from_genomes([linear(1.0)] * 3)), EPISODES)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("far", TypeError, "expected a number for the genome with id 40, got str: 'far'"),
        (None, TypeError, "expected a number for the genome with id 40, got NoneType: None"),
        (math.inf, ValueError, "got inf for the genome with id 40"),
    ],
)
def test_a_function_of_one_genome_that_gives_no_number(given, error, message):
    problem = GenomeFitness(lambda network, seed: given, 1, 1)
    with pytest.raises(error, match=message):
        problem.evaluate(networks(Population.from_genomes([linear(1.0)] * 3)), EPISODES)


def test_bad_widths_are_refused():
    with pytest.raises(ValueError, match="NetworkFitness: expected 0 or more inputs and 1 or more"):
        NetworkFitness(len, 1, 0)
    with pytest.raises(ValueError, match="GenomeFitness: expected 1 or more episodes, got 0"):
        GenomeFitness(max, 1, 1, episodes=0)
