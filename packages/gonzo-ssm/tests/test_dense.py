"""S4 beside the dense model that it stands for: the check that finds every mistake."""

import pytest
import torch

from gonzo.core.testing import assert_close
from gonzo.ssm import S4DKernel, S4Kernel

F64 = torch.float64
HEADS, N, LENGTH = 3, 16, 400


def pairs(x):
    """Stored (…, 2) to complex."""
    return torch.view_as_complex(x.detach().double().contiguous())


def both(x):
    """One of each conjugate pair to all of them."""
    return torch.cat([x, x.conj()])


def dense_bilinear(operator, h):
    """Ā, B̄, C of head h as complex (N, N) and (N,), by solving."""
    dt = operator.log_dt[h].detach().double().exp()
    n = h % operator.n_ssm
    real, imag = -operator.log_a_real[n].detach().double().exp(), operator.a_imag[n].double()
    a = torch.diag(both(torch.complex(real, imag.detach())))
    if hasattr(operator, "p"):
        for p in pairs(operator.p)[:, n]:
            p = both(p)
            a = a - torch.outer(p, p.conj())
    eye = torch.eye(N, dtype=a.dtype)
    left = eye - dt / 2 * a
    b, c = both(pairs(operator.b)[n]), both(pairs(operator.c)[h])
    return torch.linalg.solve(left, eye + dt / 2 * a), torch.linalg.solve(left, dt * b), c


def krylov(a_bar, b_bar, c):
    """C Ā^l B̄."""
    taps = []
    for _ in range(LENGTH):
        taps.append((c @ b_bar).real)
        b_bar = a_bar @ b_bar
    return torch.stack(taps)


def trained(operator):
    """Parameters off their initial values, as after training."""
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return operator


OPERATORS = {
    "S4": lambda: S4Kernel(HEADS, N, dtype=F64),
    "S4, trained": lambda: trained(S4Kernel(HEADS, N, dtype=F64)),
    "S4D": lambda: trained(S4DKernel(HEADS, N, discretization="bilinear", dtype=F64)),
    "S4, coarse": lambda: S4Kernel(HEADS, N, dt_min=1.0, dt_max=5.0, dtype=F64),
    "S4, rank 2": lambda: trained(S4Kernel(HEADS, N, init="legt", dtype=F64)),
    "S4, fout": lambda: S4Kernel(HEADS, N, init="fout", dtype=F64),
    "S4, one A": lambda: trained(S4Kernel(HEADS, N, n_ssm=1, dtype=F64)),
    "S4, fine": lambda: S4Kernel(HEADS, N, dt_min=1e-5, dt_max=1e-4, dtype=F64),
}


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
def test_the_kernel_is_the_krylov_sequence(make):
    operator = make()
    kernel = operator.kernel(LENGTH, dtype=F64).detach()
    for h in range(HEADS):
        expected = krylov(*dense_bilinear(operator, h))
        assert (kernel[h] - expected).abs().max() <= 1e-10 * expected.abs().max()


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
def test_the_system_is_the_dense_transition(make):
    operator = make()
    for h, w in enumerate(operator.system().detach().unbind(-1)):
        a, b, c, *low_rank = torch.complex(w[:, 0], w[:, 1])
        actual = torch.diag(1 + both(a))
        for p, q in zip(low_rank[::2], low_rank[1::2], strict=True):
            actual = actual + torch.outer(both(p), both(q))
        a_bar, b_bar, c_ = dense_bilinear(operator, h)
        assert_close(actual, a_bar)
        assert_close(both(b), b_bar)
        assert_close(both(c), c_)


def test_zoh_is_the_exponential():
    operator = trained(S4DKernel(HEADS, N, dtype=F64))
    w = operator.system().detach()
    a_bar, b_bar, c = torch.complex(w[:, 0], w[:, 1]).mT.unbind(0)
    a_bar = 1 + a_bar
    dt = operator.log_dt.detach().exp()[:, None]
    a = torch.complex(-operator.log_a_real.exp(), operator.a_imag).detach()
    assert_close(a_bar, torch.exp(dt * a))
    assert_close(b_bar, (torch.exp(dt * a) - 1) / a * pairs(operator.b))
    lag = torch.arange(LENGTH)
    taps = (c * b_bar)[..., None] * torch.exp((dt * a)[..., None] * lag)
    assert_close(operator.kernel(LENGTH, dtype=F64).detach(), 2 * taps.sum(1).real)
