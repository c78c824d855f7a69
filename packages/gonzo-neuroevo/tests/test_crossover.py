"""Children of two parents: whose genes they have."""

from dataclasses import replace

import pytest
import torch

from gonzo.neuroevo.config import NEATConfig
from gonzo.neuroevo.crossover import crossover
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.order import has_cycle
from gonzo.neuroevo.population import Population

CONFIG = NEATConfig(population=2)
BOTH = replace(CONFIG, equal_parents="both")


def pairs(grown, size=60, **rules):
    people = grown(size, **rules)
    mates = people.select(torch.randperm(size, generator=torch.Generator().manual_seed(5)))
    return people, mates, torch.ones(size, dtype=torch.bool)


def generator():
    return torch.Generator().manual_seed(7)


def by_mark(genome):
    return {gene.innovation: gene for gene in genome.connections}


def test_structure_is_the_fitter_ones_and_numbers_are_either_ones(grown):
    people, mates, equal = pairs(grown)
    children, refused = crossover(people, mates, equal, CONFIG, generator())
    assert not refused.any()
    own = other = 0
    for a, b, child in zip(people.genomes(), mates.genomes(), children.genomes(), strict=True):
        assert by_mark(child).keys() == by_mark(a).keys()
        assert [n.key for n in child.nodes] == [n.key for n in a.nodes]
        for mark, gene in by_mark(child).items():
            first, second = by_mark(a)[mark], by_mark(b).get(mark)
            assert (gene.source, gene.target) == (first.source, first.target)
            if second is None:
                assert gene == first
                continue
            assert (second.source, second.target) == (first.source, first.target)
            assert gene.weight in (first.weight, second.weight)
            if first.enabled and second.enabled:
                assert gene.enabled
            if first.weight != second.weight:
                own += gene.weight == first.weight
                other += gene.weight == second.weight
        biases = {n.key: n.bias for n in b.nodes}
        for node, before in zip(child.nodes, a.nodes, strict=True):
            assert node.bias in (before.bias, biases.get(node.key))
    assert 0.4 < own / (own + other) < 0.6


def test_a_gene_disabled_in_one_parent_is_disabled_three_times_in_four():
    """Not 7/8, which comes of a coin for the flag and the rule on top of it."""
    nodes = (NodeGene(0),)
    on = Genome(1, 1, nodes, (ConnectionGene(-1, 0, 1.0, True, 0),))
    off = Genome(1, 1, nodes, (ConnectionGene(-1, 0, 1.0, False, 0),))
    size = 4000
    first = Population.from_genomes([on] * size)
    second = Population.from_genomes([off] * size)
    none = torch.zeros(size, dtype=torch.bool)
    for pair in ((first, second), (second, first)):
        child, _ = crossover(*pair, none, CONFIG, generator())
        assert float(child.enabled.double().mean()) == pytest.approx(0.25, abs=0.025)


def test_equal_parents_give_all_their_genes(grown):
    people, mates, equal = pairs(grown, kind="recurrent")
    config = replace(BOTH, kind="recurrent")
    children, _ = crossover(people, mates, equal, config, generator())
    whole = 0
    for a, b, child in zip(people.genomes(), mates.genomes(), children.genomes(), strict=True):
        union = by_mark(a).keys() | by_mark(b).keys()
        ends = [(g.source, g.target) for g in (by_mark(b) | by_mark(a)).values()]
        if len(set(ends)) == len(ends):
            whole += 1
            assert by_mark(child).keys() == union
            assert {n.key for n in child.nodes} == {n.key for n in a.nodes + b.nodes}
        else:
            assert by_mark(child).keys() == by_mark(a).keys()
    assert whole > 10
    unequal, _ = crossover(people, mates, ~equal, config, generator())
    assert [by_mark(g).keys() for g in unequal.genomes()] == [
        by_mark(g).keys() for g in people.genomes()
    ]


def test_no_cycle_comes_of_two_acyclic_parents():
    nodes = (NodeGene(0), NodeGene(1), NodeGene(2))
    up = Genome(
        1, 1, nodes, (ConnectionGene(-1, 1, 1.0, True, 0), ConnectionGene(1, 2, 1.0, True, 5))
    )
    down = Genome(
        1, 1, nodes, (ConnectionGene(-1, 1, 1.0, True, 0), ConnectionGene(2, 1, 1.0, False, 6))
    )
    first, second = Population.from_genomes([up, up]), Population.from_genomes([down, up])
    equal = torch.ones(2, dtype=torch.bool)
    children, _ = crossover(first, second, equal, BOTH, generator())
    assert not has_cycle(children).any()
    assert by_mark(children.genome(0)).keys() == {0, 5}
    free = replace(BOTH, kind="recurrent")
    children, _ = crossover(first, second, equal, free, generator())
    assert by_mark(children.genome(0)).keys() == {0, 5, 6}


def test_acyclic_parents_have_acyclic_children(grown):
    for seed in range(5):
        people, mates, equal = pairs(grown, seed=seed, rounds=12)
        children, _ = crossover(people, mates, equal, BOTH, generator())
        assert not has_cycle(children).any()
        children.genomes()


def test_no_room_for_both_is_counted(grown):
    people, mates, equal = pairs(grown, kind="recurrent")
    most = int(people.connection_mask.sum(1).max())
    config = replace(BOTH, max_connections=most, kind="recurrent")
    children, refused = crossover(people, mates, equal, config, generator())
    assert refused.any()
    assert int(children.connection_mask.sum(1).max()) <= most
    for row in refused.nonzero()[:, 0].tolist():
        assert by_mark(children.genome(row)).keys() == by_mark(people.genome(row)).keys()
