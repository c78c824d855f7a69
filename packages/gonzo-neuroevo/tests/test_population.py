"""Genomes into tensors and back, and what a genome may not be."""

import pytest
import torch

from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.population import CONNECTION_FIELDS, NODE_FIELDS, PAD, Population


def equal(one, other):
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in NODE_FIELDS + CONNECTION_FIELDS
    )


def test_genomes_come_back_as_they_were(grown):
    people = grown(30)
    assert equal(Population.from_genomes(people.genomes(), dtype=torch.float64), people)


def test_rows_are_sorted_and_padding_is_last(grown):
    people = grown(30)
    for key, mask in (
        (people.node_key, people.node_mask),
        (people.innovation, people.connection_mask),
    ):
        assert (key[:, 1:] >= key[:, :-1]).all()
        assert (key[~mask] == PAD).all()
        assert (key[mask] < 2**40).all()
        assert not (~mask[:, :-1] & mask[:, 1:]).any()


def test_keys_beyond_float_precision_stay_apart():
    large = 2**53
    genome = Genome(
        1,
        1,
        (NodeGene(0), NodeGene(large), NodeGene(large + 1)),
        (
            ConnectionGene(-1, large, 1.0, innovation=large),
            ConnectionGene(large, large + 1, 2.0, innovation=large + 1),
            ConnectionGene(large + 1, 0, 3.0, innovation=large + 2),
        ),
    )
    wide = Population.cat([Population.from_genomes([genome])]).resize(9, 9).crop()
    assert wide.genomes() == [genome]


def test_select_cat_and_resize(grown):
    people = grown(10)
    back = Population.cat([people.select(slice(0, 3)), people.select(torch.arange(3, 10))])
    assert equal(back.crop(), people)
    assert equal(people.resize(40, 50).crop(), people)
    assert people.genome(-1) == people.genomes()[-1]
    mask = torch.zeros(10, dtype=torch.bool)
    mask[4] = True
    assert people.select(mask).genomes() == [people.genome(4)]
    arrays = Population.from_arrays(3, 2, people.arrays())
    assert equal(arrays, people)


def test_genes_without_innovation_number_share_one_by_their_ends():
    nodes = (NodeGene(0), NodeGene(1))
    first = Genome(1, 2, nodes, (ConnectionGene(-1, 0, 1.0), ConnectionGene(-1, 1, 2.0)))
    second = Genome(1, 2, nodes, (ConnectionGene(-1, 1, 3.0),))
    people = Population.from_genomes([first, second])
    assert people.innovation[1, 0] == people.innovation[0, 1]


@pytest.mark.parametrize(
    ("nodes", "connections", "message"),
    [
        ([], [], "no node gene for output 0"),
        ([NodeGene(0), NodeGene(0)], [], "node key 0 comes more than once"),
        ([NodeGene(0)], [ConnectionGene(-1, 3, 1.0)], "-1 → 3 ends at a node that does not"),
        ([NodeGene(0)], [ConnectionGene(-3, 0, 1.0)], "inputs are -1 … -2"),
        ([NodeGene(0)], [ConnectionGene(0, -1, 1.0)], "nothing connects into an input"),
        ([NodeGene(0)], [ConnectionGene(-1, 0, float("nan"))], "weight nan, expected a number"),
        ([NodeGene(0)], [ConnectionGene(-1, 0, 1.0)] * 2, "connection .* more than once"),
        (
            [NodeGene(0)],
            [ConnectionGene(-1, 0, 1.0, innovation=5), ConnectionGene(-2, 0, 1.0, innovation=5)],
            "innovation number 5 comes more than once",
        ),
        ([NodeGene(0, bias=float("inf"))], [], "bias inf, expected a number"),
        ([NodeGene(0, time_constant=0.0)], [], "time_constant 0.0, expected above 0"),
        ([NodeGene(0, activation="sigmoidd")], [], "'sigmoidd', expected one of"),
        ([NodeGene(-1), NodeGene(0)], [], "inputs .negative keys. have no gene"),
        ([NodeGene(0)], [ConnectionGene(-1, 0, 1.0, innovation=2**62)], "innovation number"),
    ],
)
def test_a_genome_that_cannot_be(nodes, connections, message):
    with pytest.raises(ValueError, match=message):
        Genome(2, 1, tuple(nodes), tuple(connections))


def test_genomes_of_different_widths():
    one = Genome(1, 1, (NodeGene(0),))
    two = Genome(2, 1, (NodeGene(0),))
    with pytest.raises(ValueError, match="genome 1 has 2 and 1"):
        Population.from_genomes([one, two])
    with pytest.raises(ValueError, match="at least one genome"):
        Population.from_genomes([])
    arrays = Population.from_genomes([one]).arrays()
    del arrays["weight"]
    with pytest.raises(ValueError, match="without \\['weight'\\]"):
        Population.from_arrays(1, 1, arrays)
