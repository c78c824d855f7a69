"""Pruned weights are zero to the bit: value, gradient and optimizer state, whatever trains them."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gonzo.pruning.applied_mask import AppliedMask
from gonzo.pruning.mask_guard import guard_masks
from gonzo.pruning.masks import Masks

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-2, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 1e-2, weight_decay=1e-2),
    "adam fused": lambda p: torch.optim.Adam(p, 1e-2, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, amsgrad=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, 1e-2, fused=True),
    "adamw foreach": lambda p: torch.optim.AdamW(p, 1e-2, foreach=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-2, initial_accumulator_value=0.1),
    "adadelta": lambda p: torch.optim.Adadelta(p, 1.0, weight_decay=1e-2),
    "adamax": lambda p: torch.optim.Adamax(p, 1e-2),
    "nadam": lambda p: torch.optim.NAdam(p, 1e-2, weight_decay=1e-2),
    "radam": lambda p: torch.optim.RAdam(p, 1e-2, weight_decay=1e-2),
    "adafactor": lambda p: torch.optim.Adafactor(p, 1e-2),
    "rprop": lambda p: torch.optim.Rprop(p, 1e-2),
    "asgd": lambda p: torch.optim.ASGD(p, 1e-2, weight_decay=1e-2),
}
# These write into the state of weights that are at rest, or move them; the rest leave them alone.
RESTLESS = {"adamax", "rprop"}


def network(dtype=torch.float32):
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
    return model.to(dtype)


def half_of(model, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return Masks(
        {
            name: torch.rand(weight.shape, generator=generator) < 0.5
            for name, weight in model.named_parameters()
            if weight.ndim > 1
        }
    )


def train(model, optimizer, steps, first=0):
    dtype = next(model.parameters()).dtype
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(16, 6, generator=generator).to(dtype)

        def loss(x=x):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x).float(), x[:, :3].argmax(1))
            loss.backward()
            return loss

        optimizer.step(loss)


def pruned_numbers(model, masks, *optimizers):
    """Every number that belongs to a pruned weight: values, gradients, states."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found = []
    for name, alive in masks.items():
        parameter = parameters[name]
        tensors = [parameter.detach()]
        tensors += [parameter.grad] if parameter.grad is not None else []
        for optimizer in optimizers:
            state = optimizer.state.get(parameter, {}).values()
            tensors += [v for v in state if torch.is_tensor(v) and v.shape == parameter.shape]
        found += [tensor[~alive].double() for tensor in tensors]
    return torch.cat(found)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_of_a_pruned_weight_ever_moves(name, caplog):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 3)  # so that the optimizer is not fresh
    masks = half_of(model)
    assert pruned_numbers(model, masks, optimizer).count_nonzero() > 50
    before = model[0].weight.detach().clone()
    with caplog.at_level(logging.INFO, "gonzo.pruning"), guard_masks(model, masks, optimizer) as g:
        for step in range(5):
            train(model, optimizer, 1, first=3 + step)
            assert pruned_numbers(model, masks, optimizer).count_nonzero() == 0
    assert g.rezero == (name in RESTLESS)
    assert len(caplog.records) == (name in RESTLESS)
    alive = masks["0.weight"]
    assert bool((model[0].weight.detach() != before)[alive].any())  # and the others do move


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop", "radam"])
def test_alive_weights_train_as_if_multiplied_by_the_mask(name):
    # The judge: the mask as part of the network, in float64, where it needs no guard. Weight decay
    # acts on alive weights alike in both.
    model, judge = network(torch.float64), network(torch.float64)
    judge.load_state_dict(model.state_dict())
    masks = half_of(model)
    masks.apply_(judge)

    class Product(nn.Module):
        def __init__(self, mask):
            super().__init__()
            self.mask = mask

        def forward(self, weight):
            return weight * self.mask

    nn.utils.parametrize.register_parametrization(judge[0], "weight", Product(masks["0.weight"]))
    nn.utils.parametrize.register_parametrization(judge[3], "weight", Product(masks["3.weight"]))
    optimizer = OPTIMIZERS[name](model.parameters())
    theirs = OPTIMIZERS[name](judge.parameters())
    with guard_masks(model, masks, optimizer):
        train(model, optimizer, 6)
    train(judge, theirs, 6)
    for index in (0, 3):
        torch.testing.assert_close(model[index].weight, judge[index].weight, rtol=1e-12, atol=1e-14)


def test_lbfgs_and_its_closure():
    model = network(torch.float64)
    masks = half_of(model)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    with guard_masks(model, masks, optimizer) as guard:
        train(model, optimizer, 3)
    assert not guard.rezero
    assert pruned_numbers(model, masks).count_nonzero() == 0


