import re

import pytest
import torch

from gonzo.core import param_groups
from gonzo.core.testing import assert_close
from gonzo.ssm import H3

F64 = torch.float64


def trained(layer):
    """Parameters off their initial values, as after training."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer


def shift(layer, u):
    """The shift model as the paper writes it: a state that moves down by one, (time, d_model)."""
    n = layer.d_state
    down = torch.diag(torch.ones(n - 1, dtype=F64), -1)
    outputs = torch.zeros_like(u)
    for feature in range(layer.d_model):
        b, c, state = layer.shift_b[feature], layer.shift_c[feature], torch.zeros(n, dtype=F64)
        for t, number in enumerate(u[:, feature]):
            state = down @ state + b * number
            outputs[t, feature] = c @ state + layer.shift_d[feature] * number
    return outputs


def dense(layer, x):
    """H3 step by step, one sequence (time, d_model): a matrix of models for each head."""
    q, k, v = (x @ layer.project_in.weight.T + layer.project_in.bias).chunk(3, dim=-1)
    k, size = shift(layer, k), layer.head_dim
    kernel = layer.diagonal.kernel(len(x), dtype=F64)
    read = torch.zeros_like(x)
    for head in range(layer.n_head):
        part = slice(head * size, head * size + size)
        matrices = torch.einsum("te,tf->tef", k[:, part], v[:, part])
        for t in range(len(x)):
            y = torch.einsum("l,lef->ef", kernel[head, : t + 1].flip(0), matrices[: t + 1])
            read[t, part] = q[t, part] @ (y + layer.d[head] * matrices[t])
    return read @ layer.project_out.weight.T + layer.project_out.bias


@pytest.mark.parametrize("head_dim", [1, 2, 6])
@torch.no_grad()
def test_it_is_the_dense_model(head_dim):
    layer = trained(H3(6, 4, head_dim=head_dim, dtype=F64))
    x = torch.randn(2, 15, 6, dtype=F64)
    expected = torch.stack([dense(layer, row) for row in x])
    assert_close(layer(x), expected)
    state, outputs = layer.init_state(2), []
    for x_t in x.unbind(1):
        y, state = layer.step(x_t, state)
        outputs.append(y)
    assert_close(torch.stack(outputs, 1), expected)


@pytest.mark.parametrize("d_state", [2, 64])
@torch.no_grad()
def test_the_shift_starts_as_a_convolution_with_c(d_state):
    layer = H3(5, d_state)
    taps = layer.shift_c + torch.nn.functional.pad(layer.shift_d[:, None], (0, d_state - 1))
    assert_close(layer.init_state(1).taps.flip(1), taps)
    assert layer.shift_c.abs().max() <= d_state**-0.5


@torch.no_grad()
def test_it_multiplies_three_readings_of_its_input():
    layer = H3(6, 4, head_dim=3, dtype=F64)
    layer.project_in.bias.zero_()
    layer.project_out.bias.zero_()
    x = torch.randn(2, 9, 6, dtype=F64)
    assert_close(layer(2 * x), 8 * layer(x))


@torch.no_grad()
def test_it_recalls_what_followed_a_key():
    """Shift of one step, a diagonal model that forgets nothing: a table of what followed what."""
    size = 8
    layer = H3(size, 2, head_dim=size, dtype=F64)
    for parameter in layer.parameters():
        parameter.zero_()
    eye = torch.eye(size, dtype=F64)
    layer.project_in.weight.copy_(eye.repeat(3, 1))
    layer.project_out.weight.copy_(eye)
    layer.shift_b[:, 0] = 1
    layer.shift_c[:, 1] = 1
    layer.diagonal.log_a_real.fill_(-30.0)
    layer.diagonal.log_dt.fill_(0.0)
    layer.diagonal.b[..., 0] = 1
    layer.diagonal.c[..., 0] = 0.5
    words = torch.tensor([3, 5, 1, 6, 0, 2, 3, 1, 0])
    y = layer(torch.nn.functional.one_hot(words, size).to(F64)[None])[0]
    assert y[6].argmax() == 5  # after the second 3, what followed the first
    assert y[7].argmax() == 6
    assert y[8].argmax() == 2


def test_the_state_spaces_are_trained_slowly_and_without_decay():
    layer = H3(4, 8)
    groups = param_groups(layer, lr=0.01, weight_decay=0.1)
    settings = {
        id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }
    slow = {"shift_b"} | {f"diagonal.{name}" for name in ("log_dt", "log_a_real", "a_imag", "b")}
    for path, parameter in layer.named_parameters():
        decay = 0.1 if parameter.ndim >= 2 else 0.0
        assert settings[id(parameter)] == ((1e-3, 0.0) if path in slow else (0.01, decay)), path


def test_sizes():
    message = "H3: expected d_model to be a multiple of head_dim, got d_model=6 and head_dim=4"
    with pytest.raises(ValueError, match=re.escape(message)):
        H3(6, head_dim=4)
    with pytest.raises(ValueError, match="expected an even d_state of at least 2, got 5"):
        H3(6, 5)
