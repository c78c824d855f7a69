"""Channel masks and the weights that follow: a pruned channel is zero for any input."""

import pytest
import torch
from torch import nn

from gonzo.pruning.channels import batch_norm_scales, channel_weight_masks
from gonzo.pruning.masks import Masks


class Block(nn.Module):
    """A residual block whose last normalisation follows a sum, and a norm of its own elsewhere."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.after_sum = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 6)
        self.head_norm = nn.BatchNorm1d(6)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        x = self.after_sum(x + self.second(x)).relu()
        return self.head_norm(self.head(x.mean((2, 3))))


def full(model, names):
    return {name: torch.ones(model.get_parameter(name).shape, dtype=torch.bool) for name in names}


def test_scales_are_named_in_the_models_order():
    assert batch_norm_scales(Block()) == ("norm.weight", "after_sum.weight", "head_norm.weight")
    with pytest.raises(ValueError, match="Sequential has no batch normalisation with a scale"):
        batch_norm_scales(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)))


@pytest.mark.parametrize("training", [True, False])
def test_a_pruned_channel_is_zero_and_the_others_are_as_before(training):
    model = Block()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter))
    channels = full(model, ["norm.weight", "head_norm.weight"])
    channels["norm.weight"][[0, 2]] = False
    channels["head_norm.weight"][[1, 5]] = False
    x = torch.randn(7, 1, 5, 5)
    masks = channel_weight_masks(model, Masks(channels), x)
    assert list(masks) == [
        "first.weight",
        "first.bias",
        "norm.weight",
        "norm.bias",
        "head.weight",
        "head.bias",
        "head_norm.weight",
        "head_norm.bias",
    ]
    model.train(training)
    hidden = {}
    model.norm.register_forward_hook(lambda _m, _i, output: hidden.update(norm=output))
    model(x)
    before = hidden["norm"]
    masks.apply_(model)
    out = model(x)
    assert (hidden["norm"][:, [0, 2]] == 0).all()
    assert torch.equal(hidden["norm"][:, [1, 3]], before[:, [1, 3]])
    assert (out[:, [1, 5]] == 0).all()
    assert (out[:, [0, 2, 3, 4]] != 0).any(0).all()
    assert not any(p.requires_grad is False for p in model.parameters())


def test_the_model_is_left_as_it_was():
    model = Block()
    model.head_norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    masks = Masks(full(model, ["norm.weight"]))
    channel_weight_masks(model, masks, torch.randn(2, 1, 5, 5))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not model.head_norm.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_transposed_convolutions_have_their_outputs_second():
    model = nn.Sequential(nn.ConvTranspose2d(3, 5, 2), nn.BatchNorm2d(5))
    channels = full(model, ["1.weight"])
    channels["1.weight"][4] = False
    masks = channel_weight_masks(model, Masks(channels), torch.randn(1, 3, 4, 4))
    assert not masks["0.weight"][:, 4].any()
    assert masks["0.weight"][:, :4].all()


def test_a_layer_that_feeds_two_normalisations_keeps_what_either_needs():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)
            self.a, self.b = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

        def forward(self, x, scale):
            x = self.layer(x)
            return self.a(x) + scale * self.b(x)

    model = Twice()
    channels = {
        "a.weight": torch.tensor([True, False, True, False]),
        "b.weight": torch.tensor([True, True, False, False]),
    }
    masks = channel_weight_masks(model, Masks(channels), (torch.randn(2, 3), 2.0))
    assert masks["layer.bias"].tolist() == [True, True, True, False]
    assert masks["layer.weight"].all(1).tolist() == [True, True, True, False]
    assert masks["a.bias"].tolist() == [True, False, True, False]


def test_what_cannot_be_pruned_by_channels_is_explained():
    model, x = Block(), torch.randn(2, 1, 5, 5)
    with pytest.raises(ValueError, match=r"after_sum\.weight: its input is not the output of a"):
        channel_weight_masks(model, Masks(full(model, ["after_sum.weight"])), x)
    with pytest.raises(ValueError, match=r"head\.weight: not a scale of batch normalisation"):
        channel_weight_masks(model, Masks(full(model, ["head.weight"])), x)
    grouped = nn.Sequential(nn.ConvTranspose2d(4, 4, 2, groups=2), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match="0: a transposed convolution with groups"):
        channel_weight_masks(grouped, Masks(full(grouped, ["1.weight"])), torch.randn(2, 4, 5, 5))
