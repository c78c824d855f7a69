"""Mutations: what they change, what they keep, and that the same change gets the same marks."""

from dataclasses import replace

import pytest
import torch

from gonzo.neuroevo.config import Choice, NEATConfig, Number
from gonzo.neuroevo.initial import initial_population
from gonzo.neuroevo.innovation import Innovations
from gonzo.neuroevo.mutation import (
    add_connections,
    delete_genes,
    mutate,
    mutate_numbers,
    split_connections,
)
from gonzo.neuroevo.order import has_cycle
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import PAD

STILL = Number(mutate=0.0, replace=0.0)


def start(size=50, inputs=3, outputs=2, **rules):
    config = replace(NEATConfig(population=size), **rules)
    generator = torch.Generator().manual_seed(1)
    people = initial_population(inputs, outputs, config, generator, dtype=torch.float64)
    edges = people.weight.shape[1]
    return people, config, Innovations(outputs + config.initial_hidden, edges), generator


def sane(people):
    """Sorted, unique, masked, and every connection between nodes that exist."""
    for key, mask in (
        (people.node_key, people.node_mask),
        (people.innovation, people.connection_mask),
    ):
        assert (key[~mask] == PAD).all()
        live = mask[:, 1:]
        assert (key[:, 1:] > key[:, :-1])[live].all()
    people.genomes()  # which checks itself
    for row, genome in enumerate(people.genomes()):
        assert len(genome.nodes) == int(people.node_mask[row].sum())


def test_a_split_in_one_generation_has_one_mark():
    people, config, marks, generator = start(40)
    every = torch.ones(40, dtype=torch.bool)
    split, refused = split_connections(people, every, config, marks, generator)
    sane(split)
    assert refused == 0
    seen = {}
    for old, new in zip(people.genomes(), split.genomes(), strict=True):
        (gone,) = [(g.source, g.target, g.weight) for g in new.connections if not g.enabled]
        into, out = new.connections[-2:]
        assert (into.source, out.target) == gone[:2]
        assert (into.weight, out.weight) == (1.0, gone[2])
        assert into.target == out.source == new.nodes[-1].key
        assert new.nodes[-1].bias == 0
        assert old.connections[: len(old.connections)] != new.connections
        marks_of = (new.nodes[-1].key, into.innovation, out.innovation)
        assert seen.setdefault(gone[:2], marks_of) == marks_of
    assert len(set(seen.values())) == len(seen) == 6  # of 3 × 2 connections, all were drawn
    again, _ = split_connections(people, every, config, marks, generator)
    keys = {g.nodes[-1].key for g in split.genomes()}
    assert not keys & {g.nodes[-1].key for g in again.genomes()}  # another generation: other marks


def test_an_identity_split_keeps_the_function(grown):
    people = grown(60, seed=3)
    config = NEATConfig(population=60, split_activation="identity", split="enabled")
    marks = Innovations(10_000, 100_000)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, dtype=torch.float64)
    before = networks(people)(x)
    every = torch.ones(60, dtype=torch.bool)
    for _ in range(3):
        people, _ = split_connections(people, every, config, marks, generator)
    after = networks(people)(x)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)
    plain, _ = split_connections(
        people, every, replace(config, split_activation=""), marks, generator
    )
    assert (networks(plain)(x) - before).abs().max() > 1e-3  # the paper's own split does not


def test_many_generations_stay_sane_and_acyclic():
    people, config, marks, generator = start(
        80, add_node=0.5, add_connection=0.9, delete_node=0.2, delete_connection=0.2
    )
    for _ in range(15):
        people = mutate(people, config, marks, generator).population
        sane(people)
        assert not has_cycle(people).any()
    assert int(people.node_mask.sum(1).max()) > 4


def test_recurrent_networks_get_cycles():
    people, config, marks, generator = start(80, kind="recurrent", add_connection=1.0)
    for _ in range(10):
        people = mutate(people, config, marks, generator).population
        sane(people)
    assert has_cycle(people).any()
    assert ((people.source == 0) | (people.source == 1)).any()  # outputs feed back


def test_the_same_new_connection_has_one_mark():
    people, config, marks, generator = start(64, initial_connections="unconnected")
    every = torch.ones(64, dtype=torch.bool)
    people, _ = add_connections(people, every, config, marks, generator)
    sane(people)
    seen = {}
    for genome in people.genomes():
        for gene in genome.connections:
            assert seen.setdefault((gene.source, gene.target), gene.innovation) == gene.innovation
    assert len(seen) == 6
    assert len(set(seen.values())) == 6
    people, _ = add_connections(people, every, config, marks, generator)
    for genome in people.genomes():  # none comes twice
        assert len({(g.source, g.target) for g in genome.connections}) == len(genome.connections)


def test_an_existing_connection_is_enabled_on_request():
    people, config, marks, generator = start(64, inputs=1, outputs=1)
    people = people.with_(enabled=torch.zeros_like(people.enabled))
    every = torch.ones(64, dtype=torch.bool)
    same, _ = add_connections(people, every, config, marks, generator)
    assert not same.enabled.any()
    config = replace(config, enable_existing=True)
    surer, _ = add_connections(people, every, config, marks, generator)
    assert surer.enabled.sum() == 64
    assert surer.crop().weight.shape == (64, 1)


