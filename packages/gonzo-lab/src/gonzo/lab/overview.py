"""How far every recipe is: finished results, unfinished runs, recorded numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from gonzo.lab.atomic import read_json
from gonzo.lab.directory import WAY_OUT
from gonzo.lab.errors import LabError
from gonzo.lab.progress import format_seconds
from gonzo.lab.recipe import Verdict
from gonzo.lab.registry import Registered

_COLOURS = {
    Verdict.REPRODUCED: "bold green",
    Verdict.SHOWN: "green",
    Verdict.MISSED: "bold yellow",
    Verdict.FAILED: "bold red",
    Verdict.NOT_RUN: "dim",
}

_RESULT = (
    "preset",
    "metrics",
    "targets",
    "verdict",
    "reduced",
    "changed",
    "config",
    "seed",
    "wall_seconds",
    "device",
    "threads",
    "versions",
    "commit",
    "finished",
)


@dataclass(frozen=True)
class Outcome:
    """What came of one recipe at one preset.

    Args:
        registered: the recipe.
        preset: the size.
        verdict: what can be said now.
        result: the content of `result.json`; None unless it finished.
        remark: why it failed, or how far it is.
        directory: where the run lies; None when it is only recorded or was not run.
    """

    registered: Registered
    preset: str
    verdict: Verdict
    result: dict[str, Any] | None = None
    remark: str = ""
    directory: Path | None = None

    def ours(self) -> str:
        """Return our numbers as text."""
        if self.result is None:
            return self.remark or "–"
        return self.registered.recipe.summary(self.result["metrics"])

    def time(self) -> str:
        """Return the wall-clock time it took, or an estimate when it was not run."""
        if self.result is None:
            return f"about {self.registered.recipe.presets[self.preset].time}"
        return format_seconds(self.result["wall_seconds"])


def read_result(path: Path) -> dict[str, Any]:
    """Read a `result.json`.

    Raises:
        LabError: it is damaged, or not what `gonzo.lab.launch` writes.
    """
    result = read_json(path, way_out=WAY_OUT)
    missing = [name for name in _RESULT if name not in result]
    if missing or result["verdict"] not in list(Verdict):
        raise LabError(
            f"{path} is damaged (without a valid {(missing or ['verdict'])[0]}). {WAY_OUT}"
        )
    return result


def finished(registered: Registered, result: dict[str, Any], directory: Path | None) -> Outcome:
    """Return the outcome that a result describes."""
    return Outcome(
        registered, result["preset"], Verdict(result["verdict"]), result, directory=directory
    )


def look(registered: Registered, preset: str, directory: Path) -> Outcome:
    """Return the outcome that lies in a run directory, without locking or changing it."""
    result, progress = directory / "result.json", directory / "progress.json"
    try:
        if result.exists():
            return finished(registered, read_result(result), directory)
        if progress.exists():
            at = read_json(progress, way_out=WAY_OUT)
            remark = f"{at['loop']} {at['done']}/{at['total']}"
            return Outcome(registered, preset, Verdict.NOT_RUN, remark=remark, directory=directory)
    except LabError as error:
        return Outcome(registered, preset, Verdict.FAILED, remark=str(error), directory=directory)
    return Outcome(registered, preset, Verdict.NOT_RUN)


def table(outcomes: Iterable[Outcome]) -> Table:
    """Return the table of a reproduction: recipe | claim | paper | ours | verdict | time."""
    drawn = Table(header_style="bold")
    for title, justify in (
        ("recipe", "left"),
        ("claim", "left"),
        ("paper", "right"),
        ("ours", "right"),
        ("verdict", "left"),
        ("time", "right"),
    ):
        drawn.add_column(title, justify=justify, overflow="fold")
    for outcome in outcomes:
        recipe = outcome.registered.recipe
        drawn.add_row(
            outcome.registered.name,
            escape(recipe.claim),
            recipe.paper_summary(),
            escape(outcome.ours()),
            styled(outcome.verdict),
            outcome.time(),
        )
    return drawn


def styled(verdict: Verdict) -> str:
    """Return the verdict in its colour."""
    return f"[{_COLOURS[verdict]}]{verdict}[/]"
