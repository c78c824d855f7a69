"""Channels, shared models, fixed A, gate, bottleneck and dropout of S4 and S4D."""

import pytest
import torch

from gonzo.core import param_groups
from gonzo.core.testing import assert_close
from gonzo.ssm import S4, S4D, S4DKernel, S4Kernel

F64 = torch.float64


@pytest.mark.parametrize("kind", [S4Kernel, S4DKernel])
def test_channels_are_models_that_differ_in_c_alone(kind):
    both = kind(3, 8, channels=2, dtype=F64)
    x = torch.randn(2, 40, 3, dtype=F64)
    y = both(x)
    assert y.shape == (2, 40, 6)
    for channel in range(2):
        one = kind(3, 8, dtype=F64)
        state = both.state_dict() | {"c": both.c.unflatten(0, (2, 3))[channel].detach()}
        one.load_state_dict(state)
        assert_close(y.unflatten(2, (2, 3))[:, :, channel], one(x))
        stepped, _ = one.step(x[:, 0], one.init_state(2))
        assert_close(both.step(x[:, 0], both.init_state(2))[0][:, 3 * channel :][:, :3], stepped)


@pytest.mark.parametrize("kind", [S4Kernel, S4DKernel])
def test_features_share_a_and_b_in_turn(kind):
    shared, own = kind(6, 8, n_ssm=2, dtype=F64), kind(6, 8, dtype=F64)
    with torch.no_grad():
        for name in ("log_a_real", "a_imag", "b"):
            getattr(shared, name).add_(torch.rand_like(getattr(shared, name)))
        for name, parameter in own.named_parameters():
            value = getattr(shared, name)
            if name == "p":
                value = value[:, [0, 1, 0, 1, 0, 1]]
            elif len(value) == 2:
                value = value[[0, 1, 0, 1, 0, 1]]
            parameter.copy_(value)
    assert_close(shared.kernel(50, dtype=F64), own.kernel(50, dtype=F64))
    assert_close(shared.system(), own.system())


@pytest.mark.parametrize("kind", [S4, S4D])
def test_a_fixed_a_stays_and_the_rest_is_trained(kind):
    layer = kind(4, 8, fixed_a=True)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    groups = param_groups(layer, lr=1e-2)
    layer(torch.randn(2, 20, 4)).square().sum().backward()
    torch.optim.Adam(groups).step()
    a = {"operator.log_a_real", "operator.a_imag", "operator.p"}
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]) == (name in a), name
    # The checkpoint is that of any other layer of the size.
    kind(4, 8).load_state_dict(layer.state_dict())


@pytest.mark.parametrize("kind", [S4, S4D])
def test_a_gate_multiplies_what_the_operator_found(kind):
    layer = kind(4, 8, gate=2)
    x = torch.randn(2, 20, 4)
    assert layer.output.in_features == 8
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.bias.zero_()  # GELU(0) = 0: nothing passes but the last bias
    a, b = layer.output.bias.chunk(2)
    assert_close(layer(x), (a * b.sigmoid()).expand(2, 20, 4))


@pytest.mark.parametrize("kind", [S4, S4D])
def test_a_bottleneck_makes_the_operator_narrow(kind):
    layer = kind(8, 16, bottleneck=4, channels=2)
    assert layer.operator.d_model == 2
    assert layer.d_model == 8
    assert layer.init_state(3).x.shape == (3, 2, 8, 4)
    assert layer(torch.randn(3, 5, 8)).shape == (3, 5, 8)


@pytest.mark.parametrize("kind", [S4, S4D])
def test_dropout_is_tied_over_time(kind):
    layer = kind(16, 4, dropout=0.5)
    with torch.no_grad():  # the output shows which features were dropped, whatever the time
        layer.output.weight.copy_(torch.cat([torch.eye(16), torch.zeros(16, 16)]))
        layer.output.bias.zero_()
    dropped = layer(torch.randn(3, 40, 16)) == 0
    assert 0 < dropped.float().mean() < 1
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    layer.eval()
    assert not (layer(torch.randn(3, 40, 16)) == 0).any()


def test_what_is_not_the_default_is_printed():
    layer = S4(8, 4, init="fout", channels=2, n_ssm=4, fixed_a=True, clip_b=True, bottleneck=2)
    expected = "(4, d_state=4, channels=2, fixed_a=True, init=fout, clip_b=True)"
    assert expected in repr(layer)
    assert "(8, d_state=4, init=legs)" in repr(S4(8, 4))
