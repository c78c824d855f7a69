"""The line between two networks: closed forms of its error, and models left as they were."""

import math

import pytest
import torch
from torch import nn

from gonzo.pruning.mode_connectivity import Connectivity, instability, linear_mode_connectivity


def weight(*values):
    return {"weight": torch.tensor([values], dtype=torch.float64)}


@pytest.fixture
def line():
    return nn.Linear(2, 1, bias=False).double()


def test_a_hill_of_known_height(line):
    # (1 - 2α)² turned over: 0 at the ends, 1 in the middle.
    def error(model):
        return 1 - float(model.weight[0, 0]) ** 2

    found = linear_mode_connectivity(line, weight(-1.0, 0.0), weight(1.0, 0.0), error, points=11)
    assert found.alphas == pytest.approx([i / 10 for i in range(11)])
    assert found.values == pytest.approx([1 - (2 * alpha - 1) ** 2 for alpha in found.alphas])
    assert found.barrier == pytest.approx(1)
    assert found.rise == pytest.approx(1)
    assert str(found) == "error 0 and 0 at the ends, at most 1 between; barrier 1"


def test_ends_of_different_heights_without_a_hill(line):
    def error(model):
        return 3 + float(model.weight[0, 0])

    found = linear_mode_connectivity(line, weight(0.0, 0.0), weight(2.0, 0.0), error)
    assert found.barrier == pytest.approx(1)  # 5 above the mean of 3 and 5
    assert found.rise == pytest.approx(0, abs=1e-14)


def test_a_valley_is_no_barrier():
    assert Connectivity((0.0, 0.5, 1.0), (1.0, 0.2, 1.0)).barrier == 0
    assert Connectivity((0.0, 0.5, 1.0), (1.0, 0.2, 1.0)).rise == 0
    assert Connectivity((0.0, 0.25, 1.0), (1.0, 3.0, 5.0)).rise == pytest.approx(1)
    assert Connectivity((0.0, 1.0), (1.0, 3.0)).rise == 0


def test_the_ends_are_the_states_to_the_bit_and_masks_hold_between(line):
    a, b = weight(0.1, 0.0), weight(0.3, 0.0)
    seen = []
    linear_mode_connectivity(line, a, b, lambda m: seen.append(m.weight.detach().clone()) or 0)
    assert torch.equal(seen[0], a["weight"])
    assert torch.equal(seen[-1], b["weight"])
    assert all(found[0, 1] == 0 for found in seen)


@pytest.fixture
def normalised():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    model(torch.randn(8, 2)).sum().backward()
    model[2].eval()
    return model


def snapshot(model):
    values = {name: value.clone() for name, value in model.state_dict().items()}
    places = [p.data_ptr() for p in model.parameters()]
    gradients = [(p.grad, p.grad.clone()) for p in model.parameters()]
    return values, places, gradients, [module.training for module in model.modules()]


def assert_unchanged(model, before):
    values, places, gradients, modes = before
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in values.items())
    assert [p.data_ptr() for p in model.parameters()] == places
    for parameter, (gradient, value) in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, value)
    assert [module.training for module in model.modules()] == modes


def other_state(model):
    return {
        name: value + torch.randn(value.shape) if value.is_floating_point() else value + 3
        for name, value in model.state_dict().items()
    }


def test_statistics_lie_on_the_line_or_are_estimated_anew(normalised):
    a = {name: value.clone() for name, value in normalised.state_dict().items()}
    b = other_state(normalised)
    before = snapshot(normalised)
    means, modes = [], []

    def evaluate(model):
        means.append(model[1].running_mean.clone())
        modes.append(any(module.training for module in model.modules()))
        model.train()
        return 0

    linear_mode_connectivity(normalised, a, b, evaluate, points=3)
    name = "1.running_mean"
    assert torch.allclose(means[1], (a[name] + b[name]) / 2)
    assert not any(modes)
    assert_unchanged(normalised, before)

    calls = []

    def recalibrate(model):
        calls.append((model.training, torch.is_grad_enabled()))
        model[1].reset_running_stats()
        model[1].momentum = 1.0
        model(torch.ones(4, 2))

    means.clear()
    linear_mode_connectivity(normalised, a, b, evaluate, points=3, recalibrate=recalibrate)
    assert calls == [(True, False)] * 3
    for state, mean in ((a, means[0]), (b, means[2])):
        expected = torch.ones(2) @ state["0.weight"].T + state["0.bias"]
        assert torch.allclose(mean, expected, atol=1e-6)
    normalised[1].momentum = 0.1
    assert_unchanged(normalised, before)


def test_instability_is_the_barrier_between_two_trainings_from_one_state(normalised):
    state = {name: value.clone() for name, value in normalised.state_dict().items()}
    before, random = snapshot(normalised), torch.get_rng_state()
    started = []

    def train(model, seed):
        assert model.training
        started.append(torch.equal(model[0].weight, state["0.weight"]))
        model(torch.randn(5, 2)).square().sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        with torch.no_grad():
            model[2].bias.fill_(-1.0 if seed == 3 else 1.0)

    def hill(model):
        return 1 - float(model[2].bias) ** 2

    found = instability(normalised, state, train, hill, seeds=(3, 4), points=5)
    assert found.values == pytest.approx([0, 0.75, 1, 0.75, 0])
    assert started == [True, True]
    assert_unchanged(normalised, before)
    assert torch.equal(torch.get_rng_state(), random)

    def same(model, seed):
        model(torch.randn(5, 2)).square().sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()

    # Noise of other seeds gives another network; the same noise would give the same one.
    outcomes = []
    instability(
        normalised,
        state,
        same,
        lambda model: outcomes.append(model[0].weight.detach().clone()) or 0,
        points=2,
    )
    assert not torch.equal(*outcomes)


def test_what_does_not_fit_is_explained(line):
    a = weight(0.0, 1.0)
    with pytest.raises(ValueError, match="expected at least two points, got 1"):
        linear_mode_connectivity(line, a, a, lambda model: 0, points=1)
    with pytest.raises(ValueError, match="state_b is not one of Linear: bias is in only one"):
        linear_mode_connectivity(line, a, {**a, "bias": torch.ones(1)}, lambda model: 0)
    wide = {"weight": torch.ones(1, 3)}
    with pytest.raises(ValueError, match=r"state_a .*: weight has shape \(1, 3\) there and \(1, 2"):
        linear_mode_connectivity(line, wide, a, lambda model: 0)
    with pytest.raises(ValueError, match="expected a finite error, got nan at 0 of the line"):
        linear_mode_connectivity(line, a, a, lambda model: math.nan)
    for seeds in [(1, 1), (1,), (1, 2, 3)]:
        with pytest.raises(ValueError, match="expected two different seeds, got"):
            instability(line, a, lambda model, seed: None, lambda model: 0, seeds=seeds)


def test_states_that_share_memory_with_the_model(normalised):
    """What `model.state_dict()` gives is alive: its buffers are those that the line is put into."""
    other = {name: value.clone() + 0.5 for name, value in normalised.state_dict().items()}
    copied = {name: value.clone() for name, value in normalised.state_dict().items()}
    x = torch.randn(8, 2)

    def error(model):
        return model(x).square().mean()

    expected = linear_mode_connectivity(normalised, copied, other, error, points=5)
    alive = linear_mode_connectivity(normalised, normalised.state_dict(), other, error, points=5)
    assert alive.values == expected.values