def test_an_optimizer_that_moves_weights_at_rest_is_found(caplog):
    class Noisy(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data.add_(0.01)

    model = network()
    masks = half_of(model)
    optimizer = Noisy(model.parameters(), 0.1, momentum=0.9)
    with caplog.at_level(logging.INFO, "gonzo.pruning"), guard_masks(model, masks, optimizer) as g:
        for step in range(3):
            train(model, optimizer, 1, first=step)
            assert pruned_numbers(model, masks, optimizer).count_nonzero() == 0
    assert g.rezero
    [record] = caplog.records
    assert "Noisy moves weights that are zero and get no gradient (0.weight, 3.weight)" in (
        record.getMessage()
    )


def test_muon_and_an_epsilon_of_zero_are_found():
    for make in (
        lambda m: torch.optim.Muon([m[0].weight, m[3].weight], 0.1),
        lambda m: torch.optim.Adam(m.parameters(), 0.1, eps=0.0),  # 0 / 0
    ):
        model = network()
        masks = half_of(model)
        optimizer = make(model)
        with guard_masks(model, masks, optimizer) as guard:
            train(model, optimizer, 3)
        assert guard.rezero
        assert pruned_numbers(model, masks, optimizer).count_nonzero() == 0


def test_weights_that_something_else_moves_are_an_error():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    guard = guard_masks(model, half_of(model), optimizer)
    train(model, optimizer, 1)
    with torch.no_grad():
        model[0].weight.add_(1e-30)
    with pytest.raises(
        ValueError, match=r"pruned weights of 0\.weight are no longer zero: .*rezero"
    ):
        guard.remove()
    # The error of the block is not hidden by ours.
    guard = guard_masks(model, half_of(model), optimizer)
    model[0].weight.data.add_(1)
    guard.__exit__(KeyError, KeyError(), None)
    assert not model[0].weight._post_accumulate_grad_hooks


def test_afterwards_the_hooks_are_gone():
    model = network()
    masks = half_of(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with guard_masks(model, masks, optimizer):
        train(model, optimizer, 1)
    train(model, optimizer, 1)
    assert pruned_numbers(model, masks).count_nonzero() > 10


@pytest.mark.parametrize("set_to_none", [True, False])
def test_accumulation_clipping_and_scaling_see_masked_gradients(set_to_none):
    model, judge = network(torch.float64), network(torch.float64)
    judge.load_state_dict(model.state_dict())
    masks = half_of(model)
    masks.apply_(judge)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with guard_masks(model, masks, optimizer):
        for _ in range(2):
            optimizer.zero_grad(set_to_none=set_to_none)
            judge.zero_grad()
            for seed in (1, 2):  # two batches, one step
                x = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed)).double()
                scaler.scale(F.cross_entropy(model(x), x[:, :3].argmax(1))).backward()
                F.cross_entropy(judge(x), x[:, :3].argmax(1)).backward()
            for name, alive in masks.items():
                judge.get_parameter(name).grad[~alive] = 0
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(judge.parameters(), 0.1))
            scaler.step(optimizer)
            scaler.update()
            with torch.no_grad():
                for parameter in judge.parameters():
                    parameter -= 0.1 * parameter.grad
    torch.testing.assert_close(dict(model.named_parameters()), dict(judge.named_parameters()))


def test_two_weights_that_share_one_gradient_tensor():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))

    model = Sum()
    masks = Masks({"a": torch.tensor([1, 1, 0, 0]) > 0, "b": torch.tensor([0, 1, 1, 0]) > 0})
    with guard_masks(model, masks):
        ((model.a + model.b) * torch.arange(1.0, 5.0)).sum().backward()
    assert model.a.grad.tolist() == [1, 2, 0, 0]
    assert model.b.grad.tolist() == [0, 2, 3, 0]


def test_a_gradient_that_was_there_before_is_masked_too():
    model = network()
    model(torch.randn(4, 6)).square().sum().backward()
    masks = half_of(model)
    guard_masks(model, masks).remove()
    assert pruned_numbers(model, masks).count_nonzero() == 0


def test_tied_weights_are_guarded_once():
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
    model[2].weight = model[0].weight
    masks = Masks({"0.weight": torch.eye(5) > 0})
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    with guard_masks(model, masks, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(4, 5)).square().sum().backward()
            optimizer.step()
    assert model[2].weight is model[0].weight
    assert bool((model[2].weight[~masks["0.weight"]] == 0).all())


