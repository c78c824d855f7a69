"""The measurement of LSSL beside S4: what it compares, what it returns, what it refuses."""

import pytest
import torch

from gonzo.core.testing import assert_close

pytestmark = pytest.mark.recipe


@pytest.fixture
def recipe():
    """It imports gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.ssm.recipes import lssl

    return lssl


def test_it_runs_and_a_finished_run_is_read(tmp_path, recipe, monkeypatch):
    from gonzo.lab import Run

    config = recipe.Config(d_model=2, d_state=4, lengths=(8, 32))
    monkeypatch.setattr(recipe, "peak_memory", lambda call, *, setup: len(call(*setup())))
    with Run(tmp_path / "run") as run:
        first = recipe.main(config, run)
    monkeypatch.setattr(recipe, "time_in_turn", None)  # nothing is measured again
    with Run(tmp_path / "run") as run:
        assert recipe.main(config, run) == first
    assert recipe.RECIPE.metrics.keys() <= first.keys()
    assert first["speedup"] == first["lssl_seconds_32"] / first["s4_seconds_32"] > 0
    assert first["memory_ratio"] == first["lssl_bytes_32"] / first["s4_bytes_32"]
    assert (tmp_path / "run" / "figures" / "length.svg").exists()


def test_memory_is_that_of_the_krylov_matrix(recipe):
    config = recipe.Config(d_model=8, d_state=64, lengths=(1024,))
    peaks = recipe.peaks(config, 1024, torch.device("cpu"))
    assert peaks["lssl"] > 8 * 64 * 1024 * 4 > 2 * peaks["s4"]


@pytest.mark.parametrize("d_state", [2, 6, 64])
def test_both_layers_are_given_one_model(recipe, d_state):
    s4, lssl = recipe.same_model(3, d_state)
    x = torch.randn(2, 50, 3, dtype=torch.float64)
    y = s4(x)
    taps = lssl.kernel(50, dtype=torch.float64)[:, 0]
    expected = torch.stack(
        [(x[:, : t + 1].flip(1) * taps[:, : t + 1].mT).sum(1) for t in range(50)]
    )
    assert_close(y, expected.transpose(0, 1))


def test_the_agreement_tells_models_apart(recipe, monkeypatch):
    config = recipe.Config(d_model=2, d_state=8, lengths=(64,))
    assert recipe.kernel_agreement(config) > 10

    def another(d_model, d_state):
        s4, lssl = recipe_same_model(d_model, d_state)
        with torch.no_grad():
            lssl.a.mul_(1.01)
        return s4, lssl

    recipe_same_model = recipe.same_model
    monkeypatch.setattr(recipe, "same_model", another)
    assert recipe.kernel_agreement(config) < 3


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"d_model": 0}, "d_model of at least 1, got 0"),
        ({"d_state": 3}, "an even d_state of at least 2, got 3"),
        ({"lengths": (64, 32)}, "lengths of at least 1 that grow"),
        ({"lengths": ()}, "lengths of at least 1 that grow"),
        ({"lengths": (0, 32)}, "lengths of at least 1 that grow"),
    ],
)
def test_sizes_are_checked(recipe, field, expected):
    with pytest.raises(ValueError, match=expected):
        recipe.Config(**field)
