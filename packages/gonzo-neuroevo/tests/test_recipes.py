"""The recipes at the smallest sizes: they run, return what they promise, and resume."""

import importlib
from dataclasses import replace

import pytest

pytest.importorskip("gonzo.lab", reason="recipes need the extra gonzo-neuroevo[recipes]")
pytest.importorskip("gymnasium", reason="recipes need the extra gonzo-neuroevo[recipes]")
pytest.importorskip("cma", reason="recipes need the extra gonzo-neuroevo[recipes]")

from gonzo.lab import Run
from gonzo.neuroevo.recipes.fair import above, interval
from gonzo.neuroevo.recipes.trial import interquartile_mean

pytestmark = pytest.mark.recipe

SMALLEST = {
    "xor": {"runs": 1, "generations": 3},
    "cartpole": {"runs": 1, "generations": 2, "held_out": 2, "population": 20},
    "acrobot": {"runs": 1, "generations": 1, "held_out": 1, "population": 6, "episodes": 1},
    "symbolic_regression": {
        "targets": ("nguyen-7",), "runs": 1, "population": 30, "generations": 4, "every": 2,
        "steps": 2,
    },
    "hyperneat_visual": {"side": 5, "trials": 10, "runs": 1, "population": 20, "generations": 2},
    "fair": {"seeds": 2, "generations": (2, 2, 1), "population": 10},
    "scaling": {"sizes": (1000,), "warm": 1, "timed": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", SMALLEST)
def test_a_recipe_returns_its_metrics(tmp_path, name):
    pytest.importorskip("matplotlib")
    module = importlib.import_module(f"gonzo.neuroevo.recipes.{name}")
    quick = module.RECIPE.presets["quick"].config
    with Run(tmp_path / "run", threads=1) as run:
        results = module.main(replace(quick, **SMALLEST[name]), run)
    assert set(module.RECIPE.metrics) <= set(results)
    assert list((tmp_path / "run" / "figures").iterdir())


def test_a_run_that_was_interrupted_goes_on_to_the_same_numbers(tmp_path):
    from gonzo.neuroevo.config import NEATConfig
    from gonzo.neuroevo.neat import NEAT
    from gonzo.neuroevo.recipes.trial import Trial
    from gonzo.neuroevo.supervised import xor

    def trial(folder, stop_after=None):
        one = Trial(NEAT(2, 1, NEATConfig(population=30), seed=1), xor(), 3.9)
        with Run(tmp_path / folder, threads=1, checkpoint_seconds=0) as run:
            if stop_after:
                advance, calls = run.log, []

                def log(step, **values):
                    advance(step, **values)
                    calls.append(step)
                    if len(calls) == stop_after:
                        raise ZeroDivisionError

                run.log = log
            one.evolve(run, 8)
        return one

    with pytest.raises(ZeroDivisionError):
        trial("cut", stop_after=4)
    resumed, whole = trial("cut"), trial("whole")
    assert resumed.neat.history == whole.neat.history
    assert resumed.neat.best_genome == whole.neat.best_genome


def test_interquartile_means():
    assert interquartile_mean([1.0, 2.0, 3.0, 100.0]) == 2.5
    assert interquartile_mean([5.0]) == 5
    assert interquartile_mean([0.0, 1.0, 2.0]) == pytest.approx(1)
    assert interquartile_mean([0.0, 0.0, 1.0, 2.0, 9.0]) == pytest.approx(
        (0.75 * 0 + 1 + 0.75 * 2) / 2.5
    )


def test_intervals_and_probabilities():
    values = [float(v) for v in range(40)]
    low, high = interval(values, seed=0)
    assert low < interquartile_mean(values) < high
    assert interval([3.0] * 5, seed=0) == (3.0, 3.0)
    assert above([1.0, 2.0], [0.0, 2.0]) == (1 + 0 + 1 + 0.5) / 4
