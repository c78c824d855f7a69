"""What the report shows: every run in a folder, with its curves and figures."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from gonzo.lab import registry
from gonzo.lab.checkout import recorded
from gonzo.lab.directory import IMAGES, WAY_OUT
from gonzo.lab.errors import LabError
from gonzo.lab.metrics import Curves, read_metrics
from gonzo.lab.overview import Outcome, finished, look
from gonzo.lab.recipe import Verdict
from gonzo.lab.registry import Registered


@dataclass(frozen=True)
class ReportedRun:
    """One run: its outcome, and what it logged and drew.

    Args:
        outcome: verdict, numbers, time.
        curves: loop -> metric -> (step, value) pairs.
        figures: the pictures the recipe drew.
        problems: what could not be read, in words.
    """

    outcome: Outcome
    curves: dict[str, Curves] = field(default_factory=dict)
    figures: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportedRecipe:
    """One recipe with all its runs, and what is recorded with its package."""

    registered: Registered
    runs: tuple[ReportedRun, ...]
    recorded: tuple[Outcome, ...]

    def best(self) -> Outcome:
        """Return the outcome that speaks for the recipe.

        The one of the largest preset that finished; a preset as it is before a changed one.
        """
        done = [run.outcome for run in self.runs if run.outcome.result]
        pure = [outcome for outcome in done if not (outcome.result or {})["changed"]]
        if done:
            return (pure or done)[-1]
        if self.runs:
            return self.runs[-1].outcome
        return Outcome(self.registered, "quick", Verdict.NOT_RUN)


def gather(runs_dir: Path) -> tuple[list[ReportedRecipe], list[str]]:
    """Return what to report, and in words which recipes could not be loaded.

    Reported are the recipes that were run, and the headlines that were not.
    """
    found = []
    recipes, problems = registry.load_all(registry.names())
    for registered in recipes:
        runs = tuple(
            _read(registered, preset, directory)
            for preset in registered.recipe.presets
            for directory in _directories(runs_dir, f"{registered.name}.{preset}")
        )
        if runs or registered.recipe.headline:
            found.append(ReportedRecipe(registered, runs, _recorded(registered)))
    return found, problems


def _directories(runs_dir: Path, stem: str) -> list[Path]:
    pattern = re.compile(re.escape(stem) + r"(-[0-9a-f]{8})?")
    if not runs_dir.is_dir():
        return []
    return sorted(entry for entry in runs_dir.iterdir() if pattern.fullmatch(entry.name))


def _read(registered: Registered, preset: str, directory: Path) -> ReportedRun:
    curves: dict[str, Curves] = {}
    problems = []
    metrics = directory / "metrics"
    for path in sorted(metrics.rglob("*.jsonl")):
        try:
            curves[path.relative_to(metrics).with_suffix("").as_posix()] = read_metrics(
                path, way_out=WAY_OUT
            )
        except LabError as error:
            problems.append(str(error))
    return ReportedRun(
        look(registered, preset, directory),
        curves,
        tuple(path for path in sorted(directory.glob("figures/*")) if path.suffix[1:] in IMAGES),
        tuple(problems),
    )


def _recorded(registered: Registered) -> tuple[Outcome, ...]:
    results = (recorded(registered, preset) for preset in registered.recipe.presets)
    return tuple(finished(registered, result, None) for result in results if result)
