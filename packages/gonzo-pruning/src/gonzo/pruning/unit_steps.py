"""What stands between a layer and the next does to a unit: to its place, and to its constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

__all__ = [
    "NORMS",
    "Step",
    "after_flatten",
    "after_mean",
    "flattens",
    "normalise",
    "pointwise",
    "pooling",
    "same",
    "shape_of",
]

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""What happens to units that are constant: (constants, which are known) -> the same, after."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def shape_of(node: fx.Node) -> torch.Size:
    """Return the shape that was noted for a node."""
    return node.meta.get("shape", torch.Size())


def same(constants: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Leave everything as it is."""
    return constants, known


def pointwise(user: fx.Node, module: nn.Module | None = None) -> Step:
    """Return the step of a function of single numbers: that function."""

    def step(constants: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        # A copy, since the function may write over its argument.
        constants = constants.clone()
        target: Any = user.target
        if module is not None:
            return module(constants), known
        if user.op == "call_method":
            return getattr(constants, target)(*user.args[1:], **user.kwargs), known
        return target(constants, *user.args[1:], **user.kwargs), known

    return step


def normalise(norm: nn.Module, constants: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise every unit by its own statistics."""
    assert isinstance(norm, NORMS)
    trailing = (0, 2, 3)[NORMS.index(type(norm))]
    return norm(constants.reshape(1, -1, *[1] * trailing)).flatten(), known


def pooling(module: nn.Module) -> Step:
    """Return the step of a pool: zeros that it averages in make a constant none, except 0."""
    padding = getattr(module, "padding", 0)
    padded = any(padding) if isinstance(padding, tuple) else bool(padding)
    divides = getattr(module, "divisor_override", None) is not None
    if isinstance(module, nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d) and (padded or divides):
        return lambda constants, known: (constants, known & (constants == 0))
    return same


def flattens(user: fx.Node, node: fx.Node) -> bool:
    """Whether a call on `node` flattens its dimensions, whatever their sizes are."""
    if user.target in (torch.flatten, "flatten"):
        return True
    if user.target not in (torch.reshape, "reshape", "view"):
        return False
    # The size of what is flattened must not be written in the code, since it is about to change.
    size = user.args[1] if isinstance(user.args[1], tuple | list) else user.args[1:]
    before, after = shape_of(node), shape_of(user)
    flat = torch.Size((before[0], math.prod(before[1:]))) if before else None
    return len(size) == 2 and isinstance(size[1], int) and size[1] == -1 and after == flat


def after_flatten(
    user: fx.Node, node: fx.Node, axis: int, repeat: int, module: nn.Flatten | None = None
) -> tuple[Step, int, int] | None:
    """Return the step, the axis and the repeat after flattening; None where units are mixed."""
    shape = shape_of(node)
    if module is not None:
        start, end = module.start_dim, module.end_dim
    elif user.target in (torch.flatten, "flatten"):
        given = dict(zip(("start_dim", "end_dim"), user.args[1:], strict=False)) | user.kwargs
        start, end = given.get("start_dim", 0), given.get("end_dim", -1)
        if not (isinstance(start, int) and isinstance(end, int)):
            return None
    else:
        start, end = 1, -1
    start, end, at = start % len(shape), end % len(shape), axis % len(shape)
    if end < at:  # dimensions before the units, such as batch and time
        return same, axis, repeat
    if start != at or end != len(shape) - 1:
        return None
    return same, -1, repeat * math.prod(shape[at + 1 :])


def after_mean(
    user: fx.Node, node: fx.Node, axis: int, repeat: int
) -> tuple[Step, int, int] | None:
    """Return the same after a mean over all positions behind the channels; None after others."""
    given = dict(zip(("dim", "keepdim"), user.args[1:], strict=False)) | user.kwargs
    dims, keep = given.get("dim"), given.get("keepdim", False)
    dims = (dims,) if isinstance(dims, int) else dims
    if not isinstance(dims, tuple | list) or set(given) - {"dim", "keepdim"}:
        return None
    averaged = {d % len(shape_of(node)) - len(shape_of(node)) for d in dims if isinstance(d, int)}
    if averaged != set(range(axis + 1, 0)) or repeat != 1:
        return None
    return same, axis if keep else -1, repeat
