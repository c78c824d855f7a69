"""Distances by definition, species by the loop over genomes, and how many children each has."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.neuroevo import distance as distances
from gonzo.neuroevo.config import NEATConfig
from gonzo.neuroevo.distance import distance
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.speciation import divide
from gonzo.neuroevo.species import Species, offspring, survivors

PYTHON = NEATConfig()
CANONICAL = NEATConfig.canonical()


def canonical(a, b, c1, c2, c3):
    one = {g.innovation: g for g in a.connections}
    two = {g.innovation: g for g in b.connections}
    both = one.keys() & two.keys()
    last = min(max(one, default=-1), max(two, default=-1))
    apart = one.keys() ^ two.keys()
    excess = sum(mark > last for mark in apart)
    genes = max(len(one), len(two))
    genes = 1 if genes < 20 else genes
    gaps = [abs(one[m].weight - two[m].weight) for m in both]
    mean = sum(gaps) / len(gaps) if gaps else 0.0
    return (c1 * excess + c2 * (len(apart) - excess)) / genes + c3 * mean


def neat_python(a, b, c1, c3):
    def part(one, two, gap):
        apart = len(one.keys() ^ two.keys())
        total = sum(gap(one[k], two[k]) for k in one.keys() & two.keys())
        return (c1 * apart + c3 * total) / max(len(one), len(two), 1)

    return part(
        {n.key: n for n in a.nodes},
        {n.key: n for n in b.nodes},
        lambda p, q: (
            abs(p.bias - q.bias)
            + abs(p.response - q.response)
            + abs(p.time_constant - q.time_constant)
            + (p.activation != q.activation)
            + (p.aggregation != q.aggregation)
        ),
    ) + part(
        {g.innovation: g for g in a.connections},
        {g.innovation: g for g in b.connections},
        lambda p, q: abs(p.weight - q.weight) + (p.enabled != q.enabled),
    )


@pytest.mark.parametrize("rounds", [2, 8, 40])
def test_distances_are_their_definition(grown, rounds):
    people = grown(12, rounds=rounds, dtype=torch.float32)
    others = people.select(slice(0, 5))
    genomes = people.genomes()
    for config in (PYTHON, CANONICAL, replace(CANONICAL, excess=0.3, disjoint=2.0)):
        apart = distance(people, others, config)
        on_any_device = torch.stack(
            [
                (
                    distances._canonical
                    if config.distance == "canonical"
                    else distances._neat_python
                )(people, others.select(slice(r, r + 1)), config)
                for r in range(5)
            ]
        )
        torch.testing.assert_close(on_any_device, apart, rtol=1e-5, atol=1e-5)
        for r in range(5):
            for p in range(12):
                c1, c2, c3 = config.excess, config.disjoint, config.difference
                if config.distance == "canonical":
                    expected = canonical(genomes[p], genomes[r], c1, c2, c3)
                else:
                    expected = neat_python(genomes[p], genomes[r], c1, c3)
                assert float(apart[r, p]) == pytest.approx(expected, abs=1e-5)
        assert torch.equal(apart[:, :5].diagonal(), torch.zeros(5))


def test_distances_of_genomes_without_genes():
    bare = Population.from_genomes([Genome(1, 1, (NodeGene(0, 0.5),))])
    linked = Population.from_genomes(
        [Genome(1, 1, (NodeGene(0, 0.5),), (ConnectionGene(-1, 0, 1.0),))]
    )
    for config in (PYTHON, CANONICAL):
        assert float(distance(bare, bare, config)) == 0
        assert float(distance(bare, linked, config)) == float(distance(linked, bare, config)) == 1


def sequential(apart, reps, threshold, most, rule):
    """The loop over genomes that speciation is defined by; `apart` (P, P), `reps` positions."""
    size = len(apart)
    member_of = [-1] * size
    centres = list(reps)
    if rule == "nearest":
        taken = []
        for rep in reps:
            free = [p for p in range(size) if p not in taken]
            taken.append(min(free, key=lambda p: apart[rep][p]))
        centres = taken
        for s, p in enumerate(taken):
            member_of[p] = s
    for p in range(size):
        if member_of[p] >= 0:
            continue
        near = [s for s, c in enumerate(centres) if apart[c][p] < threshold]
        if near:
            member_of[p] = (
                near[0] if rule == "random" else min(near, key=lambda s: apart[centres[s]][p])
            )
        elif len(centres) < most:
            member_of[p] = len(centres)
            centres.append(p)
        else:
            member_of[p] = min(range(len(centres)), key=lambda s: apart[centres[s]][p])
    return member_of, centres


@pytest.mark.parametrize("rule", ["nearest", "random"])
@pytest.mark.parametrize("threshold", [0.5, 1.2, 2.0, 9.0])
def test_species_are_those_of_the_loop(grown, rule, threshold):
    for seed in range(6):
        people = grown(40, seed=seed, rounds=5, dtype=torch.float32)
        config = replace(PYTHON, population=40, representatives=rule, min_species_size=1, elitism=0)
        apart = distance(people, people, config).tolist()
        for reps in ([], [3, 17], [0, 1, 2, 3, 4, 5]):
            old = people.select(torch.tensor(reps)) if reps else None
            got = divide(people, old, config, threshold)
            expected, centres = sequential(apart, reps, threshold, 40, rule)
            assert got.member_of.tolist() == expected
            assert got.old == len(reps)
            assert got.representatives.genomes() == [people.genome(c) for c in centres]


def test_when_there_is_no_room_for_a_species_the_nearest_is_joined(grown):
    people = grown(30, dtype=torch.float32)
    config = replace(PYTHON, population=30, max_species=3)
    got = divide(people, None, config, 1e-9)
    assert len(got.representatives) == 3
    apart = distance(people, got.representatives, config)
    assert torch.equal(got.member_of[3:], apart.argmin(0)[3:])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 60)), min_size=1, max_size=12),
    st.sampled_from(["neat-python", "canonical"]),
    st.integers(0, 3),
)
def test_sizes_add_up_and_keep_the_minimum(species, rule, smallest):
    mean, sizes = (np.array(column, dtype=float) for column in zip(*species, strict=True))
    total = max(int(sizes.sum()), 4 * len(species))
    config = replace(
        PYTHON, population=total, spawn=rule, min_species_size=smallest, elitism=smallest
    )
    counts = offspring(mean, sizes, float(mean.min()) - 0.5, float(mean.max()) + 0.5, config)
    assert counts.sum() == total
    assert (counts >= (config.least_species_size if rule == "neat-python" else 0)).all()


def test_canonical_sizes_are_proportional():
    config = replace(CANONICAL, population=100)
    counts = offspring(np.array([1.0, 2.0, 7.0]), np.array([33.0, 33, 34]), 0.0, 9.0, config)
    assert counts.tolist() == [10, 20, 70]
    counts = offspring(np.zeros(3), np.array([33.0, 33, 34]), 0.0, 0.0, config)
    assert sorted(counts) == [33, 33, 34]


def test_neat_python_sizes_move_half_way():
    config = replace(PYTHON, population=100, min_species_size=1, elitism=0)
    counts = offspring(np.array([0.0, 1.0]), np.array([50.0, 50.0]), 0.0, 1.0, config)
    assert counts.tolist() == [26, 74]  # wanted 1 and 100: half-way is 26 and 75, to scale


def test_a_species_without_progress_goes_and_the_best_stay():
    config = replace(PYTHON, stagnation=3, protected_species=1)
    species = [Species(1, 0, 0), Species(2, 0, 0), Species(3, 0, 0)]
    assert survivors(species, np.array([1.0, 2.0, 3.0]), config, 0, 0) == [0, 1, 2]
    assert survivors(species, np.array([1.0, 2.5, 3.0]), config, 2, 0) == [0, 1, 2]
    assert survivors(species, np.array([1.0, 2.5, 3.0]), config, 3, 0) == [1, 2]
    assert survivors(species, np.array([1.0, 2.5, 3.0]), config, 9, 9) == [2]
    none = replace(config, protected_species=0)
    assert survivors(species, np.array([1.0, 2.5, 3.0]), none, 9, 9) == [2]


def test_without_progress_of_all_only_two_species_reproduce():
    species = [Species(i, 0, 19) for i in range(4)]
    score = np.array([4.0, 1.0, 3.0, 2.0])
    assert survivors(species, score, CANONICAL, 20, 19) == [0, 1, 2, 3]
    assert survivors(species, score, CANONICAL, 20, 20) == [0, 2]
