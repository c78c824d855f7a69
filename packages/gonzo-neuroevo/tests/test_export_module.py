"""A genome as a torch module: equal to one node at a time, trainable, compilable, exportable."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS
from gonzo.neuroevo.export import to_module
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population

shared = runpy.run_path(str(Path(__file__).with_name("genomes.py")))
genomes, evaluate, tick, close = (shared[n] for n in ("genomes", "evaluate", "tick", "close"))

CYCLE = Genome(
    1,
    1,
    (NodeGene(0), NodeGene(3), NodeGene(5)),
    (
        ConnectionGene(3, 5, 1.0),
        ConnectionGene(5, 3, 1.0),
        ConnectionGene(5, 0, 1.0),
        ConnectionGene(-1, 3, 1.0),
    ),
)


def samples(genome, count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, genome.inputs, generator=generator, dtype=torch.float64) * 2


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_function(activation, aggregation):
    nodes = (NodeGene(0, 0.3, 0.7, activation, aggregation), NodeGene(1, -0.2, 1.0, "tanh"))
    links = [(-1, 0, 0.9), (-2, 0, -1.3), (-3, 0, 0.4), (1, 0, 2.0), (-1, 1, 1.0)]
    genome = Genome(3, 1, nodes, tuple(ConnectionGene(*link) for link in links))
    x = torch.cat([samples(genome, 20), 100 * samples(genome, 4)])
    found = to_module(genome, dtype=torch.float64)(x)
    for row, y in zip(x.tolist(), found.tolist(), strict=True):
        assert close(y, evaluate(genome, row), 1e-12)


@settings(max_examples=60, deadline=None)
@given(genomes())
def test_feed_forward_is_one_node_at_a_time(genome):
    x = samples(genome)
    found = to_module(genome, dtype=torch.float64)(x)
    assert found.shape == (4, genome.outputs)
    for row, y in zip(x.tolist(), found.tolist(), strict=True):
        # Cubes of cubes enlarge the rounding; it is compared where it stays small.
        expected = evaluate(genome, row)
        if max(map(abs, expected)) < 1e3:
            assert close(y, expected, 1e-9)


@settings(max_examples=60, deadline=None)
@given(genomes(activations=shared["SMOOTH"]))
def test_smooth_networks_agree_to_the_last_digits(genome):
    x = samples(genome)
    found = to_module(genome, dtype=torch.float64)(x)
    for row, y in zip(x.tolist(), found.tolist(), strict=True):
        assert close(y, evaluate(genome, row), 1e-12)


@settings(max_examples=40, deadline=None)
@given(genomes(activations=shared["SMOOTH"]))
def test_it_is_the_population_s_network(genome):
    x = samples(genome).float()
    expected = networks(Population.from_genomes([genome]))(x)[0]
    torch.testing.assert_close(to_module(genome)(x), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["recurrent", "ctrnn"])
@settings(max_examples=40, deadline=None)
@given(genome=genomes(cyclic=True, activations=shared["SMOOTH"]))
def test_kinds_with_a_state_tick(kind, genome):
    step = None if kind == "recurrent" else 0.1
    module = to_module(genome, kind, dtype=torch.float64, time_step=0.1)
    nets = networks(Population.from_genomes([genome]), kind, time_step=0.1)
    x = samples(genome)
    state = [dict.fromkeys((node.key for node in genome.nodes), 0.0) for _ in x]
    own, theirs = None, nets.rest(len(x))
    for row in (x, 0.5 * x, -x):
        state = [tick(genome, r, s, step) for r, s in zip(row.tolist(), state, strict=True)]
        y, own = module(row, own)
        z, theirs = nets.step(row.float(), theirs)
        for i, values in enumerate(state):
            assert close(y[i].tolist(), [values[key] for key in range(genome.outputs)], 1e-11)
            assert close(own[i].tolist(), [values[key] for key in module.keys], 1e-11)
        torch.testing.assert_close(y.float(), z[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_neighbours_with_other_numbers_of_connections(aggregation):
    """A padded maximum or product would see the padding."""
    nodes = tuple(NodeGene(key, 0.0, 1.0, "identity", aggregation) for key in range(3))
    links = [ConnectionGene(-1 - i, key, -1.0 - i) for key in range(3) for i in range(key + 1)]
    genome = Genome(3, 3, nodes, tuple(links))
    x = torch.tensor([[0.5, 1.5, 2.5], [-0.5, -1.5, -2.5]], dtype=torch.float64)
    for row, y in zip(x.tolist(), to_module(genome, dtype=torch.float64)(x).tolist(), strict=True):
        assert close(y, evaluate(genome, row), 1e-12)


def test_the_first_of_equals_is_the_population_s():
    """Connections without innovation number are ordered by their ends, as in a population."""
    links = (ConnectionGene(-1, 0, 1.0), ConnectionGene(-3, 0, 1.0), ConnectionGene(-2, 0, 1.0))
    node = NodeGene(0, 0.0, 1.0, "identity", "maxabs")
    for numbers in ((-1, -1, -1), (2, 1, 0), (-1, 5, -1), (0, 1, -1)):
        marked = [g._replace(innovation=n) for g, n in zip(links, numbers, strict=True)]
        genome = Genome(3, 1, (node,), tuple(marked))
        nets = networks(Population.from_genomes([genome]))
        for x in ([1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]):
            assert (
                to_module(genome)(torch.tensor(x)).tolist()
                == nets(torch.tensor([x]))[0, 0].tolist()
            )


def test_any_leading_shape():
    genome = Genome(2, 1, (NodeGene(0),), (ConnectionGene(-1, 0, 1.0), ConnectionGene(-2, 0, 2.0)))
    module = to_module(genome)
    x = torch.randn(3, 4, 2)
    assert module(x).shape == (3, 4, 1)
    torch.testing.assert_close(module(x)[1, 2], module(x[1, 2]))
    assert module(x[:0]).shape == (0, 4, 1)
    recurrent = to_module(genome, "recurrent")
    y, state = recurrent(x)
    assert y.shape == (3, 4, 1)
    assert state.shape == (3, 4, 1)


def test_no_connections_and_orphans():
    genome = Genome(
        2, 2, (NodeGene(0, 0.5, 2.0, "identity"), NodeGene(1, 0.5, 2.0, "identity", "product"))
    )
    assert to_module(genome)(torch.randn(3, 2)).tolist() == [[0.5, 2.5]] * 3
    orphan = replace(
        genome,
        nodes=(*genome.nodes, NodeGene(7, 0.25, activation="log"), NodeGene(8, 0.0, 1.0, "inv")),
        connections=(ConnectionGene(7, 0, 1.0), ConnectionGene(8, 0, 1.0)),
    )
    found = to_module(orphan, dtype=torch.float64)(torch.zeros(2, dtype=torch.float64))
    assert close(found.tolist(), evaluate(orphan, [0.0, 0.0]), 1e-12)


def test_no_nan_leaves_it():
    huge = [ConnectionGene(-1, 0, 1e300), ConnectionGene(-2, 0, -1e300)]
    for activation in ACTIVATIONS:
        nodes = (NodeGene(0, 0.0, 1e10, activation),)
        module = to_module(Genome(2, 1, nodes, tuple(huge)), dtype=torch.float64)
        y = module(torch.full((2,), 1e300, dtype=torch.float64))
        assert y.isfinite().all(), activation
        assert y.abs().max() <= 1e18


def test_cycles():
    with pytest.raises(ValueError, match=r"to_module: .* 5 → 3 → 5; disable one"):
        to_module(CYCLE)
    long = [(3, 5), (5, 7), (7, 3), (7, 0), (-1, 3), (-1, 9), (9, 3)]
    nodes = tuple(NodeGene(key) for key in (0, 3, 5, 7, 9))
    with pytest.raises(ValueError, match="has 7 → 3 → 5 → 7;"):
        to_module(Genome(1, 1, nodes, tuple(ConnectionGene(*ends, 1.0) for ends in long)))
    with pytest.raises(ValueError, match="has 0 → 0;"):
        to_module(Genome(1, 1, (NodeGene(0),), (ConnectionGene(0, 0, 1.0),)))
    assert len(to_module(CYCLE, "recurrent").keys) == 3
    # A cycle that is switched off, or that no output needs, is none.
    off = [c._replace(enabled=(c.source, c.target) != (5, 3)) for c in CYCLE.connections]
    assert to_module(replace(CYCLE, connections=tuple(off)))(torch.zeros(1)).isfinite()
    away = tuple(c for c in CYCLE.connections if c.target != 0)
    assert to_module(replace(CYCLE, connections=away)).keys == (0,)


def test_gradients():
    activations = ("tanh", "softplus", "inv", "log", "elu", "gauss", "square")
    nodes = [NodeGene(i, 0.3 + 0.1 * i, 0.8, activations[i], AGGREGATIONS[i]) for i in range(7)]
    links = [
        ConnectionGene(-1 - s, t, 0.5 + 0.1 * s - 0.07 * t) for s in range(3) for t in range(7)
    ]
    links += [ConnectionGene(5, 0, 0.4), ConnectionGene(6, 1, 0.3)]
    module = to_module(Genome(3, 5, tuple(nodes), tuple(links)), dtype=torch.float64)
    x = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)

    def run(x, weight, bias):
        return torch.func.functional_call(module, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, (x, module.weight, module.bias))


def test_training_goes_back_into_the_genome():
    nodes = (NodeGene(0, 0.0, 1.0, "identity"), NodeGene(4, 9.0), NodeGene(2, 0.1, 1.0, "tanh"))
    links = (
        ConnectionGene(-1, 2, 1.5, innovation=3),
        ConnectionGene(2, 0, 0.5, innovation=1),
        ConnectionGene(-1, 4, 7.0, innovation=2),
        ConnectionGene(-1, 0, 8.0, enabled=False, innovation=0),
    )
    genome = Genome(1, 1, nodes, links)
    module = to_module(genome, dtype=torch.float64)
    assert module.genome() == genome
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (module(x) - x.sin()).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 1e-4
    trained = module.genome()
    torch.testing.assert_close(to_module(trained, dtype=torch.float64)(x), module(x))
    assert trained.connections[2:] == links[2:]  # what no output needs is as it was
    assert trained.nodes[1] == nodes[1]


def test_state_dict_and_device():
    genome = Genome(1, 1, (NodeGene(0),), (ConnectionGene(-1, 0, 0.5),))
    module = to_module(genome)
    assert set(module.state_dict()) == {"weight", "bias", "response"}
    other = to_module(replace(genome, connections=(ConnectionGene(-1, 0, -3.0),)))
    other.load_state_dict(module.state_dict())
    assert other.weight.item() == 0.5
    assert set(to_module(genome, "ctrnn").state_dict()) - set(module.state_dict()) == {
        "time_constant"
    }
    assert to_module(genome, device="meta").weight.device.type == "meta"
    assert "steep" not in repr(module)
    assert "sigmoid(sum of 1)" in repr(module)


def small():
    nodes = (
        NodeGene(0, 0.1, 1.0, "tanh"),
        NodeGene(1, 0.1, 1.0, "sigmoid", "maxabs"),
        NodeGene(2, 0.2, 1.0, "log", "product"),
    )
    ends = [(-1, 0), (-2, 0), (-1, 1), (-2, 1), (2, 1), (-1, 2), (-2, 2), (2, 0)]
    links = tuple(ConnectionGene(s, t, 0.3 + 0.1 * i) for i, (s, t) in enumerate(ends))
    return Genome(2, 2, nodes, links)


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own imports
def test_compile():
    module = to_module(small())
    compiled = torch.compile(module, fullgraph=True)
    x = torch.rand(5, 2)
    torch.testing.assert_close(compiled(x), module(x))
    expected = torch.autograd.grad(module(x).sum(), module.weight)
    found = torch.autograd.grad(compiled(x).sum(), module.weight)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["feed-forward", "recurrent"])
def test_export(kind):
    module = to_module(small(), kind)
    batch = torch.export.Dim("batch")
    states = () if kind == "feed-forward" else (torch.rand(5, 3),)
    dynamic = tuple({0: batch} for _ in range(1 + len(states)))
    program = torch.export.export(module, (torch.rand(5, 2), *states), dynamic_shapes=dynamic)
    arguments = (torch.rand(9, 2), *(torch.rand(9, 3) for _ in states))
    torch.testing.assert_close(program.module()(*arguments), module(*arguments))
    targets = {str(node.target) for node in program.graph.nodes}
    assert not any("gonzo" in target for target in targets)


def test_bad_input():
    genome = small()
    with pytest.raises(ValueError, match=r"expected a kind of .* got 'feedforward'"):
        to_module(genome, "feedforward")
    with pytest.raises(ValueError, match=r"expected x of shape \(…, 2\), got \(3, 4\)"):
        to_module(genome)(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"expected x of shape \(…, 2\), got \(\)"):
        to_module(genome)(torch.zeros(()))
    with pytest.raises(ValueError, match=r"a state of shape \(5, 3\), got \(4, 3\)"):
        to_module(genome, "recurrent")(torch.zeros(5, 2), torch.zeros(4, 3))
    for step in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected a time_step above 0"):
            to_module(genome, "ctrnn", time_step=step)


@given(st.sampled_from(["feed-forward", "recurrent", "ctrnn"]))
def test_only_what_an_output_needs_is_computed(kind):
    genome = replace(small(), nodes=(*small().nodes, NodeGene(9)))
    assert sorted(to_module(genome, kind).keys) == [0, 1, 2]
