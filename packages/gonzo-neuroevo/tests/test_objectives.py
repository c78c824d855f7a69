"""Objectives of a multi-objective selection: novelty, age, complexity, and the table of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.neuroevo.age import Age
from gonzo.neuroevo.complexity import Complexity
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.novelty import Novelty, NoveltyArchive, novelty
from gonzo.neuroevo.objectives import Reward, objective_table
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.ranking import non_dominated_rank


@pytest.fixture
def population() -> Population:
    small = Genome(2, 1, (NodeGene(0),), (ConnectionGene(-1, 0, 1.0),))
    large = Genome(
        2,
        1,
        (NodeGene(0), NodeGene(1), NodeGene(2)),
        (
            ConnectionGene(-1, 1, 1.0),
            ConnectionGene(-2, 1, 1.0),
            ConnectionGene(1, 2, 1.0),
            ConnectionGene(2, 0, 1.0),
            ConnectionGene(-1, 0, 1.0, enabled=False),
        ),
    )
    return Population.from_genomes([small, large, small])


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 20), st.integers(1, 3), st.integers(1, 20))
def test_novelty_is_the_mean_distance_to_the_nearest(size, archived, dimensions, neighbours):
    generator = torch.Generator().manual_seed(size)
    points = torch.randint(0, 5, (size + archived, dimensions), generator=generator).double()
    scores = novelty(points[:size], points[size:], neighbours=neighbours)
    for row in {0, size // 2, size - 1}:
        others = [
            math.dist(points[row].tolist(), other.tolist())
            for i, other in enumerate(points)
            if i != row
        ]
        nearest = sorted(others)[:neighbours]
        expected = sum(nearest) / len(nearest) if nearest else 0.0
        assert scores[row].item() == pytest.approx(expected, rel=1e-12)


def test_near_behaviours_far_from_zero_keep_their_digits():
    near = torch.tensor([[1e6 / 3, 1e6 / 7], [1e6 / 3 + 0.1, 1e6 / 7 + 0.3]], dtype=torch.float64)
    scores = novelty(near)
    torch.testing.assert_close(scores, scores.new_full((2,), math.sqrt(0.1)), rtol=1e-8, atol=0)


def test_the_archive_keeps_the_most_novel_and_drops_the_oldest():
    archive = NoveltyArchive.empty(1, capacity=3)
    archive = archive.add(
        torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0.1, 0.3, 0.3]), count=2
    )
    assert archive.behaviours.tolist() == [[2.0], [3.0]]
    later = archive.add(torch.tensor([[4.0], [5.0]]), torch.tensor([0.0, 1.0]), count=2)
    assert later.behaviours.tolist() == [[3.0], [5.0], [4.0]]
    assert archive.behaviours.tolist() == [[2.0], [3.0]]
    assert later.add(torch.zeros(0, 1), torch.zeros(0)).behaviours.tolist() == [[3.0], [5.0], [4.0]]


def test_novelty_bad_input():
    with pytest.raises(ValueError, match=r"expected behaviours of shape \(P, d\), got \(3,\)"):
        novelty(torch.zeros(3))
    with pytest.raises(ValueError, match=r"expected an archive of shape \(m, 2\)"):
        novelty(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="expected at least 1 neighbour, got 0"):
        novelty(torch.zeros(3, 2), neighbours=0)
    with pytest.raises(ValueError, match="behaviour 1 holds NaN"):
        novelty(torch.tensor([[0.0], [math.nan]]))
    with pytest.raises(ValueError, match="with m <= 2, the capacity"):
        NoveltyArchive(torch.zeros(3, 1), 2)


def test_ages_of_a_lineage():
    age = Age.newborn(3).older()
    children = age.children(torch.tensor([2, 0]), torch.tensor([True, False]))
    assert children.ages.tolist() == [0, 1]
    together = age.followed_by(children).older()
    assert together.ages.tolist() == [2, 2, 2, 1, 2]
    assert together.select(torch.tensor([3, 0])).ages.tolist() == [1, 2]
    assert age.ages.tolist() == [1, 1, 1]


def test_age_shields_a_worse_newborn(population):
    fitness = torch.tensor([5.0, 1.0, 0.5], dtype=torch.float64)
    ages = Age(torch.tensor([9, 1, 9]))
    table = objective_table([ages, Reward()], population, fitness)
    assert non_dominated_rank(table).tolist() == [0, 0, 1]


def test_age_bad_input(population):
    with pytest.raises(ValueError, match=r"expected ages of shape .* Age.newborn"):
        Age(torch.zeros(3))
    with pytest.raises(ValueError, match="expected changed as bool"):
        Age.newborn(3).children(torch.tensor([0]), torch.tensor([1]))
    with pytest.raises(ValueError, match="expected 4 genomes, one for each age, got 3"):
        Age.newborn(4).values(population, torch.zeros(3))


def test_complexity_counts_what_is_on(population):
    fitness = torch.zeros(3)
    assert Complexity().values(population, fitness).tolist() == [1, 4, 1]
    assert Complexity(connection=0.5, node=10).values(population, fitness).tolist() == [
        0.5,
        22,
        0.5,
    ]


def test_table(population):
    behaviours = torch.tensor([[0.0], [3.0], [1.0]])
    nearest = Novelty(lambda _: behaviours, NoveltyArchive.empty(1, 10), neighbours=1)
    table = objective_table([Reward(), nearest], population, torch.tensor([1.0, 2.0, -math.inf]))
    assert table.tolist() == [[-1, -1], [-2, -2], [math.inf, -1]]
    assert table.dtype == torch.float64


def test_table_bad_input(population):
    class Wide:
        def values(self, population, fitness):
            return fitness[:, None]

    fitness = torch.tensor([1.0, math.nan, 2.0])
    with pytest.raises(ValueError, match="expected at least one objective"):
        objective_table([], population, fitness)
    with pytest.raises(ValueError, match=r"expected fitness of shape \(3,\).* got \(2,\)"):
        objective_table([Reward()], population, fitness[:2])
    with pytest.raises(ValueError, match=r"expected Wide.values of shape \(3,\), got \(3, 1\)"):
        objective_table([Wide()], population, fitness)
    with pytest.raises(ValueError, match=r"Reward.values is NaN for genome 1; give .* infinity"):
        objective_table([Reward()], population, fitness)
