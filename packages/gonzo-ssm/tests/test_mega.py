import math
import re

import pytest
import torch
from scipy.stats import norm
from torch.nn import functional as F

from gonzo.core.testing import FORWARD_LAWS, LAWS, SequenceCase, assert_close
from gonzo.core.testing.stream_laws import scan_is_chunked_scan, states_stop_at_the_length
from gonzo.ssm import Mega
from gonzo.ssm.ema import DampedEMA
from gonzo.ssm.relative_attention import ChunkedAttention, RelativeAttention, laplace

F64 = torch.float64


def average(ema, x):
    """The damped average as the paper writes it, one step at a time."""
    alpha, delta = ema.alpha_logit.sigmoid(), ema.delta_logit.sigmoid()
    h, outputs = torch.zeros(x.shape[0], *alpha.shape, dtype=F64), []
    for x_t in x.unbind(1):
        h = alpha * (ema.beta * x_t[..., None]) + (1 - alpha * delta) * h
        outputs.append((ema.eta * h).sum(-1) / math.sqrt(ema.d_state))
    return torch.stack(outputs, 1)


def bias(attention, distance):
    """b of a distance t - s, from the angle between the two learned vectors."""
    half = attention.d_key // 2
    a, c = (torch.complex(*w.split(half)) for w in (attention.bias_query, attention.bias_key))
    frequency = 10_000.0 ** (-torch.arange(half, dtype=F64) / half)
    return (
        a * c.conj() * torch.polar(torch.ones(half, dtype=F64), distance * frequency)
    ).real.sum()


def attend(attention, q, k, v, chunk):
    """Attention of one sequence, one weight at a time."""
    outputs = []
    for t in range(len(q)):
        start = 0 if chunk is None else t // chunk * chunk
        tau = math.sqrt(attention.d_key) if attention.activation == "softmax" else t - start + 1
        logits = torch.stack(
            [q[t] @ k[s] / tau + bias(attention, t - s) for s in range(start, t + 1)]
        )
        if attention.activation == "softmax":
            weights = logits.softmax(0)
        else:
            numbers = norm.cdf(logits.numpy(), loc=0.5**0.5, scale=(4 * math.pi) ** -0.5)
            weights = torch.from_numpy(numbers)
        outputs.append(weights @ v[start : t + 1])
    return torch.stack(outputs)


