import pytest
import torch

from gonzo.core import complex_pairs
from gonzo.core.testing import assert_close


def numbers(*shape):
    return torch.randn(*shape, dtype=torch.complex128)


def as_complex(pairs):
    return torch.view_as_complex(pairs.contiguous())


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("conj", torch.conj_physical),
        ("mul", torch.mul),
        ("reciprocal", torch.reciprocal),
        ("exp", torch.exp),
        ("expm1", torch.expm1),
    ],
)
def test_it_is_torchs_complex_operation(name, operation):
    inputs = [numbers(3, 4), numbers(4)][: 2 if name == "mul" else 1]
    actual = getattr(complex_pairs, name)(*map(torch.view_as_real, inputs))
    assert_close(as_complex(actual), operation(*inputs))


def test_a_real_number_adds_to_the_real_part():
    x = numbers(3, 4)
    assert_close(as_complex(complex_pairs.add_real(torch.view_as_real(x), -2)), x - 2)


def test_expm1_keeps_its_digits_near_zero():
    x = 1e-12 * numbers(5)
    series = x + x**2 / 2  # further terms are below 1e-36
    assert_close(as_complex(complex_pairs.expm1(torch.view_as_real(x))), series)


def test_pair_and_real_broadcast_and_take_apart():
    x = complex_pairs.pair(torch.ones(3, 1), torch.zeros(4))
    assert x.shape == (3, 4, 2)
    assert torch.equal(complex_pairs.real(x), torch.ones(3, 4))


def test_gradcheck():
    x, y = (torch.view_as_real(numbers(3)).clone().requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(complex_pairs.mul, (x, y))
    for name in ("conj", "reciprocal", "exp", "expm1"):
        assert torch.autograd.gradcheck(getattr(complex_pairs, name), (x,))
