"""The `gonzo-translation` command: align two languages, translate, judge, export."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["main", "run_command"]

COMMANDS = {
    "train": "word vectors from text",
    "align": "find the maps of two languages into one space",
    "dictionary": "write a dictionary of the most frequent words",
    "translate-word": "translations of words, best first",
    "evaluate": "judge by a dictionary, by sentences, or by people's similarities",
    "hubness": "words that are the translation of too many others",
    "export": "write both vocabularies' vectors in the shared space",
    "convert": "word vectors from one format to another",
}

_NEEDED = ("tyro", "rich", "gonzo.lab")


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line and return its exit code, as `gonzo.lab.program` explains it."""
    if not all(map(_installed, _NEEDED)):
        more = 'the command line needs more: pip install "gonzo-translation[cli]"'
        print(f"gonzo-translation: {more}", file=sys.stderr)
        return 2
    from gonzo.lab.program import Program

    program = Program(
        "gonzo-translation",
        "words translated without parallel data",
        COMMANDS,
        "gonzo.translation.commands",
    )
    return program.run(arguments)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
