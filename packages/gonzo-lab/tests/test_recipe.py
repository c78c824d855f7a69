"""`Recipe` finds mistakes when it is made, and judges by its targets alone."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gonzo.lab import Metric, Paper, Preset, Recipe, Target, Verdict


@dataclass(frozen=True)
class Config:
    steps: int = 1


@dataclass
class Loose:
    steps: int = 1


@dataclass(frozen=True)
class WithPath:
    path: Path = field(default_factory=Path)


TARGET = Target("accuracy", ">=", 85)


def recipe(**changes: object) -> Recipe:
    described: dict = {
        "claim": "It learns",
        "paper": Paper("Somebody, 1999", where="Table 1"),
        "metrics": {"accuracy": Metric("accuracy", unit="%", paper=99.63)},
        "presets": {"quick": Preset(Config(), time="1 s", targets=[TARGET])},
    }
    return Recipe(**(described | changes))


def test_verdicts() -> None:
    preset = Preset(Config(), "1 s", [TARGET, Target("gap", ">", 0)], reached=Verdict.REPRODUCED)
    assert preset.verdict({"accuracy": 85, "gap": 1}) is Verdict.REPRODUCED
    assert preset.verdict({"accuracy": 84.99, "gap": 1}) is Verdict.MISSED
    assert preset.verdict({"accuracy": 85, "gap": 0}) is Verdict.MISSED
    assert preset.verdict({"accuracy": math.nan, "gap": 1}) is Verdict.MISSED


def test_summaries() -> None:
    assert recipe().paper_summary() == "99.63 %"
    assert recipe().summary({"accuracy": 91.5}) == "91.50 %"
    assert recipe().summary({}) == "–"
    assert recipe().summary({"accuracy": math.nan}) == "nan %"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"metrics": {}}, "at least one metric"),
        ({"presets": {}}, "expected a preset 'quick'"),
        ({"presets": {"quick": Preset(3, "1 s", [TARGET])}}, "instance of a frozen dataclass"),
        ({"presets": {"quick": Preset(Config, "1 s", [TARGET])}}, "instance of a frozen"),
        ({"presets": {"quick": Preset(Loose(), "1 s", [TARGET])}}, "Loose must be frozen"),
        ({"presets": {"quick": Preset(WithPath(), "1 s", [TARGET])}}, "JSON values only"),
        ({"presets": {"quick": Preset(Config(), "1 s", [])}}, "at least one target"),
        (
            {"presets": {"quick": Preset(Config(), "1 s", [Target("loss", "<", 1)])}},
            "its target loss < 1 is not one of the metrics accuracy",
        ),
        (
            {"presets": {"quick": Preset(Config(), "1 s", [TARGET], reached=Verdict.FAILED)}},
            "cannot be a failure",
        ),
        (
            {
                "presets": {
                    "quick": Preset(Config(), "1 s", [TARGET]),
                    "cpu": Preset(WithPath(), "1 s", [TARGET]),
                }
            },
            r"share one config class, got \['Config', 'WithPath'\]",
        ),
    ],
)
def test_mistakes(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises((ValueError, TypeError), match=complaint):
        recipe(**changes)