def trained(module, size=0.3):
    """Parameters off their initial values, so that nothing is too small to be seen."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return module


@torch.no_grad()
def test_the_average_is_the_recurrence():
    ema = trained(DampedEMA(3, 5, dtype=F64))
    x = torch.randn(2, 40, 3, dtype=F64)
    assert_close(ema(x), average(ema, x))


@pytest.mark.parametrize("law", [*LAWS[:3], scan_is_chunked_scan, states_stop_at_the_length])
def test_the_average_keeps(law):
    law(SequenceCase(lambda: DampedEMA(4, 3)))


@pytest.mark.parametrize("activation", ["softmax", "laplace"])
@pytest.mark.parametrize("chunk", [None, 1, 4, 100])
@torch.no_grad()
def test_the_layer_is_its_equations(activation, chunk):
    layer = trained(Mega(3, 2, d_key=4, d_value=5, chunk=chunk, activation=activation, dtype=F64))
    x = torch.randn(2, 11, 3, dtype=F64)
    near = F.silu(average(layer.ema, x) + layer.omega * x)
    w, b = layer.averaged.weight.split([3, 4, 5, 3]), layer.averaged.bias.split([3, 4, 5, 3])
    phi, z, gamma, hidden = (near @ w_i.T + b_i for w_i, b_i in zip(w, b, strict=True))
    q, k = (F.silu(z) * layer.scale[i] + layer.shift[i] for i in (0, 1))
    v = F.silu(x @ layer.value.weight.T + layer.value.bias)
    rows = zip(q, k, v, strict=True)
    o = torch.stack([attend(layer.attention, *row, chunk) for row in rows])
    h = F.silu(hidden + (F.silu(gamma) * o) @ layer.candidate.weight.T)
    assert_close(layer(x), phi.sigmoid() * h + (1 - phi.sigmoid()) * x)


@pytest.mark.parametrize(
    "law", [scan_is_chunked_scan, states_stop_at_the_length, FORWARD_LAWS[0], FORWARD_LAWS[1]]
)
@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("activation", ["softmax", "laplace"])
def test_every_attention_keeps(law, chunk, activation):
    law(SequenceCase(lambda: trained(Mega(4, 2, d_key=4, chunk=chunk, activation=activation))))


def test_laplace_is_the_normal_distribution_of_the_paper():
    x = torch.linspace(-3, 3, 50, dtype=F64)
    mean, deviation = math.sqrt(1 / 2), math.sqrt(1 / (4 * math.pi))
    expected = 0.5 * (1 + torch.erf((x - mean) / (deviation * math.sqrt(2))))
    assert_close(laplace(x), expected)


@torch.no_grad()
def test_the_bias_depends_on_distance_alone():
    attention = trained(RelativeAttention(6, dtype=F64))
    q = k = torch.zeros(1, 5, 6, dtype=F64)
    near, far = (attention._with_bias(q, k, torch.arange(5)[None] + p) for p in (0, 100_000))
    assert_close(near[0] @ near[1].mT, far[0] @ far[1].mT)


@torch.no_grad()
def test_chunks_do_not_see_one_another():
    attention = trained(ChunkedAttention(4, 5, dtype=F64))
    q, k, v = (torch.randn(2, 13, size, dtype=F64) for size in (4, 4, 3))
    y = attention(q, k, v)
    others = (torch.cat([torch.randn_like(t[:, :5]), t[:, 5:]], 1) for t in (q, k, v))
    assert_close(attention(*others)[:, 5:], y[:, 5:])


@torch.no_grad()
def test_a_cache_of_chunks_is_bounded_and_the_other_grows():
    sizes = {}
    for chunk in (None, 4):
        layer = Mega(4, 2, d_key=4, chunk=chunk)
        state = layer.init_state(2)
        for time in (3, 9, 1):
            _, state = layer.scan(torch.randn(2, time, 4), state)
        sizes[chunk] = state.cache.keys.shape[1]
    assert sizes == {None: 13, 4: 4}


@pytest.mark.parametrize("chunk", [None, 64])
@torch.no_grad()
def test_hundreds_of_steps_agree_in_float32(chunk):
    layer = Mega(8, 4, d_key=16, chunk=chunk)
    x = torch.randn(1, 300, 8)
    y, state, outputs = layer(x), layer.init_state(1), []
    for part in x.split([250, *[1] * 50], 1):
        y_part, state = layer.scan(part, state)
        outputs.append(y_part)
    assert_close(torch.cat(outputs, 1), y)


def test_sizes_and_choices():
    with pytest.raises(ValueError, match="Mega: expected an even d_key of at least 2, got 5"):
        Mega(4, d_key=5)
    message = "Mega: expected activation 'softmax' or 'laplace', got 'relu'"
    with pytest.raises(ValueError, match=re.escape(message)):
        Mega(4, activation="relu")
    for name in ("d_state", "d_value", "chunk"):
        with pytest.raises(ValueError, match=f"Mega: expected {name} of at least 1, got 0"):
            Mega(4, **{name: 0})


@torch.no_grad()
def test_parameters_that_diverged():
    layer = Mega(4, 2)
    layer.ema.eta[0] = float("nan")
    message = "NaN or infinite values; a parameter of the layer has diverged"
    with pytest.raises(ValueError, match=message):
        layer(torch.randn(2, 9, 4))
    with pytest.raises(ValueError, match=message):
        layer.init_state(2)
