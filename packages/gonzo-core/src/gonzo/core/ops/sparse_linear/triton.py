"""Blocks of weights on the matrix units of a GPU: a program has the rows of one row of blocks.

It walks along the blocks that are there and multiplies each with a tile of x; nothing is added by
two programs, so results repeat. Blocks with edges of 16, 32, 64 and 128 have kernels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gonzo.core.backends import triton_is_interpreted
from gonzo.core.triton_kernels import launch

_EDGES = (16, 32, 64, 128)
_LANES = 64  # of the batch, in a tile


def forward(
    x: Tensor, values: Tensor, bias: Tensor | None, first: Tensor, columns: Tensor
) -> Tensor:
    """See `reference.forward`."""
    return _multiply(x, values, None, first, columns, bias)


def backward(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    first: Tensor,
    columns: Tensor,
    transposed: tuple[Tensor, Tensor, Tensor] | None,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """See `reference.backward`."""
    dx, dv, db = (grad.new_empty(0) for _ in range(3))
    if wanted[0]:
        assert transposed is not None
        t_first, rows, order = transposed
        dx = _multiply(grad.mT, values, order, t_first, rows, None)
    if wanted[1]:
        dv = _sample(grad, x, values, first, columns)
    if wanted[2]:
        wide = torch.promote_types(grad.dtype, torch.float32)
        db = grad.sum(1, dtype=wide).to(grad.dtype)
    return dx, dv, db


def supports(values: Tensor) -> bool:
    """Whether there are kernels for blocks of this size."""
    return values.ndim == 3 and values.shape[-1] in _EDGES


def _multiply(
    x: Tensor,
    values: Tensor,
    order: Tensor | None,
    first: Tensor,
    columns: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """W xᵀ + b (out, batch); with an order of the blocks, they are transposed."""
    edge, batch = values.shape[-1], x.shape[0]
    n_row = first.shape[0] - 1
    out = x.new_empty(n_row * edge, batch)
    if not out.numel():
        return out
    launch(
        _multiply_row,
        (n_row, triton.cdiv(batch, _LANES)),
        *(values.contiguous(), columns if order is None else order, first, columns, x),
        *(x if bias is None else bias.contiguous(), out, x.stride(0), x.stride(1), batch),
        EDGE=edge,
        DEPTH=_depth(x.dtype, edge),
        LANES=_LANES,
        TRANSPOSED=order is not None,
        BIAS=bias is not None,
        OPERAND=_operand(x.dtype),
        num_warps=_warps(x.dtype, edge),
    )
    return out


def _sample(grad: Tensor, x: Tensor, values: Tensor, first: Tensor, columns: Tensor) -> Tensor:
    """The blocks of dyᵀ x that are in the pattern."""
    edge, n = values.shape[-1], columns.shape[0]
    at = torch.arange(first.shape[0] - 1, dtype=torch.int32, device=first.device)
    rows = at.repeat_interleave(first.diff(), output_size=n)
    out = torch.empty_like(values, memory_format=torch.contiguous_format)
    if n:
        launch(
            _sample_block,
            (n,),
            *(grad, x, rows, columns, out, grad.stride(0), grad.stride(1)),
            *(x.stride(0), x.stride(1), len(x)),
            EDGE=edge,
            DEPTH=_depth(x.dtype, 64),
            OPERAND=_operand(x.dtype),
            num_warps=_warps(x.dtype, edge),
        )
    return out


def _depth(dtype: torch.dtype, most: int) -> int:
    """How many products of a sum are made at a time; as many as leave registers free."""
    if dtype == torch.float64:
        return 2
    return min(most, 16 if dtype == torch.float32 else 64)


def _operand(dtype: torch.dtype) -> tl.dtype:
    """The type of the factors of a product; the interpreter cannot multiply bfloat16."""
    if dtype == torch.bfloat16 and triton_is_interpreted():
        return tl.float32
    return getattr(tl, str(dtype).removeprefix("torch."))


def _warps(dtype: torch.dtype, edge: int) -> int:
    if dtype.itemsize == 2:
        return 4 if edge <= 64 else 8
    return 4 if edge <= 32 else 8


@triton.jit
def _add_product(a, b, total):
    """Total + a b, in IEEE arithmetic for float32."""
    if total.dtype == tl.float64:  # not every Triton from 3.4 on has a tl.dot of it
        total += tl.sum(a[:, :, None] * b[None, :, :], 1)
    else:
        total = tl.dot(a, b, total, input_precision="ieee")
    return total


@triton.jit
def _multiply_row(
    values, order, first, columns, x, bias, out, x_batch, x_in, batch,
    EDGE: tl.constexpr, DEPTH: tl.constexpr, LANES: tl.constexpr, TRANSPOSED: tl.constexpr,
    BIAS: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    i, j = tl.arange(0, EDGE), tl.arange(0, DEPTH)
    wide: tl.constexpr = tl.float64 if values.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros([EDGE, LANES], wide)
    if BIAS:
        total += tl.load(bias + row * EDGE + i).to(wide)[:, None]
    from_lane = lane[None, :].to(tl.int64) * x_batch
    for k in range(tl.load(first + row), tl.load(first + row + 1)):
        corner = values + tl.cast(tl.load(order + k) if TRANSPOSED else k, tl.int64) * EDGE * EDGE
        column = tl.load(columns + k).to(tl.int64) * EDGE
        for start in range(0, EDGE, DEPTH):
            if TRANSPOSED:
                w = tl.load(corner + (start + j)[None, :] * EDGE + i[:, None])
            else:
                w = tl.load(corner + i[:, None] * EDGE + (start + j)[None, :])
            at = (column + start + j)[:, None] * x_in + from_lane
            xs = tl.load(x + at, (lane < batch)[None, :], 0.0)
            total = _add_product(w.to(OPERAND), xs.to(OPERAND), total)
    to = (row.to(tl.int64) * EDGE + i)[:, None] * batch + lane[None, :]
    tl.store(out + to, total.to(out.dtype.element_ty), (lane < batch)[None, :])


@triton.jit
def _sample_block(
    grad, x, rows, columns, out, grad_out, grad_batch, x_batch, x_in, batch,
    EDGE: tl.constexpr, DEPTH: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    i, j = tl.arange(0, EDGE), tl.arange(0, DEPTH)
    wide: tl.constexpr = tl.float64 if out.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros([EDGE, EDGE], wide)
    from_row = (tl.load(rows + block).to(tl.int64) * EDGE + i)[:, None] * grad_out
    from_column = (tl.load(columns + block).to(tl.int64) * EDGE + i)[None, :] * x_in
    for start in range(0, batch, DEPTH):
        lane = (start + j).to(tl.int64)
        dy = tl.load(grad + from_row + lane[None, :] * grad_batch, (lane < batch)[None, :], 0.0)
        xs = tl.load(x + from_column + lane[:, None] * x_batch, (lane < batch)[:, None], 0.0)
        total = _add_product(dy.to(OPERAND), xs.to(OPERAND), total)
    to = block.to(tl.int64) * EDGE * EDGE + i[:, None] * EDGE + i[None, :]
    tl.store(out + to, total.to(out.dtype.element_ty))
