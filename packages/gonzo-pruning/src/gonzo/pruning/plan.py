"""Which parameters of a model are pruned, at which rates, and why the others are not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from types import MappingProxyType

import torch
from torch import nn

from .prunable import reason_to_keep
from .rates import Rate, exact_rate

__all__ = ["Excluded", "PlannedParameter", "PruningPlan", "plan_pruning"]


@dataclass(frozen=True)
class PlannedParameter:
    """A parameter that is pruned.

    Attributes:
        name: Its first name in ``model.named_parameters()``.
        shape: Its shape.
        rate: The part of its alive weights that one round prunes.
        aliases: Its other names, where it is tied.
    """

    name: str
    shape: torch.Size
    rate: Fraction
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Excluded:
    """A parameter that stays whole, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class PruningPlan:
    """What `plan_pruning` found; printed, it is a table of both lists.

    Attributes:
        parameters: Those to prune, in the order of ``model.named_parameters()``.
        excluded: The others, in the same order.
    """

    parameters: tuple[PlannedParameter, ...]
    excluded: tuple[Excluded, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the pruned parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def rates(self) -> Mapping[str, Fraction]:
        """The rate of every pruned parameter, by name."""
        return MappingProxyType({p.name: p.rate for p in self.parameters})

    @property
    def total(self) -> int:
        """How many weights the pruned parameters have."""
        return sum(parameter.shape.numel() for parameter in self.parameters)

    def __str__(self) -> str:
        rows = [("pruned", "shape", "weights", "rate", "")]
        for p in self.parameters:
            shape = " × ".join(map(str, p.shape)) or "scalar"
            tied = f"also {', '.join(p.aliases)}" if p.aliases else ""
            rows.append((p.name, shape, f"{p.shape.numel():,}", f"{float(100 * p.rate):g} %", tied))
        rows.append(("total", "", f"{self.total:,}", "", ""))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{name:<{widths[0]}}  {shape:>{widths[1]}}  {count:>{widths[2]}}  {rate:>{widths[3]}}"
            f"  {tied}".rstrip()
            for name, shape, count, rate, tied in rows
        ]
        if self.excluded:
            width = max(len("not pruned"), *(len(excluded.name) for excluded in self.excluded))
            lines += ["", f"{'not pruned':<{width}}  because"]
            lines += [f"{e.name:<{width}}  {e.reason}" for e in self.excluded]
        return "\n".join(lines)


