"""The `gonzo-ithemal` command: extract blocks, measure them, train, predict, compare, explain.

Each command is one module of `gonzo.ithemal.commands`, imported when it is called, so that
`gonzo-ithemal --help` answers at once.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shlex
import sys
import traceback

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

OK, FAILED, USAGE, INTERRUPTED, PIPE = 0, 1, 2, 130, 141

_NEEDED = ("tyro", "rich", "gonzo.lab")


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line and return its exit code.

    0: done. 1: it was tried and failed. 2: the command line or a file needs the user's attention.
    130: Ctrl-C.
    """
    try:
        return _run(arguments)
    except BrokenPipeError:
        # The reader, `head` say, has seen enough. Nothing more may be written, on exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE
    except (ValueError, OSError) as error:
        return _say(_sentence(error))
    except KeyboardInterrupt:
        again = shlex.join(["gonzo-ithemal", *arguments])
        print(f"Interrupted. To continue: {again}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        from gonzo.core.require import MissingExtraError

        if isinstance(error, MissingExtraError):
            return _say(str(error))
        # Not the user's doing: a defect of this package, so the traceback is wanted.
        traceback.print_exc()
        return FAILED


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        _print_help()
        return OK if arguments else USAGE
    name, *rest = arguments
    if name not in COMMANDS:
        raise ValueError(
            f"there is no command {name!r}; commands: {', '.join(COMMANDS)}. "
            "More about one: gonzo-ithemal COMMAND --help"
        )
    if not all(map(_installed, _NEEDED)):
        return _say('the command line needs more: pip install "gonzo-ithemal[cli]"')
    from gonzo.lab.arguments import parse

    module = importlib.import_module(f"gonzo.ithemal.commands.{name}")
    options = parse(
        module.Options,
        rest,
        command=f"gonzo-ithemal {name}",
        description=module.__doc__ or "",
    )
    return module.command(options)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _print_help() -> None:
    print("gonzo-ithemal: what a basic block costs, measured, learned and predicted\n")
    print("gonzo-ithemal <command> [options]\n")
    for name, text in COMMANDS.items():
        print(f"  {name:9} {text}")
    print("\nOptions of a command: gonzo-ithemal <command> --help")


def _sentence(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _say(text: str) -> int:
    print(f"gonzo-ithemal: {text}", file=sys.stderr)
    return USAGE
