"""The measurement of maps beside softmax: where curves cross, and what it refuses."""

import math

import pytest

pytestmark = pytest.mark.recipe


@pytest.fixture
def recipe():
    """It imports gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.efficient_attn.recipes import crossover

    return crossover


def test_it_runs_and_a_finished_run_is_read(tmp_path, recipe, monkeypatch):
    from gonzo.lab import Run

    config = recipe.Config(lengths=(4, 8), n_head=1, budget=0.001)
    with Run(tmp_path / "run") as run:
        first = recipe.main(config, run)
    monkeypatch.setattr(recipe, "time_in_turn", None)  # nothing is measured again
    with Run(tmp_path / "run") as run:
        assert recipe.main(config, run) == first
    assert recipe.RECIPE.metrics.keys() <= first.keys()
    assert first["speedup"] == first["softmax_seconds_8"] / first["taylor_seconds_8"]
    assert (tmp_path / "run" / "figures" / "crossover.svg").exists()


def test_the_crossing_of_a_line_and_a_square(recipe):
    lengths = (100, 1000, 10_000)
    seconds = {n: {"softmax": 1e-6 * n**2, "elu": 5e-4 * n} for n in lengths}
    assert recipe.crossing(seconds, "elu") == pytest.approx(500)
    late = {n: {"softmax": 1e-6 * n**2, "elu": 1.0 * n} for n in lengths}
    assert math.isinf(recipe.crossing(late, "elu"))
    early = {n: {"softmax": 1e-6 * n**2, "elu": 1e-6 * n} for n in lengths}
    assert recipe.crossing(early, "elu") == 100


def test_a_win_that_is_lost_again_does_not_count(recipe):
    seconds = {
        10: {"softmax": 2.0, "elu": 1.0},
        100: {"softmax": 1.0, "elu": 10.0},
        1000: {"softmax": 10.0, "elu": 1.0},
    }
    assert recipe.crossing(seconds, "elu") == pytest.approx(10**2.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": (8, 4)}, "lengths of at least 1 that grow"),
        ({"lengths": ()}, "lengths of at least 1 that grow"),
        ({"n_head": 0}, "n_head of at least 1, got 0"),
        ({"budget": 0}, "a budget above 0, got 0"),
    ],
)
def test_bad_configs_are_explained(recipe, change, message):
    with pytest.raises(ValueError, match=message):
        recipe.Config(**change)
