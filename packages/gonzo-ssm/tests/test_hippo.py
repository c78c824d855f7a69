import pytest
import torch

from gonzo.core.testing import assert_close
from gonzo.ssm import S4DKernel, legs, legs_dplr
from gonzo.ssm.hippo import DPLR, fout, fout_dplr, legt, legt_dplr

F64 = torch.float64
MATRICES = {"legs": (legs, legs_dplr), "legt": (legt, legt_dplr), "fout": (fout, fout_dplr)}
LEAST_DAMPING = {"legs": 0, "legt": 1e-4, "fout": 1e-4}


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


def test_legt_is_the_matrix_of_the_paper():
    a, b = legt(3)
    three, five = 3**0.5, 5**0.5
    expected = [[1, -three, five], [three, 3, -three * five], [five, three * five, 5]]
    assert_close(a, -torch.tensor(expected, dtype=F64) / 2)
    assert_close(b, torch.tensor([1, three, five], dtype=F64) / 2)


def test_fout_is_the_matrix_of_the_paper():
    a, b = fout(4)
    two, pi = 2**0.5, torch.pi
    expected = [[-1, 0, -two, 0], [0, 0, 0, 0], [-two, 0, -2, -pi], [0, 0, pi, 0]]
    assert_close(a, torch.tensor(expected, dtype=F64))
    assert_close(b, torch.tensor([1, 0, two, 0], dtype=F64))


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("clip_b", [False, True])
@pytest.mark.parametrize("n", [2, 8, 64, 256])
def test_it_is_the_dense_matrix_in_another_basis(name, clip_b, n):
    """What no basis changes: C A^k B of the dense and of the structured model."""
    matrix, structure = MATRICES[name]
    dense, b = matrix(n)
    dense = (dense - LEAST_DAMPING[name] * torch.eye(n)) / n**2  # so that powers stay small
    half = as_complex(structure(n, clip_b=clip_b))
    full = DPLR(*(torch.cat([v, v.conj()], -1) for v in half))
    structured = (torch.diag(full.a) - full.p.mT @ full.p.conj()) / n**2
    # B may be clipped: P's rows are multiples of B, by parity for LegT.
    pick = torch.arange(n) % 2 == 0 if name == "legt" else torch.ones(n, dtype=torch.bool)
    x, y = torch.where(pick, b, 0), full.p[0]
    first = y
    scale = 2 if name == "legt" else 0.5 if name == "legs" else 1
    for _ in range(6):
        assert_close(scale * (torch.where(pick, b, 0) @ x), (first.conj() @ y).real)
        if not clip_b:
            assert_close(b @ x, (full.b.conj() @ y).real / scale**0.5)
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
    assert_close(2 * (vectors @ half.p[0]).real, p)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_b_is_root_two_p_and_p_is_real_and_positive(n):
    _, (p,), b = legs_dplr(n)
    assert not p[:, 1].any()
    assert (p[:, 0] > 0).all()
    assert_close(b, 2**0.5 * p)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("n", [8, 16, 64])
def test_b_is_whole(name, n):
    """Nothing is clipped: the norm of B is kept, whose imaginary part may reach 40."""
    matrix, structure = MATRICES[name]
    assert_close(2 * structure(n).b.square().sum(), matrix(n)[1].square().sum())


@pytest.mark.parametrize(("n", "kept"), [(8, 0.54), (16, 0.38), (64, 0.19)])
def test_the_clip_of_the_original_loses_most_of_b(n, kept):
    """How much depends on the phases; these shares of the norm were measured with one LAPACK."""
    whole, clipped = legs_dplr(n).b, legs_dplr(n, clip_b=True).b
    assert clipped[:, 1].abs().max() == 2
    share = clipped.norm() / whole.norm()
    assert share < 0.95
    assert abs(share - kept) < 0.02


@pytest.mark.parametrize("structure", [legs_dplr, legt_dplr])
def test_the_phases_that_lapack_chooses_do_not_matter(monkeypatch, structure):
    expected = structure(16)
    eigh = torch.linalg.eigh

    def turned(matrix):
        values, vectors = eigh(matrix)
        angles = 6.3 * torch.rand(len(values), dtype=F64)
        return values, vectors * torch.polar(torch.ones_like(angles), angles)

    monkeypatch.setattr(torch.linalg, "eigh", turned)
    for actual, part in zip(structure(16), expected, strict=True):
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