def test_deletion_takes_the_node_with_its_connections(grown):
    people = grown(50, rounds=10)
    rows = torch.ones(50, dtype=torch.bool)
    none = ~rows
    less = delete_genes(people, rows, none, torch.Generator().manual_seed(0))
    sane(less)
    for before, after in zip(people.genomes(), less.genomes(), strict=True):
        gone = {n.key for n in before.nodes} - {n.key for n in after.nodes}
        assert len(gone) == (1 if len(before.nodes) > 2 else 0)
        assert set(before.connections) - set(after.connections) == {
            g for g in before.connections if {g.source, g.target} & gone
        }
        assert {n.key for n in after.nodes} >= {0, 1}
    fewer = delete_genes(people, none, rows, torch.Generator().manual_seed(0))
    for before, after in zip(people.genomes(), fewer.genomes(), strict=True):
        assert len(after.connections) == max(0, len(before.connections) - 1)


def test_no_room_is_said_and_nothing_is_dropped():
    people, config, marks, generator = start(30, max_nodes=3, max_connections=8)
    total = 0
    for _ in range(12):
        before = people.genomes()
        people, refused = split_connections(
            people, torch.ones(30, dtype=torch.bool), config, marks, generator
        )
        total += refused
        for old, new in zip(before, people.genomes(), strict=True):
            assert {n.key for n in old.nodes} <= {n.key for n in new.nodes}
            assert len(new.nodes) <= 3
    assert total == 30 * 11
    people, refused = add_connections(
        people,
        torch.ones(30, dtype=torch.bool),
        replace(config, max_connections=8),
        marks,
        generator,
    )
    assert refused == 0 or int(people.connection_mask.sum(1).max()) == 8


def test_rates_of_numbers():
    rule = Number(std=2.0, mutate=0.3, power=0.1, replace=0.2, low=-100, high=100)
    people, config, _, generator = start(2000, weight=rule, bias=STILL)
    changed = mutate_numbers(people, config, generator)
    assert torch.equal(changed.bias, people.bias)
    moved = (changed.weight - people.weight).abs()
    assert float((moved > 0).double().mean()) == pytest.approx(0.5, abs=0.02)
    assert float((moved > 0.6).double().mean()) == pytest.approx(0.2 * 0.83, abs=0.02)
    assert changed.response.eq(1).all()


def test_canonical_children_keep_all_weights_one_time_in_five():
    people, config, _, generator = start(2000, weights_probability=0.8)
    changed = mutate_numbers(people, config, generator)
    same = (changed.weight == people.weight).all(1)
    assert float(same.double().mean()) == pytest.approx(0.2, abs=0.03)


def test_bounds_functions_and_flags():
    people, config, _, generator = start(
        500,
        weight=Number(power=50.0, low=-1.0, high=2.0),
        activation=Choice(("tanh", "sin", "relu"), initial="tanh", mutate=0.3),
        enabled_mutate=0.4,
    )
    assert people.activation.unique().tolist() == [2]  # tanh
    changed = mutate_numbers(people, config, generator)
    assert float(changed.weight.min()) == -1
    assert float(changed.weight.max()) == 2
    other = (changed.activation != people.activation).double().mean()
    assert float(other) == pytest.approx(0.2, abs=0.04)
    assert float((~changed.enabled).double().mean()) == pytest.approx(0.2, abs=0.03)


def test_one_structural_mutation_at_most():
    people, config, marks, generator = start(
        300,
        add_node=0.4,
        add_connection=0.3,
        delete_connection=0.3,
        delete_node=0.0,
        single_structural_mutation=True,
        initial_hidden=1,
        initial_direct=False,
        weight=STILL,
    )
    changed = mutate(people, config, marks, generator).population
    kinds = set()
    for old, new in zip(people.genomes(), changed.genomes(), strict=True):
        grew = (
            len(new.nodes) - len(old.nodes),
            len(new.connections) - len(old.connections),
        )
        kinds.add(grew)
    assert kinds <= {(1, 2), (0, 1), (0, -1), (0, 0)}
    assert {(1, 2), (0, 1), (0, -1)} <= kinds


@pytest.mark.parametrize(
    ("rules", "edges"),
    [
        ({"initial_connections": "full"}, 6),
        ({"initial_connections": "unconnected"}, 0),
        ({"initial_connections": "full", "initial_hidden": 2}, 3 * 2 + 2 * 2 + 6),
        ({"initial_connections": "full", "initial_hidden": 2, "initial_direct": False}, 10),
        ({"initial_connections": "one-input"}, 2),
    ],
)
def test_first_genomes(rules, edges):
    people, *_ = start(20, **rules)
    sane(people)
    assert people.connection_mask.sum(1).tolist() == [edges] * 20


def test_partly_connected_first_genomes():
    people, *_ = start(1000, initial_connections="partial", initial_fraction=0.3)
    sane(people)
    assert float(people.connection_mask.sum()) / 6000 == pytest.approx(0.3, abs=0.03)
    one = start(50, inputs=0, outputs=1)[0]
    assert networks(one)(torch.zeros(2, 0, dtype=torch.float64)).shape == (50, 2, 1)
    with pytest.raises(ValueError, match="at least one input"):
        start(50, inputs=0, initial_connections="one-input")
