"""Gradients through mixed topologies: each network learns, for itself, and is never worse."""

import math

import pytest
import torch
from torch import nn

from gonzo.neuroevo.fine_tuning import fine_tune, mean_squared_error
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population

XOR = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
ODD = torch.tensor([[0.0], [1.0], [1.0], [0.0]])


def dense(inputs: int, hidden: int, generator: torch.Generator, **function: str) -> Genome:
    """One hidden layer, all connections, direct ones too."""

    def draw() -> float:
        return torch.randn((), generator=generator).item()

    nodes = [NodeGene(0, draw(), activation="sigmoid")]
    nodes += [NodeGene(key, draw(), **function) for key in range(1, hidden + 1)]
    ends = [(-1 - i, h) for i in range(inputs) for h in range(1, hidden + 1)]
    ends += [(source, 0) for source in (*range(-inputs, 0), *range(1, hidden + 1))]
    return Genome(inputs, 1, tuple(nodes), tuple(ConnectionGene(*e, draw()) for e in ends))


@pytest.fixture
def mixed() -> Population:
    generator = torch.Generator().manual_seed(2)
    return Population.from_genomes(
        [
            dense(2, hidden, generator, activation=activation)
            for hidden, activation in ((3, "tanh"), (1, "gauss"), (0, "tanh"), (6, "sigmoid"))
        ]
        * 2
    )


def test_topologies_that_can_solve_xor_do(mixed):
    tuned = fine_tune(networks(mixed), XOR, ODD, steps=400, learning_rate=0.1)
    y = networks(tuned.population)(XOR)
    torch.testing.assert_close(mean_squared_error(y, ODD), tuned.after)
    right = ((y > 0.5) == (ODD > 0.5)).all(2).all(1)
    assert right[[0, 1, 3]].all()
    assert not right[2]  # no hidden node: not separable
    assert tuned.after[2] == pytest.approx(0.25, abs=0.02)


def test_a_function_is_approximated():
    x = torch.linspace(-2, 2, 64)[:, None]
    y = (torch.sin(2 * x) + 1) / 2
    generator = torch.Generator().manual_seed(0)
    genomes = [dense(1, size, generator, activation="tanh") for size in (4, 8)]
    tuned = fine_tune(
        networks(Population.from_genomes(genomes)), x, y, steps=400, learning_rate=0.05
    )
    assert (tuned.after < 0.1 * tuned.before).all()


def test_a_network_does_not_depend_on_the_others(mixed):
    together = fine_tune(networks(mixed), XOR, ODD, steps=30, learning_rate=0.1, response=True)
    for row in range(4):
        alone = fine_tune(
            networks(mixed.select(torch.tensor([row]))),
            XOR,
            ODD,
            steps=30,
            learning_rate=0.1,
            response=True,
        )
        assert alone.population.genome(0).nodes == together.population.genome(row).nodes
        assert [g.weight for g in alone.population.genome(0).connections] == [
            g.weight for g in together.population.genome(row).connections
        ]
        assert alone.after[0] == together.after[row]


def test_steps_are_torch_s_adam():
    """One linear node in float64 beside torch.optim.Adam."""
    genome = Genome(
        2,
        1,
        (NodeGene(0, 0.3, activation="identity"),),
        (ConnectionGene(-1, 0, 0.5, innovation=0), ConnectionGene(-2, 0, -0.7, innovation=1)),
    )
    x = torch.randn(9, 2, dtype=torch.float64)
    y = torch.randn(9, 1, dtype=torch.float64)
    ours = fine_tune(
        networks(Population.from_genomes([genome], dtype=torch.float64)), x, y, steps=25
    )
    layer = nn.Linear(2, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -0.7]]))
        layer.bias.fill_(0.3)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(x), y).backward()
        optimizer.step()
    torch.testing.assert_close(ours.population.weight, layer.weight.detach())
    torch.testing.assert_close(ours.population.bias, layer.bias.detach()[None])


def test_never_worse_and_within_bounds(mixed):
    tuned = fine_tune(networks(mixed), XOR, ODD, steps=5, learning_rate=50.0, bounds=(-2.0, 2.0))
    assert (tuned.after <= tuned.before).all()
    again = mean_squared_error(networks(tuned.population)(XOR), ODD)
    torch.testing.assert_close(again, tuned.after, rtol=0, atol=0)
    changed = tuned.population.weight != mixed.weight
    assert tuned.population.weight[changed].abs().max() <= 2
    nothing = fine_tune(networks(mixed), XOR, ODD, steps=0)
    assert nothing.population.genomes() == mixed.genomes()
    torch.testing.assert_close(nothing.before, nothing.after, rtol=0, atol=0)


