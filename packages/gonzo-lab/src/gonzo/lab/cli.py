"""The `gonzo` command: run recipes, reproduce papers, report.

Each command is one module of `gonzo.lab.commands`, imported when it is called, so that
`gonzo --help` answers at once.
"""

import importlib
import shlex
import sys
import traceback

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from gonzo.lab import console
from gonzo.lab.errors import LabError, did_you_mean

COMMANDS = {
    "list": "what can be run: recipes, presets, times, and how far each is",
    "run": "run one recipe: gonzo run ssm.sequential-mnist --preset quick",
    "reproduce": "run the headline recipe of every installed paper and compare",
    "report": "write one HTML page about everything that was run",
    "doctor": "what is installed, what runs here, what is missing and how to get it",
}

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line and return its exit code.

    0: done. 1: a recipe failed or missed its target. 2: the command line or a file on disk
    needs the user's attention. 130: Ctrl-C.
    """
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            _print_help()
            return OK if arguments else USAGE
        name, *rest = arguments
        if name not in COMMANDS:
            raise LabError(
                f"gonzo has no command {name!r}.{did_you_mean(name, COMMANDS)} "
                f"Commands: {', '.join(COMMANDS)}."
            )
        return importlib.import_module(f"gonzo.lab.commands.{name}").command(rest)
    except LabError as error:
        console.remarks().print(f"[bold red]gonzo:[/] {escape(str(error))}", soft_wrap=True)
        return USAGE
    except KeyboardInterrupt as interruption:
        said = f"{interruption}. " if str(interruption) else "Interrupted. "
        again = shlex.join(["gonzo", *(word for word in arguments if word != "--fresh")])
        console.remarks().print(f"{escape(said)}To continue: {escape(again)}", soft_wrap=True)
        return INTERRUPTED
    except Exception:
        # Not the user's doing: a defect of a recipe or of gonzo, so the traceback is wanted.
        traceback.print_exc()
        return FAILED


def _print_help() -> None:
    table = Table.grid(padding=(0, 3))
    for name, text in COMMANDS.items():
        table.add_row(f"  [bold cyan]{name}[/]", text)
    console.output().print(
        Group(
            "gonzo: sequence-model papers that install, run, and agree with their numbers\n",
            "[bold]gonzo <command> \\[options][/]\n",
            table,
            "\nOptions of a command: gonzo <command> --help",
        )
    )
