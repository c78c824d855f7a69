"""Remove the units that pruning left without inputs or without outputs; the function stays.

Two kinds of unit (a row of a linear layer, a channel of a convolution) add nothing:

    nobody listens   all weights that read it are zero: it is removed
    always the same  all its own weights are zero, so that it is f(bias), f being what stands
                     between it and its readers: W f(bias) is added to their biases, and it is
                     removed. Before a convolution that pads with zeros only if f(bias) = 0, since
                     the border would tell the difference.

Removing units empties rows before and columns behind them, so this repeats until nothing changes.
Each layer keeps one unit at least, since layers of no unit are more trouble than they save. The
result equals the model up to the rounding of sums that lose their zeros and gain a bias.

There is no paper behind this: it is bookkeeping, and exact.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .unit_graph import UnitGraph, Units

__all__ = ["Shrunk", "remove_dead_units"]


class Shrunk(NamedTuple):
    """A model without its dead units.

    Attributes:
        model: a copy.
        removed: layer -> how many of its units are gone; only layers that lost some.
        kept: layer -> why its dead units had to stay; only layers that have some.
        problem: why the model could not be looked at; empty when it could.
    """

    model: nn.Module
    removed: Mapping[str, int]
    kept: Mapping[str, str]
    problem: str


def remove_dead_units(model: nn.Module, example: tuple[Any, ...]) -> Shrunk:
    """Return a copy of `model`, in eval mode, without dead units.

    The graph is found with ``torch.fx``; units that reach an operation it does not know stay (see
    `gonzo.pruning.unit_graph`), and so do all units of a model that cannot be traced.

    Args:
        model: not changed.
        example: its arguments, run through it once for the shapes.

    Returns:
        The copy, and what was done. Its `forward` is that of `model`: only layers are smaller.
    """
    model = copy.deepcopy(model).eval()
    try:
        with torch.no_grad():
            graph = UnitGraph(model, example)
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Shrunk(model, {}, {}, f"the model cannot be traced: {reason}")
    with torch.no_grad():
        return _Removal(model, graph.units).run()


class _Removal:
    def __init__(self, model: nn.Module, units: list[Units]) -> None:
        self.model = model
        self.units = units
        self.live = {u.name: torch.ones(u.size, dtype=torch.bool) for u in units}

    def run(self) -> Shrunk:
        free = [units for units in self.units if not units.obstacle and units.readers]
        changed = True
        while changed:
            settled = [self._settle(units) for units in free]
            changed = any(settled)
        removed = {}
        for units in free:
            keep = self.live[units.name]
            if keep.all():
                continue
            if not keep.any():
                keep[0] = True
            count = int((~keep).sum())
            if count:
                removed[units.name] = count
                self._cut(units, keep)
        kept = {
            units.name: units.obstacle
            for units in self.units
            if units.obstacle and units.obstacle != "it reaches the output"
            and bool((~_alive_rows(self._layer(units.name).weight)).any())
        }  # fmt: skip
        return Shrunk(self.model, removed, kept, "")

    def _layer(self, name: str) -> Any:
        return self.model.get_submodule(name)

    def _settle(self, units: Units) -> bool:
        """Take the weights of dead units to zero, and what they still say into biases."""
        layer = self._layer(units.name)
        live = self.live[units.name].to(layer.weight.device)
        heard = torch.zeros_like(live)
        for reader in units.readers:
            heard |= _alive_columns(self._layer(reader.name).weight, reader.repeat)
        same = live & ~_alive_rows(layer.weight)
        bias = layer.bias if layer.bias is not None else layer.weight.new_zeros(units.size)
        folded = []
        for reader in units.readers:
            constants, known = reader.constants(bias)
            same &= known
            folded.append((reader, constants))
        dead = live & (~heard | same)
        if not dead.any():
            return False
        for reader, constants in folded:
            _fold(self._layer(reader.name), reader.repeat, constants, dead & heard)
            _columns(self._layer(reader.name).weight, reader.repeat)[:, dead] = 0
        layer.weight[dead] = 0
        if layer.bias is not None:
            layer.bias[dead] = 0
        self.live[units.name] = (live & ~dead).cpu()
        return True

    def _cut(self, units: Units, keep: Tensor) -> None:
        layer = self._layer(units.name)
        at = keep.nonzero().flatten().to(layer.weight.device)
        layer.weight = _parameter(layer.weight[at])
        if layer.bias is not None:
            layer.bias = _parameter(layer.bias[at])
        _count(layer, "out", len(at))
        for name in units.norms:
            norm = self._layer(name)
            norm.num_features = len(at)
            norm.running_mean, norm.running_var = norm.running_mean[at], norm.running_var[at]
            if norm.affine:
                norm.weight, norm.bias = _parameter(norm.weight[at]), _parameter(norm.bias[at])
        for reader in units.readers:
            layer = self._layer(reader.name)
            layer.weight = _parameter(_columns(layer.weight, reader.repeat)[:, at].flatten(1, 2))
            _count(layer, "in", len(at) * reader.repeat)


def _columns(weight: Tensor, repeat: int) -> Tensor:
    """Return a view (rows, units, repeat, ...) of a weight (rows, units * repeat, ...)."""
    return weight.unflatten(1, (-1, repeat))


def _alive_rows(weight: Tensor) -> Tensor:
    return (weight.flatten(1) != 0).any(1)


def _alive_columns(weight: Tensor, repeat: int) -> Tensor:
    return (_columns(weight, repeat).flatten(2) != 0).any(2).any(0)


def _fold(layer: Any, repeat: int, constants: Tensor, which: Tensor) -> None:
    """Add to the bias of `layer` what the constant units `which` contribute."""
    if not which.any():
        return
    weight = _columns(layer.weight, repeat)[:, which].double().flatten(2).sum(2)
    added = weight @ constants[which].double()
    before = 0 if layer.bias is None else layer.bias.double()
    layer.bias = _parameter((before + added).to(layer.weight.dtype))


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.clone(), requires_grad=False)


def _count(layer: nn.Module, side: str, count: int) -> None:
    kind = "features" if isinstance(layer, nn.Linear) else "channels"
    setattr(layer, f"{side}_{kind}", count)
