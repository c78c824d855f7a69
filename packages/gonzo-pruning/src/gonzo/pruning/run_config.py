"""Which lottery run a folder holds: told apart by its configuration, said in words."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import torch

from .criterion import Criterion

__all__ = ["check_choice", "check_count", "described", "differences", "versions"]


def described(criterion: Criterion) -> str:
    """Return a criterion as its repr says, where that is the same in every process."""
    text = repr(criterion)
    return type(criterion).__name__ if " at 0x" in text else text


def versions() -> dict[str, str]:
    """Return the versions that the numbers of a run depend on."""
    return {
        "gonzo-pruning": importlib.metadata.version("gonzo-pruning"),
        "torch": torch.__version__,
    }


def differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    """Return a line for every field in which two configurations differ.

    Args:
        found: That of the folder.
        wanted: That of the run.
        name: What leads to the two.
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            line
            for key in dict.fromkeys([*found, *wanted])
            for line in differences(
                found.get(key), wanted.get(key), f"{name}.{key}" if name else key
            )
        ]
    return [] if found == wanted else [f"{name} is {found!r} there and {wanted!r} here"]


def check_count(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless an argument of LotteryRun is an int of ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"LotteryRun: expected {name} as an int of {least} or more, got {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless an argument of LotteryRun is one of ``choices``."""
    if value not in choices:
        raise ValueError(
            f"LotteryRun: expected {name} to be {' or '.join(map(repr, choices))}, got {value!r}"
        )
