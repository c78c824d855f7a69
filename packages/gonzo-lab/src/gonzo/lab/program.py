"""A package's own command line: commands by name, and what becomes of their errors.

Each command is one module, imported when it is called, with a dataclass `Options` and a function
`command(options)` that returns the exit code.
"""

import importlib
import os
import shlex
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from gonzo.lab.errors import LabError, did_you_mean

OK, FAILED, USAGE, INTERRUPTED, PIPE = 0, 1, 2, 130, 141


@dataclass(frozen=True)
class Program:
    """A command such as gonzo-ithemal.

    Args:
        name: what people type.
        summary: what it is for, in a line.
        commands: what each command does, by name.
        modules: the package of their modules, in which `-` is `_`.
    """

    name: str
    summary: str
    commands: Mapping[str, str]
    modules: str

    def run(self, arguments: list[str]) -> int:
        """Run one command line and return its exit code.

        0: done. 1: it was tried and failed. 2: the command line or a file needs the user's
        attention. 130: Ctrl-C. 141: nobody reads the output any more.
        """
        try:
            return self._run(arguments)
        except BrokenPipeError:
            # The reader, `head` say, has seen enough. Nothing more may be written, on exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE
        except (ValueError, OSError) as error:
            return self._say(_sentence(error))
        except KeyboardInterrupt as interruption:
            again = shlex.join([self.name, *(word for word in arguments if word != "--fresh")])
            print(f"{str(interruption) or 'Interrupted'}. To continue: {again}", file=sys.stderr)
            return INTERRUPTED
        except Exception as error:
            from gonzo.core.require import MissingExtraError

            if isinstance(error, MissingExtraError):
                return self._say(str(error))
            # Not the user's doing: a defect of the package, so the traceback is wanted.
            traceback.print_exc()
            return FAILED

    def _run(self, arguments: list[str]) -> int:
        if not arguments or arguments[0] in ("-h", "--help"):
            self._print_help()
            return OK if arguments else USAGE
        name, *rest = arguments
        if name not in self.commands:
            raise LabError(
                f"there is no command {name!r}.{did_you_mean(name, self.commands)} "
                f"Commands: {', '.join(self.commands)}. "
                f"More about one: {self.name} COMMAND --help"
            )
        from gonzo.lab.arguments import parse

        module = importlib.import_module(f"{self.modules}.{name.replace('-', '_')}")
        options = parse(
            module.Options, rest, command=f"{self.name} {name}", description=module.__doc__ or ""
        )
        return module.command(options)

    def _print_help(self) -> None:
        width = max(map(len, self.commands))
        print(f"{self.name}: {self.summary}\n\n{self.name} <command> [options]\n")
        for name, text in self.commands.items():
            print(f"  {name:{width}} {text}")
        print(f"\nOptions of a command: {self.name} <command> --help")

    def _say(self, text: str) -> int:
        print(f"{self.name}: {text}", file=sys.stderr)
        return USAGE


def _sentence(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
