"""The `gonzo-ithemal` command: extract blocks, measure them, train, predict, compare, explain."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["main", "run_command"]

COMMANDS = {
    "extract": "basic blocks of programs, libraries and objects, into a table",
    "measure": "the cycles of every block of a table, on this machine",
    "train": "a throughput model from measured blocks",
    "predict": "cycles of hexadecimal digits, assembly, functions, marked regions",
    "compare": "a model beside llvm-mca, OSACA and simple rules, on measured blocks",
    "explain": "what each instruction of a block contributes",
    "machine": "what this machine is, and what of all this works on it",
}

_NEEDED = ("tyro", "rich", "gonzo.lab")


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line and return its exit code, as `gonzo.lab.program` explains it."""
    if not all(map(_installed, _NEEDED)):
        more = 'the command line needs more: pip install "gonzo-ithemal[cli]"'
        print(f"gonzo-ithemal: {more}", file=sys.stderr)
        return 2
    from gonzo.lab.program import Program

    summary = "what a basic block costs, measured, learned and predicted"
    return Program("gonzo-ithemal", summary, COMMANDS, "gonzo.ithemal.commands").run(arguments)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
