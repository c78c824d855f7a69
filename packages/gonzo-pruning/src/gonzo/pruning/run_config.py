"""Which lottery run a folder holds: told apart by its configuration, said in words."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .criterion import Criterion
from .plan import PruningPlan, unknown_name

__all__ = [
    "check_bool",
    "check_choice",
    "check_count",
    "check_criterion",
    "check_functions",
    "check_metric",
    "check_scope",
    "described",
    "differences",
    "versions",
]


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


def check_bool(name: str, value: Any) -> None:
    """Raise TypeError unless an argument of LotteryRun is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"LotteryRun: expected {name} to be True or False, got {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless an argument of LotteryRun is one of ``choices``."""
    if value not in choices:
        raise ValueError(
            f"LotteryRun: expected {name} to be {' or '.join(map(repr, choices))}, got {value!r}"
        )


def check_functions(build: Any, train: Any) -> None:
    """Raise TypeError unless LotteryRun has a function that builds and one that trains."""
    if isinstance(build, nn.Module):
        raise TypeError(
            "LotteryRun: expected build as a function that returns a new network at each call, got "
            f"a network: {type(build).__name__}; write lambda: {type(build).__name__}(…)"
        )
    for name, value in (("build", build), ("train", train)):
        if not callable(value):
            raise TypeError(f"LotteryRun: expected {name} as a function, got {value!r}")


def check_criterion(criterion: Any) -> None:
    """Raise TypeError unless LotteryRun has a criterion: an object with a method ``scores``."""
    if isinstance(criterion, type):
        raise TypeError(
            f"LotteryRun: expected a criterion, got the class {criterion.__name__}; "
            f"write {criterion.__name__}()"
        )
    if not callable(getattr(criterion, "scores", None)):
        raise TypeError(
            "LotteryRun: expected a criterion with a method scores(model, masks), such as "
            f"Magnitude(), got {criterion!r}"
        )


def check_metric(metric: Any, higher_is_better: Any) -> None:
    """Raise an error unless LotteryRun knows a metric by name and which end of it is good."""
    check_bool("higher_is_better", higher_is_better)
    if not isinstance(metric, str):
        raise TypeError(f"LotteryRun: expected metric as a name, got {metric!r}")
    if not higher_is_better and re.search(r"accuracy|(^|[^a-z])acc([^a-z]|$)", metric.lower()):
        raise ValueError(
            f"LotteryRun: metric={metric!r} would be stopped where it is lowest; write "
            "higher_is_better=True, or record an error instead"
        )


def check_scope(scope: str | Mapping[str, str], plan: PruningPlan) -> None:
    """Raise ValueError unless a scope has a group for every pruned parameter, each of one rate."""
    if isinstance(scope, str):
        if scope == "global" and len(set(plan.rates.values())) > 1:
            raise ValueError('scope="global" prunes all layers together and takes one rate')
        return
    for name in scope:
        if name not in plan.names:
            raise ValueError(
                f"LotteryRun: scope: {unknown_name(name, 'the pruned parameters', plan.names)}"
            )
    missing = [name for name in plan.names if name not in scope]
    if missing:
        raise ValueError(
            f"LotteryRun: expected a group for every pruned parameter in scope, got none for "
            f"{', '.join(missing)}"
        )
    first: dict[str, str] = {}
    for name in plan.names:
        other = first.setdefault(scope[name], name)
        if plan.rates[other] != plan.rates[name]:
            raise ValueError(
                f"LotteryRun: the group {scope[name]!r} of scope has {other} at the rate "
                f"{plan.rates[other]} and {name} at {plan.rates[name]}; a group takes one rate"
            )
