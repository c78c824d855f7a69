import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete

from gonzo.core.testing import assert_close
from gonzo.ssm.discretize import bilinear, zoh

F64 = torch.float64


@pytest.mark.parametrize("rule", [bilinear, zoh])
def test_it_is_scipys(rule):
    a = torch.complex(-torch.rand(5, dtype=F64), 10 * torch.randn(5, dtype=F64))
    b = torch.randn(5, dtype=torch.complex128)
    dt = torch.tensor([[0.3]], dtype=F64)
    a_bar, b_bar = rule(*map(torch.view_as_real, (a, b)), dt)
    matrices = (np.diag(a), b[:, None].numpy(), b[None].numpy(), np.zeros((1, 1)))
    expected = cont2discrete(matrices, 0.3, method=rule.__name__)
    assert_close(torch.view_as_complex(a_bar), torch.from_numpy(expected[0]).diag())
    assert_close(torch.view_as_complex(b_bar), torch.from_numpy(expected[1][:, 0].copy()))


def test_zoh_of_a_slow_mode_is_a_plain_sum():
    """(exp(ΔA) - 1)/A tends to Δ, without losing digits on the way."""
    a, b = torch.tensor([[-1e-13, 1e-13]], dtype=F64), torch.tensor([[2.0, 0.0]], dtype=F64)
    _, b_bar = zoh(a, b, torch.tensor([[0.1]], dtype=F64))
    assert_close(b_bar, torch.tensor([[0.2, 0.0]], dtype=F64))
