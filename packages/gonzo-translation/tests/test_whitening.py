"""Re-weighted maps against the method step by step in NumPy, and what they must satisfy."""

import numpy as np
import pytest
import torch

from gonzo.translation.whitening import reweighted_maps


def step_by_step(x, z, power):
    """Whiten, rotate, re-weight, de-whiten, as separate matrices for row vectors."""

    def whitening(m):
        _, s, vt = np.linalg.svd(m, full_matrices=False)
        return vt.T @ np.diag(1 / s) @ vt

    wx1, wz1 = whitening(x), whitening(z)
    u, s, vt = np.linalg.svd((x @ wx1).T @ (z @ wz1))
    a, b = wx1 @ u, wz1 @ vt.T
    a, b = a * s**power, b * s**power
    a = a @ u.T @ np.linalg.inv(wx1) @ u
    b = b @ vt @ np.linalg.inv(wz1) @ vt.T
    return a.T, b.T


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_maps_are_those_of_the_steps(power):
    x = torch.randn(80, 7, dtype=torch.float64) @ torch.randn(7, 7, dtype=torch.float64)
    z = x @ torch.randn(7, 7, dtype=torch.float64) + torch.randn(80, 7, dtype=torch.float64)
    found = reweighted_maps(x, z, power)
    for ours, theirs in zip(found, step_by_step(x.numpy(), z.numpy(), power), strict=True):
        # The signs of singular vectors are free, together on both sides.
        signs = torch.tensor(np.sign((ours.numpy() * theirs).sum(1)))
        torch.testing.assert_close(signs[:, None] * ours, torch.from_numpy(theirs))
    signs_of = [
        np.sign((ours.numpy() * theirs).sum(1))
        for ours, theirs in zip(found, step_by_step(x.numpy(), z.numpy(), power), strict=True)
    ]
    assert (signs_of[0] == signs_of[1]).all()


def test_a_rotation_is_undone_whatever_the_weights():
    x = torch.randn(60, 6, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    a, b = reweighted_maps(x, x @ rotation.mT)
    torch.testing.assert_close(x @ a.mT, x @ rotation.mT @ b.mT)
    # All correlations are 1, so nothing is weighed: the source was only rotated.
    torch.testing.assert_close(a @ a.mT, torch.eye(6, dtype=torch.float64))


def test_directions_that_the_sides_do_not_share_lose_weight():
    x = torch.randn(5000, 4, dtype=torch.float64)
    z = x.clone()
    z[:, 3] = torch.randn(5000, dtype=torch.float64)
    a, _ = reweighted_maps(x, z)
    lengths = (torch.eye(4, dtype=torch.float64) @ a.mT).norm(dim=1)
    assert lengths[3] < 0.3
    torch.testing.assert_close(lengths[:3], torch.ones(3, dtype=torch.float64), rtol=0, atol=0.02)


def test_a_direction_without_variance_stays_finite():
    x = torch.randn(30, 5)
    x[:, 2] = 0
    a, b = reweighted_maps(x, x)
    assert a.isfinite().all()
    torch.testing.assert_close(x @ a.mT, x @ b.mT, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pairs", [39, 15])
def test_fewer_pairs_than_dimensions_map_what_they_span(dtype, pairs):
    d = 40
    x = torch.nn.functional.normalize(torch.randn(500, d, dtype=dtype))
    z = x @ torch.linalg.qr(torch.randn(d, d, dtype=dtype))[0]
    a, b = reweighted_maps(x[:pairs], z[:pairs])
    # All correlations are 1, so both maps are rotations of what the pairs span, and 0 beside it.
    expected = torch.zeros(d, dtype=dtype)
    expected[-pairs:] = 1
    for mapping in (a, b):
        found = torch.linalg.svdvals(mapping).flip(0)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(x @ a.mT, z @ b.mT, rtol=0, atol=1e-3)  # other words, too


def test_pairs_of_zeros_give_maps_to_zero():
    a, b = reweighted_maps(torch.zeros(4, 3), torch.zeros(4, 3))
    assert not a.any()
    assert not b.any()


def test_bad_shapes():
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(4, 2\)"):
        reweighted_maps(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"got \(0, 2\)"):
        reweighted_maps(torch.zeros(0, 2), torch.zeros(0, 2))
