"""`gonzo list`: what can be run, how long it takes, how far it is."""

from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from gonzo.lab import console, registry
from gonzo.lab.arguments import parse
from gonzo.lab.checkout import recorded
from gonzo.lab.cli import OK
from gonzo.lab.overview import finished, look, styled
from gonzo.lab.registry import Registered


@dataclass(frozen=True)
class ListOptions:
    """Options of gonzo list.

    Args:
        runs_dir: Folder of the runs.
    """

    runs_dir: Path = Path("runs")


def command(arguments: list[str]) -> int:
    """Print every recipe with its presets."""
    options = parse(
        ListOptions,
        arguments,
        command="gonzo list",
        description="List recipes, presets, times and status.",
    )
    recipes, problems = registry.load_all(registry.names())
    output = console.output()
    for registered in recipes:
        star = "*" if registered.recipe.headline else " "
        output.print(f"[bold cyan]{registered.name}[/] {star}  {escape(registered.recipe.claim)}")
        output.print(_presets(registered, options.runs_dir))
        output.print()
    for problem in problems:
        output.print(problem, markup=False, soft_wrap=True)
    output.print("[dim]* headline: part of gonzo reproduce.  Run one: gonzo run <recipe>[/]")
    return OK


def _presets(registered: Registered, runs_dir: Path) -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_column(min_width=10)
    table.add_column(min_width=8)
    for preset, described in registered.recipe.presets.items():
        outcome = look(registered, preset, runs_dir / f"{registered.name}.{preset}")
        where = ""
        if outcome.directory is None and (result := recorded(registered, preset)):
            outcome, where = finished(registered, result, None), " [dim](recorded)[/]"
        numbers = ""
        if outcome.result:
            numbers = f"{outcome.ours()}   [dim]paper {registered.recipe.paper_summary()}[/]"
        elif outcome.remark:
            numbers = escape(outcome.remark)
        table.add_row(f"  {preset}", described.time, styled(outcome.verdict) + where, numbers)
    return table
