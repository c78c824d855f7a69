"""A trained layer at another sampling rate."""

import pytest
import torch

from gonzo.core.nn import CausalAttention, ResidualStack
from gonzo.core.testing import assert_close, relative_rms
from gonzo.ssm import H3, LSSL, S4, S4D, S5, Bidirectional, Mega, S4DKernel, S4Kernel, set_rate

F64 = torch.float64


def with_longer_steps(layer, rate):
    """The same layer whose log Δ says what the rate says."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.endswith("log_dt"):
                parameter.add_(torch.tensor(rate, dtype=F64).log())
    return layer


@pytest.mark.parametrize("rate", [0.5, 2, 3.7])
@pytest.mark.parametrize("kind", [S4Kernel, S4DKernel, S4, S4D, LSSL, S5])
def test_it_is_exactly_the_model_with_longer_steps(kind, rate):
    torch.manual_seed(1)
    layer = kind(4, 8, dtype=F64)
    x = torch.randn(2, 60, 4, dtype=F64)
    y = layer(x)
    set_rate(layer, rate)
    at_rate = layer(x)
    stream, _ = layer.scan(x, layer.init_state(2))
    set_rate(layer, 1)
    assert torch.equal(layer(x), y)
    expected = with_longer_steps(layer, rate)(x)
    assert relative_rms(expected, y) > 1e-3
    assert_close(at_rate, expected)
    assert_close(stream, expected)


@pytest.mark.parametrize("kind", [S4Kernel, S4DKernel])
def test_half_the_samples_give_half_the_outputs(kind):
    """Of a slow signal; what is left is what either discretisation is off by."""
    operator = kind(8, 16, dt_min=1e-3, dt_max=1e-2, dtype=F64)
    time = torch.arange(4000, dtype=F64)
    x = torch.sin(time * 2e-3)[None, :, None] * torch.ones(8, dtype=F64)
    y = operator(x)[:, 1::2]
    set_rate(operator, 2)
    at_half = operator(x[:, 1::2])
    set_rate(operator, 1)
    without = operator(x[:, 1::2])
    assert relative_rms(at_half, y) < 0.02
    assert relative_rms(without, y) > 0.2


def test_it_reaches_every_layer_of_a_model():
    stack = ResidualStack([S4(4, 8), CausalAttention(4, n_head=2), Bidirectional(S4D(4, 8))])
    set_rate(stack, 0.5)
    assert [m.rate for m in stack.modules() if hasattr(m, "rate")] == [0.5] * 3


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_impossible_rates(rate):
    with pytest.raises(ValueError, match="set_rate: expected a finite rate above 0"):
        set_rate(S4(4, 8), rate)


@pytest.mark.parametrize("layer", [H3(4, 8), Mega(4, 8, d_key=4)])
def test_layers_that_count_steps(layer):
    with pytest.raises(ValueError, match="whose memory counts steps"):
        set_rate(ResidualStack([S4(4, 8), layer]), 2)


def test_a_model_without_such_layers():
    with pytest.raises(ValueError, match="with layers S4, S4D, S5 or LSSL, got a CausalAttention"):
        set_rate(CausalAttention(4, n_head=2), 2)
