"""What a recipe is: one module that runs one claim of one paper and judges the outcome.

A recipe module is registered under the entry-point group `gonzo.recipes`:

    [project.entry-points."gonzo.recipes"]
    "ssm.sequential-mnist" = "gonzo.ssm.recipes.sequential_mnist"

and contains, besides a docstring (claim, paper, what is reduced), three things:

    @dataclass(frozen=True)
    class Config:                       # frozen; nested frozen dataclasses are welcome
        model: Model = Model()          # becomes --model.d-model 64 and so on
        steps: int = 600

    RECIPE = Recipe(
        claim="An S4 stack learns MNIST pixel by pixel",
        paper=Paper("Gu, Goel and Ré, Efficiently Modeling Long Sequences with Structured "
                    "State Spaces, ICLR 2022", where="Table 6, sMNIST"),
        metrics={"accuracy": Metric("test accuracy", unit="%", paper=99.63)},
        presets={
            "quick": Preset(Config(steps=300), time="30 s", targets=[Target("accuracy", ">=", 85)],
                            reduced=["images pooled to 14×14", "10,000 of 60,000 images"]),
            "cpu": Preset(...),
            "paper": Preset(..., time="2 h on one GPU", reached=Verdict.REPRODUCED),
        },
        headline=True,
    )

    def main(config: Config, run: Run) -> dict[str, float]:
        ...
        return {"accuracy": accuracy}

Everything is checked when the module is loaded, so that a slip is found before the training.
"""

import dataclasses
import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


class Verdict(StrEnum):
    """What can be said about a claim after (or before) a run."""

    REPRODUCED = "reproduced"
    SHOWN = "direction shown"
    MISSED = "not reached"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Paper:
    """Where the claim and the numbers come from.

    Args:
        citation: authors, title, venue, year.
        where: the table, figure or section of the numbers.
        url: a page of the paper; the report links it.
    """

    citation: str
    where: str
    url: str = ""


@dataclass(frozen=True)
class Metric:
    """One number that `main` returns and people want to see.

    Args:
        label: what it is, in words.
        unit: printed after the number.
        paper: the paper's number; None when the paper gives none.
        digits: decimal places.
    """

    label: str
    unit: str = ""
    paper: float | None = None
    digits: int = 2

    def format(self, value: float | None) -> str:
        """Return the number with its unit, or a dash where there is none."""
        if value is None:
            return "–"
        number = f"{value:.{self.digits}f}" if math.isfinite(value) else str(value)
        return f"{number} {self.unit}".rstrip()


@dataclass(frozen=True)
class Target:
    """A condition on one returned metric: `Target("accuracy", ">=", 85)`."""

    metric: str
    compare: Literal[">=", "<=", ">", "<"]
    value: float

    def reached(self, metrics: Mapping[str, float]) -> bool:
        """Return whether `metrics` fulfil it; a NaN never does."""
        return _COMPARE[self.compare](metrics[self.metric], self.value)

    def __str__(self) -> str:
        return f"{self.metric} {self.compare} {self.value:g}"


@dataclass(frozen=True)
class Preset:
    """One size of the experiment.

    Args:
        config: the recipe's config at this size.
        time: about how long it takes, in words: `"30 s"`, `"25 min"`, `"2 h on one GPU"`.
        targets: what must hold of the returned metrics; all of them.
        reduced: what is smaller than in the paper, one phrase each.
        reached: the verdict when all targets are reached. `Verdict.SHOWN` unless the claim
            itself, at the size the paper makes it, was reproduced.
    """

    config: Any
    time: str
    targets: Sequence[Target]
    reduced: Sequence[str] = ()
    reached: Verdict = Verdict.SHOWN

    def verdict(self, metrics: Mapping[str, float]) -> Verdict:
        """Judge final metrics: `reached` when every target is reached, else `MISSED`."""
        if all(target.reached(metrics) for target in self.targets):
            return self.reached
        return Verdict.MISSED


@dataclass(frozen=True)
class Recipe:
    """A claim, the paper's numbers for it, and the sizes at which it can be run.

    Args:
        claim: one sentence.
        paper: the source.
        metrics: what `main` returns (it may return more), the most important first.
        presets: by name; `quick` is required.
        headline: whether it is the one recipe of its paper that `gonzo reproduce` runs.

    Raises:
        ValueError: something is missing or does not fit together.
        TypeError: a config is not a frozen dataclass of JSON values.
    """

    claim: str
    paper: Paper
    metrics: Mapping[str, Metric]
    presets: Mapping[str, Preset]
    headline: bool = False

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("Recipe: expected at least one metric")
        if "quick" not in self.presets:
            raise ValueError(f"Recipe: expected a preset 'quick', got {sorted(self.presets)}")
        kinds = {type(preset.config) for preset in self.presets.values()}
        if len(kinds) > 1:
            names = sorted(kind.__name__ for kind in kinds)
            raise TypeError(f"Recipe: presets must share one config class, got {names}")
        for name, preset in self.presets.items():
            _check_config(name, preset.config)
            if preset.reached not in (Verdict.REPRODUCED, Verdict.SHOWN):
                raise ValueError(f"preset {name!r}: reaching every target cannot be a failure")
            if not preset.targets:
                raise ValueError(f"preset {name!r}: expected at least one target")
            for target in preset.targets:
                if target.metric not in self.metrics:
                    raise ValueError(
                        f"preset {name!r}: its target {target} is not one of the metrics "
                        f"{', '.join(self.metrics)}"
                    )

    def summary(self, metrics: Mapping[str, float | None]) -> str:
        """Return the values of the recipe's metrics as one short text: `98.00 % / 60.00 %`."""
        return " / ".join(metric.format(metrics.get(k)) for k, metric in self.metrics.items())

    def paper_summary(self) -> str:
        """Return the paper's numbers in the same form as `summary`."""
        return self.summary({name: metric.paper for name, metric in self.metrics.items()})


def _check_config(preset: str, config: Any) -> None:
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(
            f"preset {preset!r}: expected an instance of a frozen dataclass, got {config!r}"
        )
    if not type(config).__dataclass_params__.frozen:
        raise TypeError(f"preset {preset!r}: {type(config).__name__} must be frozen")
    try:
        json.dumps(dataclasses.asdict(config))
    except TypeError as error:
        raise TypeError(f"preset {preset!r}: a config holds JSON values only: {error}") from error
