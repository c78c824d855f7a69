"""Masks of torch.nn.utils.prune, there and back."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from gonzo.pruning.masks import Masks
from gonzo.pruning.plan import plan_pruning
from gonzo.pruning.torch_masks import (
    from_torch_prune,
    read_torch_state_dict,
    remove_torch_prune,
    to_torch_prune,
)


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.fixture
def masks(model):
    plan = plan_pruning(model)
    generator = torch.Generator().manual_seed(1)
    return Masks({p.name: torch.rand(p.shape, generator=generator) < 0.5 for p in plan.parameters})


def test_what_torch_pruned_is_read(model):
    torch_prune.l1_unstructured(model[0], "weight", 7)
    torch_prune.l1_unstructured(model[2], "bias", 1)
    before = copy.deepcopy(model.state_dict())
    found = from_torch_prune(model)
    assert list(found) == ["0.weight", "2.bias"]
    assert torch.equal(found["0.weight"], before["0.weight_mask"].bool())
    assert (found.alive_of("0.weight"), found.alive_of("2.bias")) == (20 - 7, 3 - 1)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_round_trip(model, masks):
    plain = copy.deepcopy(model)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    to_torch_prune(model, masks)
    assert torch_prune.is_pruned(model)
    assert from_torch_prune(model) == masks
    masks.apply_(plain)
    assert torch.equal(model(x), plain(x))
    assert remove_torch_prune(model) == masks
    assert not torch_prune.is_pruned(model)
    assert {n: p.shape for n, p in model.named_parameters()} == {
        n: p.shape for n, p in plain.named_parameters()
    }
    assert torch.equal(model(x), plain(x))
    assert Masks.of_zeros(model, masks) == masks
    plan_pruning(model)


def test_removal_leaves_exact_zeros_and_the_parameters_themselves(model, masks):
    weights = [model[0].weight, model[2].weight]
    with torch.no_grad():
        model[0].weight.fill_(-1.0)
        model[0].weight[~masks["0.weight"]] = torch.inf
    to_torch_prune(model, masks)
    remove_torch_prune(model)
    assert model[0].weight is weights[0]
    assert model[2].weight is weights[1]
    pruned = model[0].weight.detach()[~masks["0.weight"]]
    assert torch.equal(pruned.view(torch.int32), torch.zeros_like(pruned, dtype=torch.int32))


def test_a_tied_weight_is_masked_wherever_it_is(model):
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    masks = Masks({"0.weight": torch.eye(4, dtype=torch.bool)})
    x = torch.eye(4)
    to_torch_prune(tied, masks)
    assert from_torch_prune(tied) == masks
    product = tied[1](tied[0](x) - tied[0].bias) - tied[1].bias
    assert torch.allclose(product, torch.diag(product.diagonal()), atol=1e-6)
    remove_torch_prune(tied)
    assert tied[0].weight is tied[1].weight


def test_state_dicts(model, masks):
    to_torch_prune(model, masks)
    state = {**model.state_dict(), "thing_orig": torch.ones(2)}  # no mask, so not ours
    plain, found = read_torch_state_dict(state)
    assert found == masks
    assert set(plain) == {"0.weight", "0.bias", "2.weight", "2.bias", "thing_orig"}
    remove_torch_prune(model)
    for name, value in model.state_dict().items():
        assert torch.equal(plain[name], value)


def test_nothing_is_masked(model):
    for read in (from_torch_prune, remove_torch_prune):
        with pytest.raises(ValueError, match="masks no parameter of Sequential"):
            read(model)
    with pytest.raises(ValueError, match="no pair of …_orig and …_mask"):
        read_torch_state_dict(model.state_dict())


def test_a_mask_that_is_none(model, masks):
    to_torch_prune(model, masks)
    model[0].weight_mask[0, 0] = 0.5
    for read in (from_torch_prune, remove_torch_prune):
        with pytest.raises(ValueError, match=r"mask of 0.weight has values other than 0 and 1"):
            read(model)
    with pytest.raises(ValueError, match=r"mask of 0.weight has values other than 0 and 1"):
        read_torch_state_dict(model.state_dict())


def test_masks_that_do_not_fit(model, masks):
    with pytest.raises(ValueError, match="the masks do not fit the model"):
        to_torch_prune(nn.Sequential(nn.Linear(4, 4)), masks)
    to_torch_prune(model, masks)
    with pytest.raises(ValueError, match=r"0.weight is masked by torch.nn.utils.prune; remove_"):
        to_torch_prune(model, masks)
    with pytest.raises(ValueError, match=r"0.weight is masked by torch.nn.utils.prune; remove_"):
        masks.apply_(model)


def test_other_parametrisations_are_no_masks():
    spectral = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="masks no parameter"):
        from_torch_prune(spectral)
