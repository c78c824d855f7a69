"""Schema, shapes and gradient of `cauchy`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gonzo.core.backends import implementation, recorded
from gonzo.core.ops.library import LIBRARY, forbid_second_derivative, implement

_PAIRS = "Tensor cb, Tensor cp, Tensor qb, Tensor qp, Tensor w"
LIBRARY.define(f"cauchy({_PAIRS}, SymInt length, ScalarType dtype, str backend) -> Tensor")
LIBRARY.define(
    f"cauchy_backward(Tensor grad, {_PAIRS}, str backend) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _forward(*arguments: Any) -> Tensor:
    *inputs, backend = arguments
    return implementation("cauchy", backend, inputs[0].device).forward(*inputs)


def _backward(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, backend = arguments
    return implementation("cauchy", backend, inputs[0].device).backward(*inputs)


implement("cauchy", _forward)
implement("cauchy_backward", _backward)


@torch.library.register_fake("gonzo::cauchy", lib=LIBRARY)
def _(cb, cp, qb, qp, w, length, dtype, backend):
    return w.new_empty(w.shape[0], length, dtype=dtype)


@torch.library.register_fake("gonzo::cauchy_backward", lib=LIBRARY)
def _(grad, cb, cp, qb, qp, w, backend):
    return tuple(t.new_empty(t.shape) for t in (cb, cp, qb, qp, w))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *pairs, _, _, backend = inputs
    ctx.save_for_backward(*pairs)
    ctx.backend = recorded("cauchy", backend, pairs[0].device)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = torch.ops.gonzo.cauchy_backward(grad, *ctx.saved_tensors, ctx.backend)
    return *grads, None, None, None


torch.library.register_autograd("gonzo::cauchy", _gradient, setup_context=_setup, lib=LIBRARY)
forbid_second_derivative("cauchy")
