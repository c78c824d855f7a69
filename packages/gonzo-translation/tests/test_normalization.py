"""Unit length and centring, and applying what was fitted to other vectors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.translation.normalization import Normalization, fit_normalization

STEPS = st.lists(st.sampled_from(["unit", "center"]), max_size=4)


def draw(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) + 0.5


def judged(vectors, steps):
    """The steps by numpy, one row at a time."""
    rows = vectors.numpy().copy()
    for step in steps:
        if step == "unit":
            rows = np.stack([row / (np.sqrt((row**2).sum()) or 1) for row in rows])
        else:
            rows = rows - sum(rows) / len(rows)
    return torch.from_numpy(rows)


@settings(deadline=None)
@given(STEPS, st.integers(1, 9), st.integers(1, 5))
def test_steps_are_those_of_numpy(steps, n, d):
    x = draw(n, d)
    torch.testing.assert_close(
        fit_normalization(x, steps).apply(x), judged(x, steps), rtol=1e-10, atol=1e-12
    )


def test_a_closed_form():
    x = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    unit = fit_normalization(x, ("unit",))
    assert unit.means == ()
    torch.testing.assert_close(unit.apply(x), torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    both = fit_normalization(x, ("unit", "center"))
    torch.testing.assert_close(both.means[0], torch.tensor([0.3, 0.9]))


def test_a_zero_vector_stays_zero():
    x = torch.tensor([[0.0, 0.0], [5.0, 0.0]])
    assert fit_normalization(x, "unit").apply(x).tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_other_vectors_get_the_means_that_were_fitted():
    x, other = draw(20, 3), draw(4, 3, seed=1)
    fitted = fit_normalization(x, ("center", "unit", "center"))
    expected = other - x.mean(0)
    expected = expected / expected.norm(dim=1, keepdim=True)
    expected = expected - fitted.means[1]
    torch.testing.assert_close(fitted.apply(other), expected)
    torch.testing.assert_close(fitted.apply(other[0]), expected[0])
    assert fitted.apply(other.float()).dtype == torch.float32


def test_no_steps_give_the_argument_back():
    x = draw(3, 2)
    assert fit_normalization(x, ()).apply(x) is x


def test_the_argument_is_not_changed():
    x = draw(3, 2)
    before = x.clone()
    fit_normalization(x, ("unit", "center", "unit")).apply(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normalization(("renorm",)), "expected steps out of .* got 'renorm'; MUSE's"),
        (lambda: fit_normalization(torch.ones(2, 2), ["unit", "centre"]), "got 'centre'"),
        (lambda: Normalization(("center",)), r"one mean for each of the 1 .* got 0"),
        (lambda: Normalization((), (torch.ones(2),)), r"each of the 0 .* got 1"),
        (
            lambda: Normalization(("center",), (torch.ones(2, 2),)),
            r"shape \(d,\), got \[\(2, 2\)\]",
        ),
        (
            lambda: Normalization(("center", "center"), (torch.ones(2), torch.ones(3))),
            r"one shape \(d,\), got \[\(2,\), \(3,\)\]",
        ),
        (lambda: fit_normalization(torch.ones(3), "unit"), r"shape \(n, d\) .* got \(3,\)"),
        (lambda: fit_normalization(torch.ones(0, 3), "unit"), r"at least one row, got \(0, 3\)"),
        (
            lambda: fit_normalization(torch.ones(2, 3), "center").apply(torch.ones(2, 4)),
            r"dimension 3, got vectors of shape \(2, 4\)",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("size", [1e25, 1e-30])
def test_lengths_beyond_the_range_of_squares(size):
    vectors = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]) * size
    unit = Normalization(("unit",)).apply(vectors)
    expected = torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 0.0]])
    assert torch.allclose(unit, expected, atol=1e-6)
