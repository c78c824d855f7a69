"""Networks of a population against one node at a time, in float64."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gonzo.core.ops.population_forward.functions import activate, aggregate
from gonzo.neuroevo import order
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.order import evaluation_order
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population


def node_value(gene, reads, values):
    seen = torch.tensor([w * values[s] for s, w in reads], dtype=torch.float64)
    total = gene.bias + gene.response * aggregate(gene.aggregation, seen)
    return float(activate(gene.activation, total))


def reads_of(genome):
    reads = {gene.key: [] for gene in genome.nodes}
    for gene in sorted(genome.connections, key=lambda one: one.innovation):
        if gene.enabled:
            reads[gene.target].append((gene.source, gene.weight))
    return reads


def feed_forward(genome, x):
    reads = reads_of(genome)
    genes = {gene.key: gene for gene in genome.nodes}
    values = {-1 - i: float(v) for i, v in enumerate(x)}

    def value(key):
        if key not in values:
            for source, _ in reads[key]:
                value(source)
            values[key] = node_value(genes[key], reads[key], values)
        return values[key]

    return [value(key) for key in range(genome.outputs)]


def tick(genome, x, state):
    reads = reads_of(genome)
    values = {-1 - i: float(v) for i, v in enumerate(x)} | state
    return {gene.key: node_value(gene, reads[gene.key], values) for gene in genome.nodes}


@pytest.mark.parametrize("seed", range(4))
def test_feed_forward_is_node_by_node(grown, seed):
    people = grown(20, seed=seed)
    x = torch.randn(5, 3, dtype=torch.float64)
    y = networks(people)(x)
    assert y.shape == (20, 5, 2)
    for row, genome in enumerate(people.genomes()):
        for sample in range(5):
            expected = feed_forward(genome, x[sample])
            assert y[row, sample].tolist() == pytest.approx(expected, abs=1e-12)


def test_recurrent_reads_the_tick_before(grown):
    people = grown(15, kind="recurrent", rounds=6)
    assert order.has_cycle(people).any()
    nets = networks(people, "recurrent", ticks=3)
    x = torch.randn(15, 2, 3, dtype=torch.float64)
    state = nets.rest(2)
    for _ in range(3):
        y, state = nets.step(x, state)
    torch.testing.assert_close(nets(x), y, rtol=0, atol=0)
    for row, genome in enumerate(people.genomes()):
        for sample in range(2):
            values = {gene.key: 0.0 for gene in genome.nodes}
            for _ in range(3):
                values = tick(genome, x[row, sample], values)
            assert y[row, sample].tolist() == pytest.approx([values[0], values[1]], abs=1e-12)


def test_continuous_time_relaxes_with_its_time_constant():
    """A node that reads a constant input c settles as c (1 - (1 - dt/τ)^n)."""
    genome = Genome(
        1,
        2,
        (NodeGene(0, 0.0, 1.0, "identity"), NodeGene(1, 0.0, 1.0, "identity", time_constant=2.0)),
        (ConnectionGene(-1, 0, 3.0), ConnectionGene(-1, 1, 3.0)),
    )
    people = Population.from_genomes([genome], dtype=torch.float64)
    nets = networks(people, "ctrnn", ticks=7, time_step=0.1)
    y = nets(torch.tensor([[0.5]], dtype=torch.float64))[0, 0]
    expected = [1.5 * (1 - (1 - 0.1 / tau) ** 7) for tau in (1, 2)]
    assert y.tolist() == pytest.approx(expected, abs=1e-12)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 9))
def test_a_genome_gives_the_same_bits_alone(grown, seed, size):
    people = grown(size, seed=seed, dtype=torch.float32)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))
    for kind in ("feed-forward", "recurrent", "ctrnn"):
        nets = networks(people, kind)
        together = nets(x)
        for row in range(size):
            alone = networks(people.select(slice(row, row + 1)).crop(), kind)(x)
            assert torch.equal(alone[0], together[row])
            assert torch.equal(nets.select(torch.tensor([row]))(x)[0], together[row])


def test_both_orders_agree(grown):
    """What other devices compute gives the same outputs, prunes the same nodes, sees cycles."""
    for kind in ("feed-forward", "recurrent"):
        people = grown(40, kind=kind, rounds=10)
        for acyclic in (True, False):
            walked = evaluation_order(people, acyclic=acyclic)
            relaxed = order._relax(people, acyclic)
            assert torch.equal(walked.cyclic, relaxed.cyclic)
            good = ~walked.cyclic
            assert torch.equal(walked.nodes[good], relaxed.nodes[good])
            for one, other in zip(walked.first[good], relaxed.first[good], strict=True):
                assert one[-1] == other[-1]
    people = grown(40, rounds=10)
    x = torch.randn(4, 3, dtype=torch.float64)
    nets = networks(people)
    relaxed = order._relax(people, True)
    other = order.Order(*(t.contiguous() for t in relaxed))
    live = torch.arange(other.edge_gene.shape[1]) < other.first[:, -1:]
    changed = nets.with_parameters(
        people.weight.gather(1, other.edge_gene).masked_fill(~live, 0),
        people.bias.gather(1, other.node_gene),
        people.response.gather(1, other.node_gene),
    )
    changed = replace(
        changed,
        order=other,
        activation=people.activation.gather(1, other.node_gene),
        aggregation=people.aggregation.gather(1, other.node_gene),
    )
    assert torch.equal(changed(x), nets(x))


def test_closing_a_cycle_is_seen_on_every_device(grown):
    people = grown(200, rounds=8)
    count = people.node_mask.sum(1)
    chance = torch.rand(2, 200)
    source = (chance[0] * (count + 1)).long() - 1
    target = (chance[1] * count).long()
    seen = order.closes_cycle(people, source, target)
    slot, end = order.columns(people)
    for row in range(200):
        edges = [
            (int(s) - 3, int(t))
            for s, t, live in zip(slot[row], end[row], people.connection_mask[row], strict=True)
            if live and s >= 3
        ]
        reached = {int(target[row])}
        while more := {t for s, t in edges if s in reached} - reached:
            reached |= more
        assert bool(seen[row]) == (int(source[row]) in reached)
    inner = people.connection_mask & (slot >= 3)
    spread = torch.zeros_like(people.node_mask).scatter_(1, target[:, None], True)
    spread = order._spread(spread, (slot - 3).clamp(min=0), end, inner)
    other = spread.gather(1, source.clamp(min=0)[:, None])[:, 0] & (source >= 0)
    assert torch.equal(seen, other)
    assert seen.any()
    assert not seen.all()


def test_orphans_and_outputs_that_nothing_reaches():
    """A node that reads nothing gives act(bias); one that nobody reads costs nothing."""
    genome = Genome(
        2,
        2,
        (
            NodeGene(0, 0.3, 1.0, "tanh"),
            NodeGene(1, 0.1),
            NodeGene(5, 0.7, 1.0, "sin"),
            NodeGene(6),
        ),
        (ConnectionGene(5, 1, 2.0), ConnectionGene(-1, 6, 1.0), ConnectionGene(-1, 0, 9.0, False)),
    )
    nets = networks(Population.from_genomes([genome], dtype=torch.float64))
    y = nets(torch.zeros(1, 2, dtype=torch.float64))[0, 0]
    sigmoid = 1 / (1 + math.exp(-(0.1 + 2 * math.sin(0.7))))
    assert y.tolist() == pytest.approx([math.tanh(0.3), sigmoid], abs=1e-12)
    assert int(nets.order.nodes[0]) == 3


def test_a_cycle_in_a_feed_forward_network_is_named():
    genome = Genome(
        1,
        1,
        (NodeGene(0), NodeGene(3), NodeGene(7)),
        (ConnectionGene(3, 7, 1.0), ConnectionGene(7, 3, 1.0), ConnectionGene(7, 0, 1.0)),
    )
    fine = Genome(1, 1, (NodeGene(0),))
    with pytest.raises(
        ValueError, match=r'genome 1 has the cycle (3 → 7 → 3|7 → 3 → 7).*"recurrent"'
    ):
        networks(Population.from_genomes([fine, genome]))
    assert networks(Population.from_genomes([genome]), "recurrent")(torch.ones(1, 1)).shape == (
        1,
        1,
        1,
    )


def test_gradients_reach_weights_and_are_written_back(grown):
    people = grown(6)
    nets = networks(people)
    weight = nets.weight.clone().requires_grad_()
    bias = nets.bias.clone().requires_grad_()
    moved = nets.with_parameters(weight, bias, nets.response)
    x = torch.randn(4, 3, dtype=torch.float64)
    moved(x).square().sum().backward()
    assert weight.grad.abs().sum() > 0
    changed = moved.with_parameters(weight.detach() + 0.5, bias.detach() - 0.25, nets.response)
    back = networks(changed.population())
    torch.testing.assert_close(back(x), changed(x), rtol=0, atol=0)
    same = nets.population()
    assert torch.equal(same.weight, people.weight)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(4, 2), r"inputs of shape \(samples, 3\)"),
        (torch.zeros(3), "got \\(3,\\)"),
        (torch.full((1, 3), math.nan), "NaN or infinite"),
    ],
)
def test_inputs_that_cannot_be(grown, x, message):
    nets = networks(grown(4, dtype=torch.float32))
    with pytest.raises(ValueError, match=message):
        nets(x)


def test_kinds_that_do_not_exist(grown):
    with pytest.raises(ValueError, match="expected a kind of"):
        networks(grown(4), "feedforward")
    with pytest.raises(ValueError, match="at least 1 tick"):
        networks(grown(4), "recurrent", ticks=0)


def test_lists_and_other_numbers_are_inputs_too(grown):
    nets = networks(grown(4, dtype=torch.float32))
    x = [[1, 2, 3]]
    expected = nets(torch.tensor(x, dtype=torch.float32))
    for one in (x, torch.tensor(x), torch.tensor(x).double().numpy()):
        assert torch.equal(nets(one), expected)


def test_steps_beyond_twice_the_time_constant_stay_numbers():
    genome = Genome(1, 1, (NodeGene(0, time_constant=0.01),), (ConnectionGene(-1, 0, 1.0),))
    nets = networks(Population.from_genomes([genome]), "ctrnn", time_step=0.1)
    state = nets.rest(1)
    for _ in range(500):
        y, state = nets.step(torch.ones(1, 1), state)
    assert y.isfinite().all()


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own imports
def test_networks_compile_into_one_graph(grown):
    nets = networks(grown(5, kind="recurrent", dtype=torch.float32), "recurrent", ticks=1)
    x = torch.randn(3, 3)
    compiled = torch.compile(lambda x: nets(x) * 2, fullgraph=True)
    torch.testing.assert_close(compiled(x), nets(x) * 2, rtol=0, atol=0)
