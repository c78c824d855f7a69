import pytest
import torch

from gonzo.core.testing import assert_close
from gonzo.ssm import S4DKernel, legs, legs_dplr
from gonzo.ssm.hippo import DPLR

F64 = torch.float64


def as_complex(dplr):
    return DPLR(*map(torch.view_as_complex, dplr))


def test_legs_is_the_matrix_of_the_paper():
    a, b = legs(3)
    three, five = 3**0.5, 5**0.5
    expected = [[-1, 0, 0], [-three, -2, 0], [-five, -three * five, -3]]
    assert_close(a, torch.tensor(expected, dtype=F64))
    assert_close(b, torch.tensor([1, three, five], dtype=F64))


def test_the_spectrum_at_8():
    a = legs_dplr(8).a
    assert torch.equal(a[:, 0], torch.full((4,), -0.5, dtype=F64))
    expected = torch.tensor([0.4275, 1.9578, 5.3542, 19.8574], dtype=F64)
    assert (a[:, 1] - expected).abs().max() < 5e-5


@pytest.mark.parametrize("n", [2, 8, 64, 256])
def test_it_is_the_dense_matrix_in_another_basis(n):
    """A invariant is what no basis changes: C A^k B of the dense and of the structured model."""
    dense, b = legs(n)
    dense = dense / n**2  # so that powers stay small
    full = DPLR(*(torch.cat([v, v.conj()]) for v in as_complex(legs_dplr(n))))
    structured = (torch.diag(full.a) - torch.outer(full.p, full.p.conj())) / n**2
    x, y = b.clone(), full.b.clone()
    for _ in range(6):
        assert_close((b @ x), (full.b.conj() @ y).real)
        x, y = dense @ x, structured @ y


@pytest.mark.parametrize("n", [2, 8, 64])
def test_its_eigenvectors_rebuild_the_dense_matrix(n):
    dense, b = legs(n)
    half = as_complex(legs_dplr(n))
    p = b / 2**0.5
    skew = dense + torch.outer(p, p) + torch.eye(n, dtype=F64) / 2
    # Each eigenvector of S with the phase that makes its product with P real and positive.
    _, vectors = torch.linalg.eigh(-1j * skew)
    vectors = vectors[:, n // 2 :]
    phase = vectors.mH @ p.to(vectors.dtype)
    vectors = vectors * (phase / phase.abs())
    a = torch.diag(half.a)
    rebuilt = 2 * (vectors @ a @ vectors.mH).real - torch.outer(p, p)
    assert_close(rebuilt, dense)
    assert_close(2 * (vectors @ half.b).real, b)
    assert_close(2 * (vectors @ half.p).real, p)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_b_is_root_two_p_and_p_is_real_and_positive(n):
    _, p, b = legs_dplr(n)
    assert not p[:, 1].any()
    assert (p[:, 0] > 0).all()
    assert_close(b, 2**0.5 * p)


@pytest.mark.parametrize("n", [8, 16, 64])
def test_b_is_whole(n):
    """Nothing is clipped: the norm of B is kept, whose imaginary part may reach 40."""
    b = legs_dplr(n).b
    assert_close(2 * b.square().sum(), legs(n)[1].square().sum())


def test_the_phases_that_lapack_chooses_do_not_matter(monkeypatch):
    expected = legs_dplr(16)
    eigh = torch.linalg.eigh

    def turned(matrix):
        values, vectors = eigh(matrix)
        angles = 6.3 * torch.rand(len(values), dtype=F64)
        return values, vectors * torch.polar(torch.ones_like(angles), angles)

    monkeypatch.setattr(torch.linalg, "eigh", turned)
    for actual, part in zip(legs_dplr(16), expected, strict=True):
        assert_close(actual, part)


def test_s4d_starts_from_its_spectra():
    k = torch.arange(4)
    imag = {
        "lin": torch.pi * k,
        "inv": 8 / torch.pi * (8 / (2 * k + 1) - 1),
        "legs": legs_dplr(8).a[:, 1].float(),
    }
    for init, expected in imag.items():
        operator = S4DKernel(2, 8, init=init)
        assert_close(-operator.log_a_real.exp(), torch.full((2, 4), -0.5))
        assert_close(operator.a_imag, expected.expand(2, 4))
        b = legs_dplr(8).b.float() / 2 if init == "legs" else torch.tensor([1.0, 0.0])
        assert_close(operator.b, b.expand(2, 4, 2))
