"""A recipe whose experiment fails."""

from dataclasses import dataclass

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


RECIPE = Recipe(
    claim="Broken things break",
    paper=Paper("Nobody, On Breaking, 1901", where="Figure 2"),
    metrics={"score": Metric("score")},
    presets={"quick": Preset(Config(), time="1 s", targets=[Target("score", ">", 0)])},
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Fail."""
    raise RuntimeError("the experiment exploded")
