"""Procrustes against its own optimality condition, a hidden rotation and scipy."""

import pytest
import torch

from gonzo.translation.orthogonal import (
    nearest_orthogonal,
    orthogonality_error,
    procrustes,
    towards_orthogonal,
)


def rotation(dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]


def test_a_hidden_rotation_is_recovered():
    w = rotation(30)
    x = torch.randn(200, 30, dtype=torch.float64)
    assert torch.allclose(procrustes(x, x @ w.T), w, atol=1e-12)


def test_it_agrees_with_scipy():
    scipy = pytest.importorskip("scipy.linalg")
    x, y = torch.randn(2, 50, 12, dtype=torch.float64)
    theirs, _ = scipy.orthogonal_procrustes(x.numpy(), y.numpy())
    assert torch.allclose(procrustes(x, y), torch.from_numpy(theirs).T, atol=1e-10)


def test_no_orthogonal_matrix_nearby_is_better():
    x, y = torch.randn(2, 40, 8, dtype=torch.float64)
    w = procrustes(x, y)
    least = (x @ w.T - y).square().sum()
    for seed in range(20):
        skew = torch.randn(8, 8, dtype=torch.float64) * 0.01
        other = torch.linalg.matrix_exp(skew - skew.T) @ w
        assert (x @ other.T - y).square().sum() > least, seed


def test_the_result_is_orthogonal_even_with_fewer_pairs_than_dimensions():
    x, y = torch.randn(2, 3, 8, dtype=torch.float64)
    assert orthogonality_error(procrustes(x, y)) < 1e-12


def test_a_step_towards_orthogonality_keeps_rotations_and_mends_others():
    w = rotation(10)
    assert torch.allclose(towards_orthogonal(w, 0.01), w, atol=1e-12)
    bent = w + 0.01 * torch.randn(10, 10, dtype=torch.float64)
    errors = [orthogonality_error(bent)]
    for _ in range(3):
        bent = towards_orthogonal(bent, 0.3)
        errors.append(orthogonality_error(bent))
    assert errors == sorted(errors, reverse=True)
    expected = 1.01 * bent - 0.01 * bent @ bent.T @ bent
    assert torch.allclose(towards_orthogonal(bent, 0.01), expected, atol=1e-14)


def test_the_nearest_orthogonal_matrix_is_the_polar_factor():
    w = rotation(6)
    stretch = torch.randn(6, 6, dtype=torch.float64)
    assert torch.allclose(nearest_orthogonal(w @ (stretch @ stretch.T)), w, atol=1e-8)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(4, 2), r"one shape .* \(3, 2\) and \(4, 2\)"),
        (torch.zeros(0, 2), torch.zeros(0, 2), "at least one pair"),
        (torch.zeros(3, 2), torch.zeros(3, 2).double(), "one dtype"),
        (torch.full((3, 2), float("nan")), torch.ones(3, 2), "finite"),
    ],
)
def test_bad_input(source, target, message):
    with pytest.raises(ValueError, match=message):
        procrustes(source, target)
