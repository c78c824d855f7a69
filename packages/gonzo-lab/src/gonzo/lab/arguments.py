"""Command lines from dataclasses, by tyro, with errors that say what exists."""

import contextlib
import io
import re
from dataclasses import make_dataclass
from typing import Annotated, Any, TypeVar

import tyro

from gonzo.lab.errors import LabError, did_you_mean

T = TypeVar("T")

_STYLE = (tyro.conf.FlagCreatePairsOff,)


def parse(kind: type[T], arguments: list[str], *, command: str, description: str) -> T:
    """Return an instance of the dataclass `kind` read from `arguments`.

    Raises:
        LabError: an argument is unknown or has a wrong value.
        SystemExit: with code 0, after `--help`.
    """
    return _parse(kind, arguments, command, description)


def parse_flat(
    defaults: dict[str, Any], arguments: list[str], *, command: str, description: str
) -> Any:
    """Return an object with one dataclass instance per entry of `defaults`, read together.

    The fields of all of them are flags of one level: `--steps`, not `--config.steps`; a nested
    dataclass keeps its name: `--model.d-model`.

    Raises:
        LabError: an argument is unknown or has a wrong value.
        SystemExit: with code 0, after `--help`.
    """
    fields = []
    for name, value in defaults.items():
        kind: Any = type(value)
        fields.append((name, Annotated[kind, tyro.conf.arg(name="")], value))
    merged = make_dataclass("Arguments", fields, frozen=True)
    return _parse(merged, arguments, command, description)


def _parse(kind: Any, arguments: list[str], command: str, description: str) -> Any:
    if any(word in ("-h", "--help") for word in arguments):
        return tyro.cli(kind, prog=command, description=description, args=arguments, config=_STYLE)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stdout(complaint), contextlib.redirect_stderr(complaint):
            value, unknown = tyro.cli(
                kind,
                prog=command,
                description=description,
                args=arguments,
                config=_STYLE,
                return_unknown_args=True,
            )
    except SystemExit as error:
        raise LabError(f"{command}: {_plain(complaint.getvalue())}") from error
    except ValueError as error:
        raise LabError(f"{command}: {error}") from error
    if unknown:
        flags = _flags(kind, command)
        raise LabError(
            f"{command} does not know {unknown[0]}.{did_you_mean(unknown[0].split('=')[0], flags)} "
            f"It has: {', '.join(flags)}."
        )
    return value


def _flags(kind: Any, command: str) -> list[str]:
    help_text = io.StringIO()
    with contextlib.redirect_stdout(help_text), contextlib.suppress(SystemExit):
        tyro.cli(kind, prog=command, args=["--help"], config=_STYLE)
    found = re.findall(r"(?<![\w-])--[a-z][\w.-]*", _without_colour(help_text.getvalue()))
    return [flag for flag in dict.fromkeys(found) if flag != "--help"]


def _plain(text: str) -> str:
    # tyro frames its message and adds the help text of the argument; one sentence is enough.
    words = re.sub(r"[│╭╮╰╯─\s-]*[│╭╮╰╯─\s]+", " ", _without_colour(text))
    return words.partition("Argument helptext")[0].partition("For full helptext")[0].strip()


def _without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
