"""Schema, shapes and gradient of `sparse_linear`; inside, y and dx are transposed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gonzo.core.backends import implementation, recorded
from gonzo.core.ops.library import LIBRARY, forbid_second_derivative, implement

_TENSORS = "Tensor x, Tensor values"
_PATTERN = "Tensor first, Tensor columns"
_TRANSPOSED = "Tensor? t_first, Tensor? t_rows, Tensor? t_order"
LIBRARY.define(
    f"sparse_linear({_TENSORS}, Tensor? bias, {_PATTERN}, {_TRANSPOSED}, str backend) -> Tensor"
)
LIBRARY.define(
    f"sparse_linear_backward(Tensor grad, {_TENSORS}, {_PATTERN}, {_TRANSPOSED}, bool[3] wanted,"
    " str backend) -> (Tensor, Tensor, Tensor)"
)


def _forward(
    x: Tensor, values: Tensor, bias: Tensor | None, first: Tensor, columns: Tensor, *rest: Any
) -> Tensor:
    module = _module(rest[-1], values)
    return module.forward(x, values, bias, first, columns)


def _backward(
    grad: Tensor, x: Tensor, values: Tensor, first: Tensor, columns: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *transposed, wanted, backend = rest
    module = _module(backend, values)
    known = None if transposed[0] is None else tuple(transposed)
    return module.backward(grad, x, values, first, columns, known, tuple(wanted))


def _module(backend: str, values: Tensor) -> Any:
    """Of single weights, and blocks that have no kernel, the reference makes a dense matrix.

    On a GPU its product is quicker than gathering, down to a few per cent of the weights.
    """
    module = implementation("sparse_linear", backend, values.device)
    if hasattr(module, "supports") and not module.supports(values):
        return implementation("sparse_linear", "reference", values.device)
    return module


implement("sparse_linear", _forward)
implement("sparse_linear_backward", _backward)


def _n_out(values: Tensor, first: Tensor) -> Any:
    return (first.shape[0] - 1) * (1 if values.ndim == 1 else values.shape[-1])


@torch.library.register_fake("gonzo::sparse_linear", lib=LIBRARY)
def _(x: Tensor, values: Tensor, bias: Tensor | None, first: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(_n_out(values, first), x.shape[0])


@torch.library.register_fake("gonzo::sparse_linear_backward", lib=LIBRARY)
def _(
    grad: Tensor, x: Tensor, values: Tensor, first: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *_, wanted, _ = rest
    return (
        x.new_empty((x.shape[1], x.shape[0]) if wanted[0] else (0,)),
        values.new_empty(values.shape if wanted[1] else (0,)),
        x.new_empty((_n_out(values, first),) if wanted[2] else (0,)),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, _, first, columns, *transposed, backend = inputs
    ctx.save_for_backward(x, values, first, columns, *transposed)
    ctx.backend = recorded("sparse_linear", backend, x.device)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:3]
    dx, dv, db = torch.ops.gonzo.sparse_linear_backward(
        grad, *ctx.saved_tensors, wanted, ctx.backend
    )
    gradients = (dx.mT if wanted[0] else None, dv if wanted[1] else None, db if wanted[2] else None)
    return *gradients, *(None,) * 6


torch.library.register_autograd(
    "gonzo::sparse_linear", _gradient, setup_context=_setup, lib=LIBRARY
)
forbid_second_derivative("sparse_linear")
