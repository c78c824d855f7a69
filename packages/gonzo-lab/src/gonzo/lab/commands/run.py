"""`gonzo run`: one recipe, at a preset, with any field of its config changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from gonzo.lab import console, registry
from gonzo.lab.arguments import parse_flat
from gonzo.lab.cli import OK
from gonzo.lab.errors import LabError
from gonzo.lab.progress import format_seconds


@dataclass(frozen=True)
class Where:
    """Which size, and where the results go.

    Args:
        preset: The size of the experiment; see gonzo list.
        run_dir: Directory of the run; runs/<recipe>.<preset> by default.
        record: Copy the numbers into the package's results/ (in a checkout).
    """

    preset: str = "quick"
    run_dir: Path | None = None
    record: bool = False


def command(arguments: list[str]) -> int:
    """Run one recipe and print its result."""
    name, rest = _split(arguments)
    if name is None:
        return _help()
    registered = registry.load(name)
    preset = _preset_in(rest)
    chosen = registered.preset(preset)

    # After the recipe's name is known to exist: this imports torch.
    from gonzo.lab.checkout import record, require_recorded_path
    from gonzo.lab.launch import Settings, changed_fields, default_directory, execute

    given = parse_flat(
        {"where": Where(preset=preset), "settings": Settings(), "config": chosen.config},
        rest,
        command=f"gonzo run {name}",
        description=f"{registered.recipe.claim}. Defaults are those of --preset {preset}.",
    )
    changes = changed_fields(given.config, chosen.config)
    if given.where.record:
        require_recorded_path(registered, preset)
        if changes or given.settings.seed:
            raise LabError("--record is for a preset as it is, without changed fields or seed.")
    directory = given.where.run_dir or default_directory(name, preset, changes, given.settings.seed)
    finished = (directory / "result.json").exists() and not given.settings.fresh
    if not finished:
        _announce(registered, preset, changes, directory)
    result = execute(registered, preset, given.config, given.settings, directory)
    _print_result(registered, result, directory, finished=finished)
    if given.where.record:
        console.output().print(f"Recorded in {record(registered, result)}", soft_wrap=True)
    return OK


def _split(arguments: list[str]) -> tuple[str | None, list[str]]:
    if not arguments or arguments[0] in ("-h", "--help"):
        return None, arguments
    if arguments[0].startswith("-"):
        raise LabError(f"gonzo run: expected a recipe before {arguments[0]}; see gonzo list.")
    return arguments[0], arguments[1:]


def _preset_in(arguments: list[str]) -> str:
    # Read before the rest, because the defaults of the rest are the preset's.
    for position, word in enumerate(arguments):
        if word.startswith("--preset="):
            return word.partition("=")[2]
        if word == "--preset":
            return "".join(arguments[position + 1 : position + 2])
    return "quick"


def _help() -> int:
    known = "\n".join(f"  {name}" for name in registry.names()) or "  none"
    console.output().print(
        "gonzo run <recipe> [--preset quick] [--any.field value] [--fresh] [--record] …\n\n"
        f"Recipes:\n{known}\n\nOptions of a recipe: gonzo run <recipe> --help",
        markup=False,
    )
    return OK


def _announce(
    registered: registry.Registered, preset: str, changes: dict[str, Any], directory: Path
) -> None:
    changed = "".join(f", {name} = {value}" for name, value in changes.items())
    remarks = console.remarks()
    remarks.print(
        f"[bold]{registered.name}[/] at {preset}{escape(changed)} "
        f"(about {registered.recipe.presets[preset].time}) in {escape(str(directory))}",
        soft_wrap=True,
    )


def _print_result(
    registered: registry.Registered, result: dict[str, Any], directory: Path, *, finished: bool
) -> None:
    output = console.output()
    if finished:
        output.print(
            f"Finished before in {escape(str(directory))}; --fresh starts over.", soft_wrap=True
        )
    output.print(f"[bold]{registered.recipe.claim}[/]", soft_wrap=True)
    for name, metric in registered.recipe.metrics.items():
        ours, paper = metric.format(result["metrics"].get(name)), metric.format(metric.paper)
        output.print(f"  {metric.label}: [bold]{ours}[/]   paper: {paper}", soft_wrap=True)
    targets = " and ".join(result["targets"])
    output.print(
        f"  {result['verdict']} (target {escape(targets)}) in "
        f"{format_seconds(result['wall_seconds'])} on {result['device']}",
        soft_wrap=True,
    )
