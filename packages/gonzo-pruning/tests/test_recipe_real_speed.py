"""The recipe at the smallest size: it returns what it promises, and resumes to the same network."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("gonzo.lab", reason="recipes need the extra gonzo-pruning[recipes]")
pytest.importorskip("matplotlib", reason="recipes need the extra gonzo-pruning[recipes]")

import torch

from gonzo.lab import Run
from gonzo.pruning.recipes import real_speed
from gonzo.pruning.recipes.lenet import LeNet
from gonzo.pruning.recipes.real_speed import RECIPE, Config, main

pytestmark = pytest.mark.recipe

SMALL = Config(
    hidden=(256, 128),
    sparsities=(0.5, 0.9),
    reported=0.9,
    steps=60,
    level_steps=30,
    subset=True,
    seconds=0.02,
)


def test_it_returns_its_metrics_and_draws(tmp_path):
    with Run(tmp_path / "run", threads=1) as run:
        results = main(SMALL, run)
    assert set(RECIPE.metrics) <= set(results)
    assert results["agreement"] > 99.9
    assert results["accuracy_dense"] > 60
    assert results["accuracy"] > 60
    # 10 % of the weights of the hidden layers, and their bits; the last layer is whole.
    assert 5 < results["file"] < 10
    assert results["memory"] >= 1
    assert results["compiled_64"] > 0.8 * results["zeros_64"]
    assert results["linear_64"] < results["torch_64"]
    drawn = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert drawn == {"latency.svg", "accuracy-and-size.svg"}


def test_all_ways_compute_the_same(tmp_path):
    torch.manual_seed(0)
    model = LeNet((64, 32))
    with torch.no_grad():
        for layer in (model.hidden1, model.hidden2):
            layer.weight.mul_(torch.rand(layer.weight.shape) < 0.1)
    x = torch.randn(5, 1, 28, 28)
    for way in (real_speed._Linear, real_speed._with_torch_s_best):
        torch.testing.assert_close(way(model)(x), model(x))


def test_the_training_resumes_to_the_same_network(tmp_path, monkeypatch):
    # Times differ from run to run; accuracies and sizes must not.
    measured = {f"{way}_{batch}": 1.0 for way in real_speed._WAYS for batch in (1, 64)}
    measured |= dict.fromkeys(("file", "memory", "units"), 1.0)
    monkeypatch.setattr(real_speed, "_measure", lambda *_: measured)
    accuracies = []
    for name, levels in (("whole", [(0.5, 0.9)]), ("cut", ["cut", (0.5, 0.9)])):
        for level in levels:
            with Run(tmp_path / name, threads=1) as run:
                if level == "cut":
                    with pytest.raises(RuntimeError, match="cut off"):
                        main(SMALL, _Cut(run))
                else:
                    main(SMALL, run)
        values = json.loads((tmp_path / name / "values.json").read_text())
        accuracies.append({k: v for k, v in values.items() if k.startswith("accuracy")})
    assert accuracies[0] == accuracies[1]
    assert len(accuracies[0]) == 3


class _Cut:
    """A run that ends in the middle of the last level."""

    def __init__(self, run):
        self._run = run

    def __getattr__(self, name):
        return getattr(self._run, name)

    def steps(self, total, *, name, **stateful):
        for step in self._run.steps(total, name=name, **stateful):
            if name == "0.9" and step == 20:
                raise RuntimeError("cut off")
            yield step


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparsities": (0.9, 0.5)}, r"sparsities between 0 and 1 that rise, got \(0.9, 0.5\)"),
        ({"sparsities": ()}, "sparsities between 0 and 1 that rise"),
        ({"sparsities": (0.9, 1.0)}, "sparsities between 0 and 1 that rise"),
        ({"reported": 0.8}, r"reported out of \(0.5, 0.9\), got 0.8"),
        ({"hidden": (0, 5)}, r"hidden layers of at least 1 unit, got \(0, 5\)"),
        ({"steps": -1}, "steps of at least 0, got -1"),
        ({"level_steps": -1}, "level_steps of at least 0, got -1"),
    ],
)
def test_configs_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
