"""Show what this machine is, and what of measuring, predicting and comparing works on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gonzo.lab.terminal import print_table


@dataclass(frozen=True)
class Options:
    """Options of gonzo-ithemal machine. There are none."""


def command(options: Options) -> int:
    """Print a line for each part; a part that is missing says how to get it."""
    del options
    rows = [(name, _answer(ask)) for name, ask in _QUESTIONS.items()]
    print_table(("part", "here"), rows, left=2)
    return 0


def _answer(ask: Callable[[], str]) -> str:
    from gonzo.ithemal.harness import HarnessError

    try:
        return ask()
    except (ValueError, OSError, HarnessError) as error:
        return f"no: {error}"


def _processor() -> str:
    from gonzo.ithemal.measurement import cpu_model

    return cpu_model()


def _measuring() -> str:
    from gonzo.ithemal.harness import build, counter

    how = {
        "rdpmc": "core cycles (rdpmc)",
        "rdtsc": "time stamps (rdtsc) and a clock of multiplications",
    }
    said = counter(build())
    return f"yes, in a sandbox (seccomp), with {how.get(said, said)}"


def _compiler() -> str:
    from gonzo.ithemal.harness import find_compiler

    return find_compiler()


def _shipped() -> str:
    from gonzo.ithemal.commands.predict import load
    from gonzo.ithemal.measurement import cpu_model

    machines = load(None).machines
    match = "matches" if cpu_model() in machines else "is for another processor"
    return f"{match}: {', '.join(machines)}"


def _mca() -> str:
    from gonzo.ithemal.mca import find, model

    return f"{model()} at {find()}"


def _osaca() -> str:
    from gonzo.ithemal.osaca import find

    return find()


def _assembler() -> str:
    from gonzo.ithemal.assemble import assembler

    return assembler()[0]


_QUESTIONS: dict[str, Callable[[], str]] = {
    "processor": _processor,
    "compiler": _compiler,
    "measuring": _measuring,
    "shipped model": _shipped,
    "assembler": _assembler,
    "llvm-mca": _mca,
    "OSACA": _osaca,
}