def test_a_model_that_changes_its_dtype_or_memory_order():
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(16, 3))
    masks = half_of(model)
    with guard_masks(model, masks):
        for change in (
            lambda: model.double(),
            lambda: model.to(memory_format=torch.channels_last),
            lambda: model.bfloat16(),
        ):
            change()
            model.zero_grad()
            model(torch.randn(2, 3, 3, 3).to(model[0].weight.dtype)).sum().backward()
            assert pruned_numbers(model, masks).count_nonzero() == 0
            assert model[0].weight.grad.count_nonzero() == masks.alive_of("0.weight")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000, (1 << 20) + 3])
def test_a_mask_clears_every_bit(dtype, count):
    generator = torch.Generator().manual_seed(count)
    alive = torch.rand(count, generator=generator) < 0.3
    values = torch.randn(count, generator=generator).to(dtype)
    values[::3] = float("nan")
    values[1::3] = float("-inf")
    expected = torch.where(alive, values, torch.zeros((), dtype=dtype))
    torch.set_num_threads(2)  # the largest is shared by threads; the fixture sets them back
    AppliedMask(alive, values).mask_(values)
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    assert torch.equal(values.view(bits), expected.view(bits))


def test_tensors_without_a_dense_layout_are_masked_too():
    alive = torch.rand(6, 4) < 0.5
    mask = AppliedMask(alive, torch.empty(6, 4))
    base = torch.ones(6, 8)
    mask.mask_(base[:, ::2])
    assert torch.equal(base[:, ::2], alive.float())
    assert bool((base[:, 1::2] == 1).all())  # what lies between is not touched
    transposed = torch.ones(4, 6).t()
    mask.mask_(transposed)
    assert torch.equal(transposed, alive.float())


def test_a_state_that_is_loaded_later_is_masked():
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    train(model, optimizer, 2)
    saved = optimizer.state_dict()
    masks = half_of(model)
    with guard_masks(model, masks, optimizer):
        train(model, optimizer, 1)
        optimizer.load_state_dict(saved)
        train(model, optimizer, 1)
        assert pruned_numbers(model, masks, optimizer).count_nonzero() == 0


def test_frozen_parameters_and_no_optimizer():
    model = network()
    model[0].weight.requires_grad_(False)
    masks = half_of(model)
    with guard_masks(model, masks):
        model(torch.randn(4, 6)).sum().backward()
    assert pruned_numbers(model, masks).count_nonzero() == 0


def test_bad_input():
    model, other = network(), network()
    masks = half_of(model)
    with pytest.raises(ValueError, match=r"SGD trains none of the pruned parameters \(0\.weight, "):
        guard_masks(model, masks, torch.optim.SGD(other.parameters(), 0.1))
    assert not model[0].weight._post_accumulate_grad_hooks  # nothing is left behind
    with pytest.raises(TypeError, match=r"expected a torch\.optim\.Optimizer, got str"):
        guard_masks(model, masks, ["sgd"])
    with pytest.raises(ValueError, match="the masks do not fit the model"):
        guard_masks(nn.Linear(3, 3), masks)
    embedding = nn.Embedding(5, 3, sparse=True)
    with (
        pytest.raises(
            ValueError, match=r"expected a dense gradient of a pruned weight.*sparse=False"
        ),
        guard_masks(embedding, Masks({"weight": torch.rand(5, 3) < 0.5})),
    ):
        embedding(torch.tensor([1])).sum().backward()


def test_a_model_other_than_the_guarded_one_is_found_before_anything_is_pruned():
    model = network()
    full = Masks.full(model, ["0.weight", "3.weight"])
    twin = copy.deepcopy(model)
    with pytest.raises(ValueError, match=r"trains none of the pruned parameters \(0\.weight, 3\."):
        guard_masks(model, full, torch.optim.SGD(twin.parameters(), 0.1))
    guard = guard_masks(model, full)
    model[3] = nn.Linear(8, 3)
    with pytest.raises(ValueError, match=r"the parameters 3\.weight of the model were replaced"):
        guard.remove()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_and_moved_there():
    model = network()
    masks = half_of(model)
    with guard_masks(model, masks) as guard:
        model.cuda()
        optimizer = torch.optim.AdamW(model.parameters(), 0.1, fused=True)
        guard.watch(optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 6, device="cuda")).square().sum().backward()
            optimizer.step()
    assert pruned_numbers(model, masks.to("cuda"), optimizer).count_nonzero() == 0


def test_a_parameter_that_is_thawed_later():
    model = nn.Linear(8, 4)
    masks = Masks({"weight": torch.rand(4, 8) < 0.5})
    model.weight.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with guard_masks(model, masks, optimizer):
        for step in range(4):
            model.weight.requires_grad_(step > 1)
            model(torch.randn(3, 8)).square().sum().backward()
            optimizer.step()
    assert model.weight[masks["weight"]].all()
    assert not model.weight[~masks["weight"]].any()
