"""Schema, shapes and gradient of `linear_attention`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gonzo.core.backends import implementation, recorded
from gonzo.core.ops.library import LIBRARY, forbid_second_derivative, implement

from .packed import PackedSequences

_TENSORS = "Tensor q, Tensor k, Tensor v, Tensor state"
_SPANS = "Tensor? lengths, Tensor? cu_seqlens"
_OPTIONS = "str feature_map, float scale, bool causal, bool normalize"
LIBRARY.define(
    f"linear_attention({_TENSORS}, {_SPANS}, {_OPTIONS}, float eps, str backend)"
    " -> (Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    f"linear_attention_backward(Tensor grad_y, Tensor grad_state, {_TENSORS}, Tensor y,"
    f" Tensor divisor, {_SPANS}, {_OPTIONS}, str backend) -> (Tensor, Tensor, Tensor, Tensor)"
)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, lengths: Tensor | None,
    cu_seqlens: Tensor | None, *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    *options, backend = rest
    module = implementation("linear_attention", backend, q.device)
    if cu_seqlens is None:
        return module.forward(q, k, v, state, lengths, *options)
    return PackedSequences(module, cu_seqlens).forward(q, k, v, state, *options)


def _backward(
    grad_y: Tensor, grad_state: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor, y: Tensor,
    divisor: Tensor, lengths: Tensor | None, cu_seqlens: Tensor | None, *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    *options, backend = rest
    module = implementation("linear_attention", backend, q.device)
    tensors = (grad_y, grad_state, q, k, v, state, y, divisor)
    if cu_seqlens is None:
        return module.backward(*tensors, lengths, *options)
    return PackedSequences(module, cu_seqlens).backward(*tensors, *options)


implement("linear_attention", _forward)
implement("linear_attention_backward", _backward)


@torch.library.register_fake("gonzo::linear_attention", lib=LIBRARY)
def _(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, lengths: Tensor | None,
    cu_seqlens: Tensor | None, feature_map: str, scale: float, causal: bool, normalize: bool,
    eps: float, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    divisor = state.new_empty(v.shape[:-1] if normalize else (0,))
    return v.new_empty(v.shape), divisor, state.new_empty(state.shape)


@torch.library.register_fake("gonzo::linear_attention_backward", lib=LIBRARY)
def _(
    grad_y: Tensor, grad_state: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    q_grad, k_grad, v_grad, state_grad = (t.new_empty(t.shape) for t in (q, k, v, state))
    return q_grad, k_grad, v_grad, state_grad


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, feature_map, scale, causal, normalize, _, backend = inputs
    y, divisor, _ = output
    *tensors, lengths, cu_seqlens = tensors
    ctx.save_for_backward(*tensors, y, divisor, lengths, cu_seqlens)
    ctx.options = (feature_map, scale, causal, normalize)
    ctx.backend = recorded("linear_attention", backend, tensors[0].device)


def _gradient(
    ctx: Any, grad_y: Tensor, grad_divisor: Tensor, grad_state: Tensor
) -> tuple[Tensor | None, ...]:
    grads = torch.ops.gonzo.linear_attention_backward(
        grad_y, grad_state, *ctx.saved_tensors, *ctx.options, ctx.backend
    )
    return *grads, *(None,) * 8


torch.library.register_autograd(
    "gonzo::linear_attention", _gradient, setup_context=_setup, lib=LIBRARY
)
forbid_second_derivative("linear_attention")
