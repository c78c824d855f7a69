"""The training that recipes share: its schedule, its loop, and sizes that are equal."""

from pathlib import Path

import pytest
import torch
from torch import nn

from gonzo.lab import Run
from gonzo.lab.sizes import count_parameters, equal_width
from gonzo.lab.training import Examples, Training, accuracy, train


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    training = Training(steps=50, lr=0.1, warmup=10)
    optimizer, schedule = training.optimizer(nn.Linear(2, 2))
    rates = []
    for _ in range(training.steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(1e-3)
    assert max(rates) == rates[10] == pytest.approx(0.1)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_classifier_learns_what_separates_its_examples(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((200, 4), generator=generator)
    split = Examples(x, (x[:, 0] > 0).long())
    with Run(tmp_path / "run") as run:
        classifier = nn.Linear(4, 2)
        before = accuracy(classifier, split, batch=7)
        train(classifier, split, Training(steps=60, batch=50, lr=0.1, warmup=5), run, seed=0)
    right = (classifier(split.x).argmax(-1) == split.label).double().mean()
    assert accuracy(classifier, split, batch=7) == pytest.approx(100 * float(right))
    assert before < 80 < 95 < accuracy(classifier, split)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("steps", -1, "steps of at least 0, got -1"),
        ("batch", 0, "batch of at least 1, got 0"),
        ("lr", 0.0, "lr above 0, got 0.0"),
        ("warmup", 0, "warmup of at least 1, got 0"),
    ],
)
def test_bad_settings_say_what_was_expected(field: str, value: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Training(**{field: value})  # ty: ignore[invalid-argument-type]


def test_the_width_of_a_model_of_equal_size() -> None:
    def build(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(8, width), nn.Linear(width, 3))

    assert count_parameters(build(5)) == 8 * 5 + 5 + 3 * 5 + 3
    for width in (1, 2, 7, 100):
        size = count_parameters(build(width))
        assert [equal_width(size + miss, build) for miss in (-5, 0, 5)] == [width] * 3
    with pytest.raises(ValueError, match="at most 3 parameters at width 1, got 15"):
        equal_width(3, build)


def test_a_shared_matrix_counts_once() -> None:
    one, other = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    assert count_parameters(nn.Sequential(one, other)) == 18
    other.weight = one.weight
    assert count_parameters(nn.Sequential(one, other)) == 9
