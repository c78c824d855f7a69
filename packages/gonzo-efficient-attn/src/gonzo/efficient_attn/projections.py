"""The attention layers of a model, what each is given, and the queries and keys it makes of it."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from gonzo.core.nn import CausalAttention
from gonzo.core.nn.rotary import rotary_frequencies, rotated

from .hybrid import HybridAttention
from .linear_attention import LinearAttention

__all__ = ["Attention", "attention_inputs", "attention_layers", "queries_and_keys"]

Attention = CausalAttention | LinearAttention | HybridAttention


def attention_layers(model: nn.Module) -> dict[str, Attention]:
    """Return the attention layers inside a model, or the model if it is one, by name in order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Attention)}


@torch.no_grad()
def attention_inputs(
    model: nn.Module, x: Tensor, lengths: Tensor | None = None
) -> list[tuple[Attention, Tensor]]:
    """Run a model, in evaluation mode, and return its attention layers with what each was given.

    They come in the order in which the model calls them, one that it calls twice, twice.

    Args:
        model: holds attention layers, or is one.
        x: what the model takes, tokens say.
        lengths: likewise, if it takes any.

    Returns:
        Pairs of a layer and its input (batch, time, d_model).
    """
    calls: list[tuple[Attention, Tensor]] = []

    def note(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if isinstance(layer, Attention):
            calls.append((layer, arguments[0]))

    training = [part for part in model.modules() if part.training]
    with contextlib.ExitStack() as stack:
        for part in training:  # not train(), which would reach parts that are in evaluation mode
            stack.callback(setattr, part, "training", True)
        for layer in attention_layers(model).values():
            stack.callback(layer.register_forward_pre_hook(note).remove)
        model.eval()
        model(x) if lengths is None else model(x, lengths)
    return calls


def queries_and_keys(layer: Attention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return queries and keys (batch, n_head, time, d), turned by their places.

    Args:
        layer: any of the three kinds.
        x: (batch, time, d_model), from the beginning of the sequences.
    """
    if not isinstance(layer, CausalAttention):
        q, k, _ = layer.project(x)
        return q, k
    heads = layer.project_in(x).unflatten(-1, (3, layer.n_head, layer.d_head))
    q, k, _ = heads.permute(2, 0, 3, 1, 4).unbind(0)
    if not layer.rotary:
        return q, k
    places = torch.arange(x.shape[1], device=x.device)[None]
    wide = torch.promote_types(layer.project_in.weight.dtype, torch.float32)
    frequencies = rotary_frequencies(layer.d_head, device=x.device, dtype=wide)
    return rotated(q, places, frequencies), rotated(k, places, frequencies)
