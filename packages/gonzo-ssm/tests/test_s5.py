import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gonzo.core import param_groups
from gonzo.core.testing import assert_close
from gonzo.ssm import S5, legs
from gonzo.ssm.hippo import legs_dplr, legs_normal
from gonzo.ssm.s5 import S5Operator

F32, F64 = torch.float32, torch.float64


def pairs(x):
    return torch.view_as_complex(x.detach().contiguous())


def both(x, dim=-1):
    return torch.cat([x, x.conj()], dim)


def dense(operator, x):
    """The operator as the paper writes it: all states, a matrix exponential, one step at a time."""
    dt = both(operator.log_dt.detach().exp().to(torch.complex128))
    a = both(torch.complex(-operator.log_a_real.exp(), operator.a_imag).detach())
    b, c = both(pairs(operator.b), 0), both(pairs(operator.c), 1)
    a_bar = torch.linalg.matrix_exp(torch.diag(dt * a))
    b_bar = torch.linalg.solve(torch.diag(a), (a_bar - torch.eye(len(a))) @ b)
    state, outputs = torch.zeros(x.shape[0], len(a), dtype=a.dtype), []
    for u in x.unbind(1):
        state = state @ a_bar.T + u.to(a.dtype) @ b_bar.T
        y = state @ c.T
        assert y.imag.abs().max() <= 1e-12 * y.abs().max()
        outputs.append(y.real + operator.d * u)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("n_block", [1, 4])
@torch.no_grad()
def test_it_is_the_dense_model(n_block):
    operator = S5Operator(3, 16, n_block=n_block, dt_max=0.5, dtype=F64)
    for parameter in operator.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(2, 50, 3, dtype=F64)
    assert_close(operator(x), dense(operator, x))


@torch.no_grad()
def test_the_gate_is_the_papers():
    layer = S5(3, 4, dtype=F64)
    x = torch.randn(2, 9, 3, dtype=F64)
    g = F.gelu(dense(layer.operator, x))
    assert_close(layer(x), g * torch.sigmoid(g @ layer.gate.weight.T + layer.gate.bias))


@pytest.mark.parametrize("n", [2, 8, 64])
def test_the_modes_rebuild_hippo_n(n):
    a, v = map(torch.view_as_complex, legs_normal(n))
    dense_a, b = legs(n)
    p = b / 2**0.5
    assert_close(2 * (v @ torch.diag(a) @ v.mH).real, dense_a + torch.outer(p, p))
    assert_close(v.mH @ v, torch.eye(n // 2, dtype=v.dtype))
    dplr = legs_dplr(n)
    assert torch.equal(torch.view_as_real(a), dplr.a)
    assert_close(torch.view_as_real(v.mH @ p.to(v.dtype)), dplr.p[0])


@torch.no_grad()
def test_it_starts_as_a_real_model_in_blocks_of_hippo_n():
    operator = S5Operator(5, 24, n_block=3, dtype=F64)
    a, v = map(torch.view_as_complex, legs_normal(8))
    start = torch.complex(-operator.log_a_real.exp(), operator.a_imag)
    assert_close(start, a.repeat(3))
    b, c = pairs(operator.b), pairs(operator.c)
    for block in range(3):
        part = slice(4 * block, 4 * block + 4)
        b_0, c_0 = 2 * (v @ b[part]).real, 2 * (c[:, part] @ v.mH).real
        assert_close(v.mH @ b_0.to(v.dtype), b[part])
        assert_close(c_0.to(v.dtype) @ v, c[:, part])
    assert ((operator.log_dt >= -6.91) & (operator.log_dt <= -2.30)).all()
    assert operator.log_dt.unique().numel() == 12


@pytest.mark.parametrize("dtype", [F32, F64])
@torch.no_grad()
def test_thousands_of_steps_agree(dtype):
    operator = S5Operator(4, 16, dtype=dtype)
    x = torch.randn(1, 2000, 4, dtype=dtype)
    y, state = operator(x), operator.init_state(1)
    outputs = []
    for chunk in x.split([1500, 500], 1):
        part, state = operator.scan(chunk, state)
        outputs.append(part)
    assert_close(torch.cat(outputs, 1), y)
    state, outputs = operator.init_state(1), []
    for x_t in x.unbind(1):
        part, state = operator.step(x_t, state)
        outputs.append(part)
    assert_close(torch.stack(outputs, 1), y)


@torch.no_grad()
def test_float32_keeps_its_digits_over_thousands_of_steps():
    operator = S5Operator(4, 64, dt_min=1e-2)
    x = torch.randn(1, 4000, 4)
    y = operator(x)
    assert_close(y, operator.double()(x.double()))


def test_training_keeps_the_states_and_nothing_as_large():
    """The states serve the scan and C; B̄ u is computed and dropped."""
    operator, x = S5Operator(8, 64), torch.randn(2, 100, 8)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        operator(x).sum()
    states = 2 * 100 * 64 * 4
    assert sum(size == states for size in kept.values()) == 1
    assert sum(kept.values()) < 1.4 * states


def test_the_state_space_is_trained_slowly_and_without_decay():
    layer = S5(4, 8)
    groups = param_groups(layer, lr=0.01, weight_decay=0.1)
    settings = {
        id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }
    for path, parameter in layer.named_parameters():
        slow = path.rpartition(".")[2] in {"log_dt", "log_a_real", "a_imag", "b"}
        expected = (1e-3, 0.0) if slow else (0.01, 0.1 if parameter.ndim >= 2 else 0.0)
        assert settings[id(parameter)] == expected, path


def test_it_learns_to_repeat_what_it_heard_before():
    """Echo noise after 20 steps: without a memory the error is the variance, 1."""
    model = nn.Sequential(nn.Linear(1, 16), S5(16, 64, dt_min=1e-2), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(param_groups(model, lr=1e-2))
    for _ in range(100):
        x = torch.randn(8, 80, 1)
        error = F.mse_loss(model(x)[:, 20:], x[:, :-20])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.4


@pytest.mark.parametrize("kind", [S5, S5Operator])
@pytest.mark.parametrize(("d_state", "n_block"), [(7, 1), (0, 1), (12, 4), (8, 0)])
def test_blocks_are_of_an_even_size(kind, d_state, n_block):
    message = f"expected d_state to be a multiple of 2 · n_block, got {d_state} and {n_block}"
    with pytest.raises(ValueError, match=re.escape(message)):
        kind(4, d_state, n_block=n_block)


def test_sizes_and_steps():
    with pytest.raises(ValueError, match="S5: expected d_model of at least 1, got 0"):
        S5(0)
    with pytest.raises(ValueError, match=r"S5: expected 0 < dt_min <= dt_max, got 0.2 and 0.1"):
        S5(4, dt_min=0.2)


@torch.no_grad()
def test_parameters_that_diverged():
    layer = S5(4, 8)
    layer.operator.log_dt[1] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinite values; a parameter .* has diverged"):
        layer.init_state(2)
