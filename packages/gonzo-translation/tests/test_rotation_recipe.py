"""The rotation recipe at its smallest: its languages, its metrics, and that it resumes."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("gonzo.lab", reason="recipes need the extra gonzo-translation[recipes]")
pytest.importorskip("matplotlib", reason="recipes need the extra gonzo-translation[recipes]")

from gonzo.lab import Run
from gonzo.translation.recipes import rotation

pytestmark = pytest.mark.recipe

SMALLEST = rotation.Config(
    words=200, dimensions=10, test=50, noises=(0.0, 0.05, 1.0), borne=0.05, beyond=1.0,
    self_words=150, self_noises=(0.0, 0.05), patience=1,
    game=rotation.Game(words=60, dimensions=4, hidden=8, batch=8, epochs=2, epoch_steps=3, seeds=2),
)  # fmt: skip


@pytest.mark.parametrize("even", [False, True])
def test_languages_without_noise_are_rotations(even):
    pair = rotation.languages(40, 6, 0.0, seed=1, even=even)
    expected = pair.source @ pair.rotation.mT
    torch.testing.assert_close(pair.target[pair.place], expected)
    identity = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(pair.rotation @ pair.rotation.mT, identity)


def test_noise_has_the_length_that_is_said():
    pair = rotation.languages(4000, 50, 0.5, seed=0)
    clean = pair.source @ pair.rotation.mT
    cosines = (clean * pair.target[pair.place]).sum(1)
    assert cosines.mean() == pytest.approx((1 + 0.5**2) ** -0.5, abs=0.005)


def test_it_returns_its_metrics_and_a_finished_run_returns_them_again(tmp_path):
    results = []
    for _ in range(2):
        with Run(tmp_path / "run", threads=1) as run:
            results.append(rotation.main(SMALLEST, run))
    assert set(rotation.RECIPE.metrics) == set(results[0])
    assert results[0] == results[1]
    assert results[0]["procrustes_error"] < 1e-12
    assert results[0]["self_error"] < 1e-12
    assert [file.name for file in (tmp_path / "run" / "figures").iterdir()] == ["noise.svg"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"borne": 0.3}, "borne out of"),
        ({"self_noises": (0.0,)}, "self_noises out of"),
        ({"test": 195}, "at least 10 words that are not held out, got 5"),
        ({"test": 0}, "test of at least 1"),
    ],
)
def test_bad_configs(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALLEST, **change)
