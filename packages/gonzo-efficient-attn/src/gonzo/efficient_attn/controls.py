"""What each part of a model's attention is good for: its quality without the others.

A model of linear and windowed softmax attention can come to nearly the quality of softmax while its
linear part does nothing. Of models converted by LoLCATs that has been reported (Benfeghoul et al.,
2025, https://arxiv.org/abs/2510.05901), and the quality of the whole does not show it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar, get_args

import torch
from torch import Tensor, nn

from gonzo.core.nn import CausalAttention

from .hybrid import Branches, HybridAttention
from .linear_attention import LinearAttention
from .projections import Attention, attention_layers

__all__ = ["ControlReport", "attention_branches", "control_report"]

Model = TypeVar("Model", bound=nn.Module)


class ControlReport(NamedTuple):
    """One model's quality with parts of its attention; None where it has no such part."""

    both: float
    """The model as it is."""
    linear: float | None
    """Without softmax over windows."""
    window: float | None
    """Without linear attention."""
    none: float
    """With no attention at all: every such layer adds nothing."""
    softmax: float | None
    """Of the softmax model it was made from, if that was given."""


def control_report(
    model: Model, quality: Callable[[Model], float], *, teacher: Model | None = None
) -> ControlReport:
    """Judge a model as it is, with its linear attention only, with its windows only, and with none.

    Nothing is trained: the parts that are left work as they did beside the others.

    Args:
        model: with `LinearAttention`, `HybridAttention` or `SlidingWindowAttention` anywhere, or
            several of them.
        quality: judges a model, with any number; called two to five times.
        teacher: the softmax model that it was made from.

    Raises:
        ValueError: the model holds no attention layer.
    """
    layers = attention_layers(model).values()
    has_linear = any(isinstance(layer, LinearAttention | HybridAttention) for layer in layers)
    has_window = any(isinstance(x, HybridAttention) or _is_window(x) for x in layers)

    def judged(branches: Branches) -> float:
        with attention_branches(model, branches):
            return float(quality(model))

    both = judged("both")
    return ControlReport(
        both=both,
        linear=(judged("linear") if has_window else both) if has_linear else None,
        window=(judged("window") if has_linear else both) if has_window else None,
        none=judged("none"),
        softmax=None if teacher is None else float(quality(teacher)),
    )


@contextlib.contextmanager
def attention_branches(model: nn.Module, branches: Branches) -> Generator[None]:
    """Let only some of a model's attention take part inside the block.

    A `HybridAttention` computes only the sides asked for. `LinearAttention` adds nothing under
    ``"window"``, and attention with a window adds nothing under ``"linear"``; softmax attention to
    all of the past counts as neither and is silent under ``"none"`` alone.

    Args:
        model: holds attention layers, or is one.
        branches: ``"both"``, ``"linear"``, ``"window"`` or ``"none"``.
    """
    if branches not in get_args(Branches):
        expected = ", ".join(map(repr, get_args(Branches)))
        raise ValueError(
            f"attention_branches: expected branches to be one of {expected}, got {branches!r}"
        )
    layers = attention_layers(model)
    if not layers:
        raise ValueError(
            f"attention_branches: this {type(model).__name__} holds no attention layer "
            "(CausalAttention, LinearAttention or HybridAttention)"
        )
    with contextlib.ExitStack() as stack:
        for layer in layers.values():
            if isinstance(layer, HybridAttention):
                stack.callback(setattr, layer, "branches", layer.branches)
                layer.branches = branches
            elif _is_silent(layer, branches):
                stack.callback(layer.register_module, "project_out", layer.project_out)
                layer.register_module("project_out", _Nothing())
        yield


class _Nothing(nn.Module):
    """In place of an output projection: nothing comes out, whichever way the layer is run."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def _is_silent(layer: Attention, branches: Branches) -> bool:
    if isinstance(layer, LinearAttention):
        return branches in ("window", "none")
    if _is_window(layer):
        return branches in ("linear", "none")
    return branches == "none"


def _is_window(layer: Attention) -> bool:
    return isinstance(layer, CausalAttention) and layer.window is not None