def test_responses_are_trained_only_if_asked(mixed):
    plain = fine_tune(networks(mixed), XOR, ODD, steps=5).population
    asked = fine_tune(networks(mixed), XOR, ODD, steps=5, response=True).population
    torch.testing.assert_close(plain.response, mixed.response, rtol=0, atol=0)
    assert not torch.equal(asked.response, mixed.response)


def test_disabled_connections_and_markings_stay():
    genome = Genome(
        1,
        1,
        (NodeGene(0), NodeGene(1)),
        (
            ConnectionGene(-1, 0, 0.5, innovation=7),
            ConnectionGene(-1, 1, 0.25, enabled=False, innovation=9),
            ConnectionGene(1, 0, 0.75, innovation=11),
        ),
    )
    x, y = torch.rand(8, 1), torch.zeros(8, 1)
    after = fine_tune(networks(Population.from_genomes([genome])), x, y).population.genome(0)
    assert [(g.enabled, g.innovation) for g in after.connections] == [
        (True, 7),
        (False, 9),
        (True, 11),
    ]
    assert after.connections[1].weight == 0.25
    assert after.connections[0].weight < 0.5


def test_networks_without_connections_learn_their_bias():
    genome = Genome(2, 1, (NodeGene(0, 1.0, activation="identity"),))
    tuned = fine_tune(
        networks(Population.from_genomes([genome, genome])), XOR, ODD, steps=200, learning_rate=0.1
    )
    torch.testing.assert_close(tuned.population.bias, torch.full((2, 1), 0.5), rtol=0, atol=0.01)


def test_recurrent_networks_learn_through_their_ticks(mixed):
    nets = networks(mixed, "recurrent", ticks=3)
    tuned = fine_tune(nets, XOR, ODD, steps=200, learning_rate=0.1)
    assert (tuned.after[[0, 1, 3]] < 0.5 * tuned.before[[0, 1, 3]]).all()


def test_a_loss_of_one_s_own(mixed):
    def cross_entropy(outputs, classes):
        logits = torch.cat([outputs, -outputs], 2).flatten(0, 1)
        each = nn.functional.cross_entropy(logits, classes.repeat(len(outputs)), reduction="none")
        return each.unflatten(0, (len(outputs), -1)).mean(1)

    classes = torch.tensor([1, 0, 0, 1])
    with torch.no_grad():
        tuned = fine_tune(networks(mixed), XOR, classes, loss=cross_entropy, learning_rate=0.1)
    assert (tuned.after < tuned.before).all()


def test_a_loss_that_is_nan_spoils_nothing_else(mixed):
    def loss(outputs, targets):
        losses = mean_squared_error(outputs, targets)
        return losses * torch.tensor([math.nan] + [1.0] * (len(losses) - 1))

    tuned = fine_tune(networks(mixed), XOR, ODD, loss=loss, steps=5)
    plain = fine_tune(networks(mixed), XOR, ODD, steps=5)
    assert tuned.population.genome(0) == mixed.genome(0)
    assert tuned.population.genomes()[1:] == plain.population.genomes()[1:]


def test_bad_input(mixed):
    nets = networks(mixed)
    with pytest.raises(ValueError, match=r"expected a loss of shape \(8,\).* got \(\)"):
        fine_tune(nets, XOR, ODD, loss=lambda outputs, targets: (outputs - targets).square().mean())
    with pytest.raises(
        ValueError, match=r"a learning_rate above 0 and bounds in order, got 100, 0"
    ):
        fine_tune(nets, XOR, ODD, learning_rate=0)
    with pytest.raises(ValueError, match=r"bounds in order, got 100, 0\.01 and \(1, 1\)"):
        fine_tune(nets, XOR, ODD, bounds=(1, 1))


def test_targets_of_another_shape_are_refused():
    people = Population.from_genomes([Genome(1, 1, (NodeGene(0),))])
    x = torch.zeros(5, 1)
    with pytest.raises(ValueError, match=r"shape \(5, 1\) .* got \(5,\); did you mean y"):
        fine_tune(networks(people), x, torch.zeros(5))
    with pytest.raises(ValueError, match=r"got \(1, 1\)"):
        fine_tune(networks(people), x, torch.zeros(1, 1))
