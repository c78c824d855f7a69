"""Layers through the Triton kernels give what they give through the products for the CPU."""

import functools

import pytest
import torch

import gonzo.core
from gonzo.core.testing import assert_close
from gonzo.efficient_attn import BasedBlock, HedgehogMap, LinearAttention, ReBasedMap
from gonzo.efficient_attn.hybrid import HybridAttention

linear = functools.partial(LinearAttention, 8, 2)
LAYERS = {
    **{
        kind: functools.partial(linear, feature_map=kind)
        for kind in ("elu", "relu", "performer", "taylor", "rebased", "hedgehog")
    },
    "rebased, joint": lambda: linear(feature_map=ReBasedMap(2, 3, convention="joint")),
    "hedgehog, exp": lambda: linear(feature_map=HedgehogMap(2, 4, activation="exp"), rotary=True),
    "based": lambda: BasedBlock(8, 2, d_key=3, window=4),
    "hybrid": lambda: HybridAttention(8, 2, window=3),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_both_give_the_same(make, device):
    layer = make().to(device, torch.float64)
    x = torch.randn(2, 9, 8, dtype=torch.float64).to(device).requires_grad_()
    lengths = torch.tensor([9, 4], device=device)
    results = []
    for name in ("triton", "reference"):
        with gonzo.core.backend(name):
            y = layer(x, lengths)
            state = layer.scan(x[:, :5], layer.init_state(2))[1]
            z, _ = layer.step(x[:, 5], state)
            learned = [x, *layer.parameters()]
            grads = torch.autograd.grad(y.square().sum() + z.sum(), learned)
        results.append((y, z, *grads))
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected)