def plan_pruning(
    model: nn.Module,
    rates: Rate | Mapping[str, Rate] = 0.2,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> PruningPlan:
    """Decide what is pruned: the weights of linear, convolutional, recurrent and attention layers.

    Biases, normalisation, embeddings and whatever is tied to an embedding are kept, as are the
    parameters of layers that torch does not bring, until ``include`` names them. A tied parameter
    is one parameter, planned once.

    The keys of ``rates`` and the entries of ``include`` and ``exclude`` are a parameter's name, a
    module's name (all parameters below it) or a glob over either. Where several match, a
    parameter's name wins, then the innermost module's, then the first glob; "*" is the rest.

    Args:
        model: Any module; nothing in it changes.
        rates: The part of the alive weights that one round prunes (see `exact_rate`), for all or
            by key; a mapping must reach every pruned parameter.
        include: Pruned even though the rule would keep it.
        exclude: Kept even though the rule would prune it.

    Raises:
        TypeError: A parameter to prune holds integers, or a list is a single string.
        ValueError: A key matches nothing (close names are listed), nothing is left to prune, a
            parameter has no rate or two, or it cannot be pruned as it stands: lazy, on the meta
            device, quantised, parametrised, or masked by ``torch.nn.utils.prune``.
    """
    _check_unquantised(model)
    names = _names(model)
    included, excluded = _Keys("include", include, names), _Keys("exclude", exclude, names)
    planned: list[tuple[str, nn.Parameter, tuple[str, ...]]] = []
    kept: list[Excluded] = []
    for parameter, all_names in names.items():
        reason = reason_to_keep(model, all_names, parameter)
        if _is_asked_for(all_names, included, excluded):
            _check_included(all_names[0], parameter, reason)
            reason = ""
        elif excluded.find(all_names):
            reason = "excluded by name"
        if reason:
            kept.append(Excluded(all_names[0], reason))
        else:
            _check_values(all_names[0], parameter)
            planned.append((all_names[0], parameter, all_names[1:]))
    if not planned:
        because = "".join(f"\n  {e.name}: {e.reason}" for e in kept) or " it has no parameters"
        raise ValueError(f"{type(model).__name__} has nothing to prune:{because}")
    by_name = _rates(rates, [(name, *aliases) for name, _, aliases in planned], names)
    return PruningPlan(
        tuple(
            PlannedParameter(name, torch.Size(parameter.shape), by_name[name], aliases)
            for name, parameter, aliases in planned
        ),
        tuple(kept),
    )


def _names(model: nn.Module) -> dict[nn.Parameter, tuple[str, ...]]:
    """All names of every parameter, in the model's order."""
    names: dict[nn.Parameter, tuple[str, ...]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[parameter] = (*names.get(parameter, ()), name)
    return names


class _Keys:
    """Keys that stand for parameters: `find` returns the one that speaks for a parameter."""

    def __init__(
        self, what: str, keys: Iterable[str], names: Mapping[nn.Parameter, tuple[str, ...]]
    ) -> None:
        if isinstance(keys, str):
            raise TypeError(f"{what}: expected a list of names, got a string; write [{keys!r}]")
        self.what = what
        self.keys = tuple(keys)
        known = [name for group in names.values() for name in group]
        for key in self.keys:
            if not isinstance(key, str):
                raise TypeError(f"{what}: expected names, got {key!r}")
            if key != "*" and not any(_specificity(key, (name,)) for name in known):
                modules = dict.fromkeys(module for name in known for module in _owners(name))
                raise ValueError(f"{what}: {unknown_name(key, 'the model', [*known, *modules])}")

    def find(self, names: tuple[str, ...]) -> list[tuple[tuple[int, int], str]]:
        """The keys that match a parameter with these names, the most specific first."""
        found = [
            (specificity, key) for key in self.keys if (specificity := _specificity(key, names))
        ]
        return sorted(found, key=lambda pair: pair[0], reverse=True)  # stable: first glob first


def _specificity(key: str, names: tuple[str, ...]) -> tuple[int, int] | None:
    """How exactly ``key`` names the parameter: name, module by depth, glob, "*"; or None."""
    if key in names:
        return (2, 0)
    owners = [owner for name in names for owner in _owners(name)]
    if key in owners:
        return (1, key.count(".") + 1)
    if key == "*":
        return (0, 0)
    if any(fnmatchcase(name, key) for name in (*names, *owners)):
        return (0, 1)
    return None


def _owners(name: str) -> list[str]:
    """The names of the modules that hold a parameter: a.b and a for a.b.weight."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(len(parts), 0, -1)]


def unknown_name(name: str, where: str, known: Iterable[str]) -> str:
    """Say that there is no ``name`` in ``where``, with the names that come close."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(known[:20])}"
    return f"there is nothing called {name!r} in {where}; {hint}"


def _is_asked_for(names: tuple[str, ...], included: _Keys, excluded: _Keys) -> bool:
    wanted, unwanted = included.find(names), excluded.find(names)
    if not wanted or not unwanted:
        return bool(wanted)
    if wanted[0][0] == unwanted[0][0]:
        raise ValueError(
            f"{names[0]} is in include ({wanted[0][1]!r}) and in exclude ({unwanted[0][1]!r}); "
            "name it in one of them"
        )
    return wanted[0][0] > unwanted[0][0]


def _check_included(name: str, parameter: nn.Parameter, reason: str) -> None:
    if reason.startswith("parametrised"):
        raise ValueError(
            f"include: {name} is {reason}: zeros in it are no zeros in the weight; remove the "
            "parametrisation first (torch.nn.utils.parametrize.remove_parametrizations)"
        )
    if reason == "no elements":
        raise ValueError(f"include: {name} of shape {tuple(parameter.shape)} has no elements")


def _check_unquantised(model: nn.Module) -> None:
    for name, module in model.named_modules():
        # Their weights are packed: no parameter shows them, so nothing else would notice.
        if type(module).__module__.startswith("torch.ao.nn.quantized"):
            raise ValueError(f"{name or type(module).__name__} is quantised; prune before that")


def _check_values(name: str, parameter: nn.Parameter) -> None:
    if parameter.is_meta:
        raise ValueError(
            f"{name} is on the meta device and has no values; model.to_empty(device='cpu') and "
            "load its weights first"
        )
    if not (parameter.is_floating_point() or parameter.is_complex()):
        raise TypeError(
            f"{name} holds {parameter.dtype}; expected floating point: prune before quantising, "
            "or exclude it"
        )


def _rates(
    rates: Rate | Mapping[str, Rate],
    planned: list[tuple[str, ...]],
    names: Mapping[nn.Parameter, tuple[str, ...]],
) -> dict[str, Fraction]:
    if not isinstance(rates, Mapping):
        return dict.fromkeys((group[0] for group in planned), exact_rate(rates))
    exact = {key: exact_rate(rate) for key, rate in rates.items()}
    keys = _Keys("rates", exact, names)
    found: dict[str, Fraction] = {}
    used: set[str] = {"*"}
    for group in planned:
        matches = keys.find(group)
        if not matches:
            raise ValueError(
                f"rates has no rate for {group[0]}; name it, or give the rest a rate under '*'"
            )
        used.update(key for _, key in matches)
        (best, key), rate = matches[0], exact[matches[0][1]]
        rival = next((k for s, k in matches if s == best and exact[k] != rate), None)
        if rival is not None and best > (0, 1):
            raise ValueError(f"{key} and {rival} are one tied parameter but have two rates")
        found[group[0]] = rate
    for key in exact:
        if key not in used:
            raise ValueError(
                f"rates: {key!r} names nothing that is pruned; put it in include, or leave it out"
            )
    return found
