"""What `compile_sparse` can be given, and what it says of everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .frozen_copy import tensors_in
from .layer_forms import FORMS
from .masks import Masks
from .tickets import Ticket

__all__ = [
    "TOLERANCE",
    "check_example",
    "check_forms",
    "check_model",
    "check_numbers",
    "check_outputs",
    "first_line",
]

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 1e-2}


def check_model(model: Any, masks: Any) -> None:
    """Refuse what is no model, or none whose layers can be seen, and masks of another kind."""
    if not isinstance(model, nn.Module):
        hint = "; ticket.into(model) gives one" if isinstance(model, Ticket) else ""
        got = model.__name__ if isinstance(model, type) else type(model).__name__
        raise TypeError(f"compile_sparse: expected a model (nn.Module), got {got}{hint}")
    if hasattr(model, "_orig_mod") or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"compile_sparse: {type(model).__name__} does not show its layers; pass the model "
            "from before torch.compile (model._orig_mod) or torch.jit"
        )
    if masks is not None and not isinstance(masks, Masks):
        raise TypeError(
            f"compile_sparse: expected masks as Masks, got {type(masks).__name__}; Masks(…) makes "
            "them of bool tensors by name"
        )


def check_numbers(min_gain: Any, seconds: Any, tolerance: Any) -> None:
    """Refuse numbers out of their bounds."""
    bounds = {"min_gain": (min_gain, 1), "seconds": (seconds, 0), "tolerance": (tolerance, 0)}
    for name, (value, least) in bounds.items():
        if name == "tolerance" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"compile_sparse: expected {name} as a number, got {value!r}")
        if not least <= value < math.inf:
            raise ValueError(f"compile_sparse: expected {name} of at least {least}, got {value}")


def check_forms(forms: Sequence[str]) -> tuple[str, ...]:
    """Return the names of forms, where there are such."""
    if forms is None:
        raise TypeError("compile_sparse: expected forms by name, got None; leave it out for all")
    wanted = (forms,) if isinstance(forms, str) else tuple(forms)
    unknown = sorted(map(str, set(wanted) - set(FORMS)))
    if unknown:
        raise ValueError(
            f"compile_sparse: expected forms out of {', '.join(FORMS)}, got {', '.join(unknown)}"
        )
    return wanted


def check_example(model: nn.Module, arguments: tuple[Any, ...]) -> Tensor:
    """Return a weight that speaks for all."""
    weights = [
        parameter
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        for parameter in module.parameters()
    ]
    if not weights:
        raise ValueError(
            f"compile_sparse: {type(model).__name__} has no linear layer and no convolution, so "
            "there is nothing to make faster"
        )
    weight = weights[0]
    if weight.dtype not in TOLERANCE:
        raise ValueError(
            f"compile_sparse: expected weights of {', '.join(map(str, TOLERANCE))}, got "
            f"{weight.dtype}"
        )
    given = list(tensors_in(arguments))
    if not given:
        raise TypeError(
            "compile_sparse: expected a tensor or a tuple of arguments as example_input, got "
            f"{', '.join(type(argument).__name__ for argument in arguments) or 'an empty tuple'}"
        )
    for tensor in given:
        if tensor.device != weight.device:
            raise ValueError(
                f"compile_sparse: the example is on {tensor.device}, the model on {weight.device}; "
                "move one of them"
            )
        if tensor.is_floating_point() and tensor.dtype != weight.dtype:
            raise ValueError(
                f"compile_sparse: the example is {tensor.dtype}, the weights are {weight.dtype}; "
                f"use example.to({weight.dtype})"
            )
    return weight


def check_outputs(model: nn.Module, dense: nn.Module, arguments: tuple[Any, ...]) -> Any:
    """Return what the dense model returns."""
    try:
        expected = dense(*arguments)
    except Exception as error:  # whatever the model's own code raises
        raise ValueError(
            f"compile_sparse: {type(model).__name__} does not run on the example, a tensor or a "
            f"tuple of its arguments: {first_line(error)}"
        ) from error
    first, second = (list(tensors_in(y)) for y in (expected, dense(*arguments)))
    name = type(model).__name__
    if not first:
        raise TypeError(f"compile_sparse: {name} returns no tensor that could be compared")
    for a, b in zip(first, second, strict=True):
        if a.is_floating_point() and not a.isfinite().all():
            raise ValueError(
                f"compile_sparse: {name} returns values that are not finite for the example, so "
                "that forms cannot be compared; look at its weights, or take another example"
            )
        if not torch.equal(a, b):
            raise ValueError(
                f"compile_sparse: {name} returns something else at a second call with the same "
                "example in eval mode, so that forms cannot be compared; does it draw random "
                "numbers, or keep a state?"
            )
    return expected


def first_line(error: Exception) -> str:
    """Return what an error says first."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
