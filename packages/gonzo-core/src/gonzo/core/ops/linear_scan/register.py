"""Schema, shapes and gradient of `linear_scan`.

Complex inputs arrive as real pairs, (..., 2), with ``pairs`` set; the implementations see complex
views of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gonzo.core.backends import implementation, recorded
from gonzo.core.ops.library import LIBRARY, forbid_second_derivative, implement

LIBRARY.define(
    "linear_scan(Tensor a, Tensor x, Tensor? initial, bool reverse, bool pairs, str backend) "
    "-> Tensor"
)
LIBRARY.define(
    "linear_scan_out(Tensor a, Tensor x, Tensor? initial, bool reverse, bool pairs, str backend, "
    "Tensor(a!) out) -> ()"
)
LIBRARY.define(
    "linear_scan_backward(Tensor grad, Tensor a, Tensor? y, Tensor? initial, bool reverse, "
    "bool pairs, str backend) -> (Tensor, Tensor, Tensor)"
)


def _forward(
    a: Tensor, x: Tensor, initial: Tensor | None, reverse: bool, pairs: bool, backend: str
) -> Tensor:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _forward_out(a, x, initial, reverse, pairs, backend, y)
    return y


def _forward_out(
    a: Tensor,
    x: Tensor,
    initial: Tensor | None,
    reverse: bool,
    pairs: bool,
    backend: str,
    out: Tensor,
) -> None:
    module = implementation("linear_scan", backend, x.device)
    if x.numel():
        numbers = [_numbers(t, pairs) for t in (a, x, initial)]
        module.forward(*numbers, reverse, _numbers(out, pairs))


def _backward(
    grad: Tensor,
    a: Tensor,
    y: Tensor | None,
    initial: Tensor | None,
    reverse: bool,
    pairs: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a (empty without the states `y`), x, and initial (empty where that is None).

    An op cannot return "no tensor", so an empty one stands for it.
    """
    module = implementation("linear_scan", backend, grad.device)
    like = (a if y is not None else None, grad, initial)
    if not grad.numel():
        return tuple(grad.new_zeros(0 if t is None else t.shape) for t in like)  # type: ignore
    numbers = (_numbers(t, pairs) for t in (grad, a, y, initial))
    gradients = module.backward(*numbers, reverse)
    return tuple(
        grad.new_empty(0) if t is None else (torch.view_as_real(t) if pairs else t).to(grad.dtype)
        for t in gradients
    )  # type: ignore


def _numbers(tensor: Tensor | None, pairs: bool) -> Tensor | None:
    if tensor is None or not pairs:
        return tensor
    return torch.view_as_complex(tensor.contiguous())


implement("linear_scan", _forward)
implement("linear_scan_out", _forward_out)
implement("linear_scan_backward", _backward)


@torch.library.register_fake("gonzo::linear_scan", lib=LIBRARY)
def _(a: Tensor, x: Tensor, *_: object) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@torch.library.register_fake("gonzo::linear_scan_out", lib=LIBRARY)
def _(*_: object) -> None:
    return None


@torch.library.register_fake("gonzo::linear_scan_backward", lib=LIBRARY)
def _(
    grad: Tensor, a: Tensor, y: Tensor | None, initial: Tensor | None, *_: object
) -> tuple[Tensor, Tensor, Tensor]:
    like = (a if y is not None else None, grad, initial)
    return tuple(grad.new_empty(0 if t is None else t.shape) for t in like)  # type: ignore


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, x, initial, ctx.reverse, ctx.pairs, backend = inputs
    # The states are the whole memory of the backward; only the gradient of the decay reads them.
    ctx.save_for_backward(a, output if ctx.needs_input_grad[0] else None, initial)
    ctx.backend = recorded("linear_scan", backend, x.device)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, y, initial = ctx.saved_tensors
    da, dx, dinitial = torch.ops.gonzo.linear_scan_backward(
        grad, a, y, initial, ctx.reverse, ctx.pairs, ctx.backend
    )
    return (
        da if y is not None else None,
        dx,
        None if initial is None else dinitial,
        None,
        None,
        None,
    )


torch.library.register_autograd("gonzo::linear_scan", _gradient, setup_context=_setup, lib=LIBRARY)
forbid_second_derivative("linear_scan")
