"""The product with the whole matrix, zeros included: what every other way is judged by.

y = x (W ⊙ M)ᵀ + b        dx = dy (W ⊙ M)        dW = (dyᵀ x) ⊙ M        db = Σ dy
"""

from __future__ import annotations

import torch
from torch import Tensor


def forward(
    x: Tensor, values: Tensor, bias: Tensor | None, first: Tensor, columns: Tensor
) -> Tensor:
    """See `gonzo.core.ops.sparse_linear`.

    Args:
        x: (batch, in)
        values: (n,) or (n, b, b), of the dtype of x, as is:
        bias: (out,) or None.
        first: (out / b + 1,) int32.
        columns: (n,)

    Returns:
        (out, batch): y transposed.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    weight = _matrix(values.to(wide), first, columns, x.shape[1])
    y = weight @ x.to(wide).mT
    if bias is not None:
        y += bias.to(wide)[:, None]
    return y.to(x.dtype)


def backward(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    first: Tensor,
    columns: Tensor,
    transposed: tuple[Tensor, Tensor, Tensor] | None,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, transposed, of values and of the bias, each empty where it is not wanted.

    Args:
        grad: (out, batch)
        x: (batch, in)
        values: (n,) or (n, b, b)
        first: (out / b + 1,)
        columns: (n,)
        transposed: first, rows and order of the transposed pattern; not needed here.
        wanted: which of the three.

    Returns:
        (in, batch), as values, (out,)
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    dy = grad.to(wide)
    dx, dv, db = (grad.new_empty(0) for _ in range(3))
    if wanted[0]:
        dx = (_matrix(values.to(wide), first, columns, x.shape[1]).mT @ dy).to(x.dtype)
    if wanted[1]:
        dw = dy @ x.to(wide)
        b = _block(values)
        blocks = dw.view(len(dw) // b, b, x.shape[1] // b, b).transpose(1, 2)
        dv = blocks[_rows(first, columns), columns.long()].view(values.shape).to(values.dtype)
    if wanted[2]:
        db = dy.sum(1).to(x.dtype)
    return dx, dv, db


def _matrix(values: Tensor, first: Tensor, columns: Tensor, n_in: int) -> Tensor:
    b, n_row = _block(values), len(first) - 1
    blocks = values.new_zeros(n_row, n_in // b, b, b)
    blocks[_rows(first, columns), columns.long()] = values.view(-1, b, b)
    return blocks.transpose(1, 2).reshape(n_row * b, n_in)


def _rows(first: Tensor, columns: Tensor) -> Tensor:
    at = torch.arange(len(first) - 1, device=first.device)
    return at.repeat_interleave(first.diff(), output_size=len(columns))


def _block(values: Tensor) -> int:
    return 1 if values.ndim == 1 else values.shape[-1]
