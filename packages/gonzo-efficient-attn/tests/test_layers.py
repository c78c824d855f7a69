"""Layers against what torch computes another way, and the models made of them."""

import pytest
import torch
from torch.nn import functional as F

from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack
from gonzo.core.testing import assert_close
from gonzo.efficient_attn import (
    BasedBlock,
    LinearAttention,
    ShortConv,
    SlidingWindowAttention,
    Taylor,
    language_model,
)

F64 = torch.float64


def test_linear_attention_is_its_equation():
    layer = LinearAttention(6, 2, feature_map=Taylor(2, 3)).double()
    x = torch.randn(2, 7, 6, dtype=F64)
    q, k, v = layer.project_in(x).split([6, 6, 6], -1)
    y = torch.zeros_like(x)
    for b in range(2):
        for h in range(2):
            part = slice(3 * h, 3 * h + 3)
            s = q[b, :, part] @ k[b, :, part].mT / 3**0.5
            weights = (1 + s + s**2 / 2).tril()
            weights = weights / weights.sum(1, keepdim=True)
            y[b, :, part] = weights @ v[b, :, part]
    assert_close(layer(x), layer.project_out(y), tolerance=1e-6, because="ε of the normaliser")


def test_rotary_positions_see_distances_alone():
    layer = LinearAttention(8, 2, feature_map="elu", rotary=True).double()
    x = torch.randn(1, 1, 8, dtype=F64).expand(1, 6, 8)  # the same input at every step
    q, k, _ = layer.project(x)
    scores = q @ k.mT
    assert_close(scores[:, :, 1:, 1:], scores[:, :, :-1, :-1])
    assert not torch.isclose(scores[:, :, 0, 0], scores[:, :, 3, 0]).any()


def test_short_conv_is_torchs():
    layer = ShortConv(5, 4).double()
    x = torch.randn(2, 9, 5, dtype=F64)
    taps = layer.taps.flip(0).mT[:, None]
    conv = F.conv1d(F.pad(x.mT, (3, 0)), taps, layer.bias, groups=5).mT
    assert_close(layer(x), conv * F.linear(x, layer.gate.weight, layer.gate.bias))
    layer.gate = None
    assert_close(layer(x), conv)


@pytest.mark.parametrize("window", [1, 3, 8, 100])
def test_sliding_windows_are_masked_attention(window):
    layer = SlidingWindowAttention(8, 2, window=window).double()
    whole = CausalAttention(8, 2).double()
    whole.load_state_dict(layer.state_dict())
    x = torch.randn(2, 30, 8, dtype=F64)
    y = layer(x)
    for t in (0, 5, 29):
        seen = x[:, max(0, t - window + 1) : t + 1]  # rotary positions see distances alone
        assert_close(y[:, t], whole(seen)[:, -1])


def test_based_is_the_sum_of_its_parts():
    layer = BasedBlock(8, 2, d_key=3, window=4).double()
    x = torch.randn(2, 20, 8, dtype=F64)
    c = x + layer.conv(x)
    assert_close(layer(x), layer.linear(c) + layer.window(c))
    assert layer.linear.feature_map.n_feature == 1 + 3 + 6


@pytest.mark.parametrize("kind", ["based", "rebased", "hedgehog", "performer", "elu", "softmax"])
def test_a_language_model_of_each_kind(kind):
    model = language_model(kind, 11, d_model=8, n_layer=2, n_head=2)
    assert isinstance(model, LanguageModel)
    assert isinstance(model.stack, ResidualStack)
    tokens = torch.randint(11, (2, 12))
    model.loss(tokens).backward()
    model.eval()
    found = model.generate(tokens[:, :4], 5, temperature=0.0).tokens
    with torch.no_grad():
        whole = torch.cat([tokens[:, :4], found], 1)
        assert torch.equal(model(whole)[:, 3:-1].argmax(-1), found)


def test_a_linear_layer_learns_to_look_up():
    """Keys and values in turn, then a key again: its value is what to say."""
    generator = torch.Generator().manual_seed(0)
    model = language_model("based", 16, d_model=32, n_layer=1, n_head=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    accuracy = 0.0
    for _ in range(250):
        keys = torch.stack([torch.randperm(8, generator=generator)[:4] for _ in range(32)])
        values = torch.randint(8, 16, (32, 4), generator=generator)
        asked = torch.randint(4, (32, 1), generator=generator)
        pairs = torch.stack([keys, values], 2).flatten(1)
        logits = model(torch.cat([pairs, keys.gather(1, asked)], 1))[:, -1]
        wanted = values.gather(1, asked).squeeze(1)
        optimizer.zero_grad()
        F.cross_entropy(logits, wanted).backward()
        optimizer.step()
        accuracy = 0.9 * accuracy + 0.1 * (logits.argmax(1) == wanted).float().mean().item()
    assert accuracy > 0.8


@torch.no_grad()
def test_half_precision_is_summed_in_float32():
    layer = LinearAttention(8, 2, feature_map="taylor").bfloat16()
    state = layer.init_state(2)
    assert state.sums.dtype == torch.float32
    y, after = layer.scan(torch.randn(2, 9, 8).bfloat16(), state)
    assert (y.dtype, after.sums.dtype) == (torch.bfloat16, torch.float32)


@torch.no_grad()
def test_a_state_of_float64_is_kept():
    layer = LinearAttention(8, 2, feature_map="hedgehog")
    state = layer.init_state(1, dtype=F64)
    y, after = layer.scan(torch.randn(1, 5, 8), state)
    assert (y.dtype, after.sums.dtype) == (torch.float32, F64)
