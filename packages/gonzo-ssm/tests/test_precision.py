"""Kernels in float32 keep their digits at length 16384, where the usual formulas lose three."""

import pytest
import torch

from gonzo.ssm import S4, S4D, S4DKernel, S4Kernel

LENGTH, N = 16_384, 64


def error(actual, exact):
    return ((actual - exact).abs().max() / exact.abs().max()).item()


def nodes_by_powers(length):
    """The roots of unity as powers in complex64: what the original evaluates its kernel at."""
    omega = torch.tensor(complex(torch.exp(torch.tensor(-2j * torch.pi / length))))
    return omega.to(torch.complex64) ** torch.arange(length // 2 + 1)


def truncated(operator, omega):
    """The paper's algorithm 1 on nodes ω, with C̃ = C (I - Ā^L), all else in float64."""
    a = torch.complex(-operator.log_a_real.double().exp(), operator.a_imag.double())
    dt = operator.log_dt.double().exp()[:, None]
    p, b = (torch.view_as_complex(v.double()) for v in (operator.p[0], operator.b))
    w = torch.complex(*operator.system().unbind(1)).mT  # a, b, c, p, q
    both = [torch.cat([v, v.conj()], -1) for v in w]
    a_bar = torch.diag_embed(1 + both[0]) + both[3][..., None] * both[4][:, None]
    c = torch.linalg.matrix_power(a_bar, LENGTH).mT @ both[2][..., None]
    c = (both[2] - c[..., 0])[:, : N // 2]
    # The finite form, without a pole at ω = -1.
    plus = 1 + omega

    def cauchy_sum(v):
        v, scaled = (dt * v)[..., None], (dt * a)[..., None]
        there = 2 * (1 - omega) - plus * scaled
        back = 2 * (1 - omega) - plus * scaled.conj()
        return 2 * (v / there + v.conj() / back).sum(1)

    cross = cauchy_sum(c * p) * cauchy_sum(p.conj() * b)
    k_qp = cauchy_sum(p.conj() * p)
    return torch.fft.irfft(cauchy_sum(c * b) - cross * (plus / 2) / (1 + k_qp * plus / 2), n=LENGTH)


@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_s4_loses_nothing_where_powers_of_omega_do(seed):
    torch.manual_seed(seed)
    operator = S4Kernel(2, N)
    exact = operator.kernel(LENGTH, dtype=torch.float64)
    assert error(operator.kernel(LENGTH), exact) <= 1e-6
    angle = -2 * torch.pi / LENGTH * torch.arange(LENGTH // 2 + 1, dtype=torch.float64)
    omega = torch.polar(torch.ones_like(angle), angle)
    assert error(truncated(operator, omega), exact) < 1e-9  # the restatement is right
    assert error(truncated(operator, nodes_by_powers(LENGTH).to(omega.dtype)), exact) > 2e-5


@pytest.mark.parametrize("init", ["lin", "inv", "legs"])
@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_s4d_loses_nothing_where_a_float32_exponent_does(seed, init):
    torch.manual_seed(seed)
    operator = S4DKernel(4, N, init=init, dt_min=1e-3, dt_max=1e-3)
    exact = operator.kernel(LENGTH, dtype=torch.float64)
    assert error(operator.kernel(LENGTH), exact) <= 5e-7
    a = torch.complex(-operator.log_a_real.exp(), operator.a_imag)
    b, c = (torch.view_as_complex(v) for v in (operator.b, operator.c))
    w = a * operator.log_dt.exp()[:, None]
    exponent = w[..., None] * torch.arange(LENGTH)
    naive = 2 * ((c * b * (w.exp() - 1) / a)[..., None] * exponent.exp()).sum(1).real
    assert error(naive, exact) > 3e-6


@pytest.mark.parametrize("kind", [S4, S4D])
def test_autocast_leaves_the_state_space_part_in_float32(kind):
    layer = kind(8, 16)
    x = torch.randn(2, 500, 8)
    exact = layer.operator(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer.operator(x)
        loss = layer(x).float().square().mean()
    loss.backward()
    assert torch.equal(y, exact)
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("kind", [S4, S4D])
def test_half_precision_inputs_are_convolved_in_float32(kind):
    layer = kind(8, 16)
    x = torch.randn(2, 100, 8).bfloat16()
    y = layer.operator(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, layer.operator(x.float()).bfloat16())
