import re

import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete

from gonzo.core import param_groups
from gonzo.core.testing import assert_close
from gonzo.ssm import LSSL, S4Kernel, legs
from gonzo.ssm.hippo import legs_normal
from gonzo.ssm.lssl import krylov

F32, F64 = torch.float32, torch.float64


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
@torch.no_grad()
def test_the_step_is_scipys(alpha):
    layer = LSSL(3, 6, alpha=alpha, dtype=F64)
    state = layer.init_state(1)
    a, b = (t.numpy() for t in legs(6))
    for h, dt in enumerate(layer.log_dt.exp().tolist()):
        model = (a, b[:, None], np.ones((1, 6)), np.zeros((1, 1)))
        expected = cont2discrete(model, dt, method="gbt", alpha=alpha)
        assert_close(torch.eye(6, dtype=F64) + state.change[h], torch.from_numpy(expected[0]))
        assert_close(state.b_bar[h], torch.from_numpy(expected[1][:, 0].copy()))


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 100])
def test_krylov_is_the_sequence_of_powers(length):
    a, x = torch.randn(2, 4, 4, dtype=F64) / 4, torch.randn(2, 4, 3, dtype=F64)
    expected = []
    for _ in range(length):
        expected.append(x)
        x = a @ x
    assert_close(krylov(a, expected[0], length), torch.cat(expected, -1))


@torch.no_grad()
def test_the_kernel_is_the_impulse_response():
    layer = LSSL(3, 6, channels=2, dtype=F64)
    state, taps = layer.init_state(1), []
    x = state.b_bar
    for _ in range(50):
        taps.append(torch.einsum("hmn,hn->hm", layer.c, x))
        x = x + torch.einsum("hmn,hn->hm", state.change, x)
    taps[0] = taps[0] + layer.d
    assert_close(layer.kernel(50, dtype=F64), torch.stack(taps, -1))


@torch.no_grad()
def test_it_is_s4_by_other_means():
    """S4 is this model in the eigenvectors of HiPPO-N: with C turned alike, the same kernel."""
    layer, s4 = LSSL(4, 16, dtype=F64), S4Kernel(4, 16, dtype=F64)
    layer.d.zero_()
    s4.log_dt.copy_(layer.log_dt)
    v = torch.view_as_complex(legs_normal(16)[1])
    s4.c.copy_(torch.view_as_real(layer.c[:, 0].to(v.dtype) @ v))
    assert_close(layer.kernel(400, dtype=F64)[:, 0], s4.kernel(400, dtype=F64))


@torch.no_grad()
def test_float32_keeps_its_digits_at_length_4096():
    """Powers are squared in float64 and rounded once each; in float32 errors would double."""
    layer = LSSL(4, 64, dt_min=1e-3, dt_max=2e-3)
    exact = layer.double().kernel(4096, dtype=F64)
    assert_close(layer.float().kernel(4096), exact)


@pytest.mark.parametrize("dtype", [F32, F64])
@torch.no_grad()
def test_hundreds_of_steps_agree(dtype):
    layer = LSSL(3, 32, dtype=dtype)
    x = torch.randn(1, 600, 3, dtype=dtype)
    y, state, outputs = layer(x), layer.init_state(1), []
    for chunk in x.split([1, 399, 200], 1):
        part, state = layer.scan(chunk, state)
        outputs.append(part)
    assert_close(torch.cat(outputs, 1), y)
    state, outputs = layer.init_state(1), []
    for x_t in x.unbind(1):
        part, state = layer.step(x_t, state)
        outputs.append(part)
    assert_close(torch.stack(outputs, 1), y)


def test_a_fixed_layer_trains_c_and_d_alone():
    fixed, learned = LSSL(3, 4, fixed=True), LSSL(3, 4)
    outside = {"c", "d", "output.weight", "output.bias"}
    assert {name for name, _ in fixed.named_parameters()} == outside
    assert {name for name, _ in learned.named_parameters()} == outside | {"a", "b", "log_dt"}
    assert fixed.state_dict().keys() == learned.state_dict().keys()
    fixed.load_state_dict(learned.state_dict())
    x = torch.randn(2, 9, 3)
    assert torch.equal(fixed(x), learned(x))


@pytest.mark.parametrize("fixed", [False, True])
def test_the_state_space_is_trained_slowly_and_without_decay(fixed):
    layer = LSSL(3, 4, fixed=fixed)
    groups = param_groups(layer, lr=0.01, weight_decay=0.1)
    settings = {
        id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }
    slow = {"a": 1e-4, "b": 1e-4, "log_dt": 1e-3}
    for name, parameter in layer.named_parameters():
        decay = 0.1 if parameter.ndim >= 2 else 0.0
        expected = (slow[name], 0.0) if name in slow else (0.01, decay)
        assert settings[id(parameter)] == expected, name


def test_an_unstable_step_is_explained():
    message = (
        "LSSL: alpha=0 is unstable with dt_max=0.1 and d_state=64: expected (1 - 2 alpha) · "
        "dt_max · d_state < 2; use alpha of at least 0.5 or dt_max below 0.03125"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        LSSL(4, 64, alpha=0)
    LSSL(4, 64, alpha=0, dt_max=0.03)


def test_sizes_and_choices():
    with pytest.raises(ValueError, match="LSSL: expected d_model of at least 1, got 0"):
        LSSL(0)
    with pytest.raises(ValueError, match="LSSL: expected channels of at least 1, got 0"):
        LSSL(4, channels=0)
    with pytest.raises(ValueError, match=r"LSSL: expected alpha between 0 and 1, got 1\.5"):
        LSSL(4, alpha=1.5)
    with pytest.raises(ValueError, match=r"LSSL: expected 0 < dt_min <= dt_max, got 0 and 0.1"):
        LSSL(4, dt_min=0)
    with pytest.raises(ValueError, match="LSSL: expected a length of at least 1, got 0"):
        LSSL(4, 4).kernel(0)


@torch.no_grad()
def test_parameters_that_diverged():
    layer = LSSL(4, 8)
    layer.a[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinite values; a parameter .* has diverged"):
        layer(torch.randn(2, 9, 4))
