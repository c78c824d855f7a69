"""Time one layer of a model in all its forms, on the input that it really gets, and choose."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .direct_conv import DirectConv, can_shift
from .form_timing import time_forms
from .frozen_copy import stored_bytes
from .layer_forms import MatrixForm, forms_of
from .output_error import output_error
from .sparse_conv import SparseConv, can_unfold, matrix_of, rows_seen
from .speed_report import LayerSpeed
from .unit_graph import has_hooks, positions

__all__ = ["Layers", "Rules", "choose_form"]

_UNFOLDED = 1 << 24  # numbers beyond which an image is not unfolded: that seldom pays as it is
_DENSEST = 0.8  # part alive above which no form is tried


@dataclass(frozen=True)
class Rules:
    """How a form is chosen.

    Attributes:
        forms: names of those to try.
        min_gain: how many times as fast as dense it has to be.
        tolerance: the largest relative RMS error.
        seconds: about how long to measure a layer.
    """

    forms: tuple[str, ...]
    min_gain: float
    tolerance: float
    seconds: float


class Layers:
    """The layers that ran, as they were and without dead units, with their inputs."""

    def __init__(self, dense: nn.Module, shrunk: nn.Module, arguments: tuple[Any, ...]) -> None:
        self.dense, self.shrunk = dense, shrunk
        self.obstacles = _obstacles(shrunk)
        self.inputs_before = _inputs(dense, arguments)
        self.inputs_after = _inputs(shrunk, arguments)
        self.names = list(self.inputs_after)


def _inputs(model: nn.Module, arguments: tuple[Any, ...]) -> dict[str, Tensor]:
    """Return layer -> its first input."""
    seen: dict[str, Tensor] = {}

    def note(name: str, _module: nn.Module, given: tuple[Any, ...]) -> None:
        if len(given) == 1 and isinstance(given[0], Tensor):
            seen.setdefault(name, given[0].clone())

    handles = [
        module.register_forward_pre_hook(functools.partial(note, name))
        for name, module in model.named_modules()
        if positions(module) is not None
    ]
    try:
        model(*arguments)
    finally:
        for handle in handles:
            handle.remove()
    return {name: seen[name] for name, _ in model.named_modules() if name in seen}


def _obstacles(model: nn.Module) -> dict[str, str]:
    """Return layer -> why it cannot be exchanged."""
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    obstacles = {}
    for name, module in model.named_modules():
        if has_hooks(module):
            obstacles[name] = "it has hooks"
        if type(module).__module__.startswith("torch.nn.") and not isinstance(module, containers):
            for child, _ in module.named_children():
                inner = f"{name}.{child}" if name else child
                obstacles[inner] = f"{type(module).__name__} reads its weights itself"
    return obstacles


def choose_form(layers: Layers, name: str, rules: Rules) -> tuple[LayerSpeed, nn.Module | None]:
    """Time one layer in all its forms, and return what was found and what to replace it by."""
    before, after = layers.dense.get_submodule(name), layers.shrunk.get_submodule(name)
    x_before, x = layers.inputs_before[name], layers.inputs_after[name]
    weight, rows = matrix_of(after), rows_seen(after, x)
    made: dict[str, nn.Module] = {"dense": after}
    alive = float((weight != 0).double().mean())
    obstacle = layers.obstacles.get(name, "")
    if not obstacle and alive > _DENSEST:
        obstacle = f"{alive:.0%} of its weights are alive"
    if not obstacle:
        for label, make in _other_forms(after, rows, rules.forms):
            layer = _checked(make, after, x, rules.tolerance)
            if layer is not None:
                made[label] = layer
    calls: dict[str, Callable[[], object]] = {
        label: functools.partial(layer, x) for label, layer in made.items()
    }
    changed = before.weight.shape != after.weight.shape
    if changed:
        calls["as it was"] = functools.partial(before, x_before)
    times = time_forms(calls, device=weight.device, seconds=rules.seconds, cold=True)
    tried = {label: times["dense"] / times[label] for label in made if label != "dense"}
    best = max(tried, key=lambda label: tried[label], default="")
    form = best if best and tried[best] >= rules.min_gain else "dense"
    unit = "row" if isinstance(after, nn.Linear) else "position"
    where = f"{rows} {unit}{'s' * (rows != 1)}"
    assert isinstance(before.weight, Tensor)
    assert isinstance(after.weight, Tensor)
    left = f"the {'×'.join(map(str, after.weight.shape))} that is left" if changed else "dense"
    why = _why(form, best, tried, obstacle, 1 - alive, f"{left} for {where}", rules.min_gain)
    chosen = made[form]
    if rows == 1 and isinstance(chosen, MatrixForm):
        chosen.in_order = True  # free for one row, and no example shows whether more may differ
    speed = LayerSpeed(
        name=name,
        kind=type(before).__name__,
        shape=tuple(before.weight.shape),
        shape_after=tuple(after.weight.shape),
        density=int((before.weight != 0).sum()) / before.weight.numel(),
        rows=rows,
        form=form,
        why=why,
        seconds_before=times["as it was" if changed else "dense"],
        seconds_after=times[form],
        bytes_before=stored_bytes(before),
        bytes_after=stored_bytes(made[form]),
        tried=tried,
    )
    return speed, None if form == "dense" else made[form]


def _why(
    form: str,
    best: str,
    tried: Mapping[str, float],
    obstacle: str,
    sparsity: float,
    than: str,
    needed: float,
) -> str:
    if form != "dense":
        return f"{form}: {tried[form]:.2g} × as fast as {than}"
    if obstacle:
        return f"dense: {obstacle}"
    if best:
        short = f", and {needed:g} × is needed" if tried[best] >= 0.995 else ""
        return f"dense: at {sparsity:.0%} sparse best is {best}, {tried[best]:.2g} × as fast{short}"
    return f"dense: no form fits, at {sparsity:.0%} sparse"


def _other_forms(
    layer: nn.Module, rows: int, wanted: tuple[str, ...]
) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Yield what else could compute `layer`: what it is called, and what makes it."""
    weight, bias = matrix_of(layer), layer.bias
    assert bias is None or isinstance(bias, Tensor)
    if not isinstance(layer, nn.Conv1d | nn.Conv2d):
        if isinstance(layer, nn.Linear):
            yield from forms_of(weight, bias, rows, wanted)
        return
    if "direct" in wanted and can_shift(layer):
        yield "direct", lambda: DirectConv(layer)
    if can_unfold(layer) and weight.shape[1] * rows <= _UNFOLDED:
        for label, make in forms_of(weight, bias, rows, wanted):
            yield f"unfolded, {label}", lambda make=make: SparseConv(make(), layer)


def _checked(
    make: Callable[[], nn.Module], layer: nn.Module, x: Tensor, tolerance: float
) -> nn.Module | None:
    """Return the layer in another form if that works here and is exact, else None."""
    try:
        form = make().eval().requires_grad_(False)
        wrong = output_error(form(x), layer(x))
    except (RuntimeError, NotImplementedError, TypeError):
        return None  # torch has no such product for this dtype or device
    return form if wrong <= tolerance else None
