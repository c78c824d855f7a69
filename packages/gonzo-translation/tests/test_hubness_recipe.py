"""The recipe at the smallest size: it returns what it promises, and its parts show the claim."""

from dataclasses import replace

import pytest

pytest.importorskip("gonzo.lab", reason="recipes need the extra gonzo-translation[recipes]")
pytest.importorskip("matplotlib", reason="recipes need the extra gonzo-translation[recipes]")

from gonzo.lab import Run
from gonzo.translation.recipes.hubness import RECIPE, Config, main

pytestmark = pytest.mark.recipe

SMALL = Config(words=1000, test=300, dimensions=(3, 100), noises=(1.0, 1.5), seeds=1)


def test_it_returns_its_metrics_and_shows_the_direction(tmp_path):
    with Run(tmp_path / "run", threads=1) as run:
        results = main(SMALL, run)
    assert set(RECIPE.metrics) <= set(results)
    assert results["skewness_nn"] > 2 * results["skewness_low"]
    assert results["skewness_nn"] > 2 * results["skewness_csls"]
    assert results["gain"] > results["even_gain"]
    assert results["gain"] > 2
    drawn = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert drawn == {"dimensions.svg", "noise.svg", "occurrences.svg"}


def test_it_repeats_and_another_seed_differs(tmp_path):
    tiny = replace(SMALL, words=60, test=20, dimensions=(4,), noises=(1.5,))
    results = []
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        with Run(tmp_path / name, threads=1, seed=seed) as run:
            results.append(main(tiny, run))
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": 1001}, "test of 1 to words, 1000, got 1001"),
        ({"words": 9, "test": 1}, "words of at least 10, as many as are retrieved, got 9"),
        ({"noise": 2.0}, r"noise of \(1.0, 1.5\), got 2.0"),
        ({"dimensions": ()}, "dimensions of at least 2"),
        ({"seeds": 0}, "seeds of at least 1, got 0"),
    ],
)
def test_configs_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
