"""Sums of vectors along the batch, row after row of the matrix, by the loops of `cpu_kernels`.

Batches of one gather x instead. The gradient of x is the same product with the transposed pattern;
that of blocks of values is a batch of dense products, which torch has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import run_rows

from . import cpu_kernels

_SCRATCH = 1 << 20  # numbers of x and dy that are gathered at a time for blocks
# Waking other threads takes some 50 µs, and torch's own spin for a while in their way: fewer
# multiplications than this, done in about 0.3 ms, stay in the calling thread.
_WORTH_THREADS = 6_000_000
_LEAST_LANES = 16  # a batch of one gathers, which takes as long as some sixteen lanes


class Matrix(NamedTuple):
    """A sparse matrix as the loops take it; the arrays share memory with the tensors.

    Attributes:
        values: (n · edge²,)
        columns: (n,)
        first: (out / edge + 1,)
        bias: (out,)
    """

    values: np.ndarray
    columns: np.ndarray
    first: np.ndarray
    bias: np.ndarray


def matrix(values: Tensor, bias: Tensor | None, first: Tensor, columns: Tensor) -> Matrix:
    """Make a `Matrix` of tensors on the CPU; without a bias, with zeros."""
    edge = 1 if values.ndim == 1 else values.shape[-1]
    bias = values.new_zeros((len(first) - 1) * edge) if bias is None else bias.contiguous()
    values = values.detach().reshape(-1)
    return Matrix(values.numpy(), columns.numpy(), first.numpy(), bias.detach().numpy())


def multiply(w: Matrix, edge: int, x: Tensor) -> Tensor:
    """Return W xᵀ + b (out, batch) for x (batch, in) of the dtype of W."""
    if x.shape[0] != 1 or edge != 1:
        return _multiply_tiles(w, edge, x)
    out = torch.empty(w.bias.shape[0], 1, dtype=x.dtype)
    multiply_one(w, x.contiguous(), out)
    return out


def multiply_one(w: Matrix, x: Tensor, out: Tensor) -> None:
    """Write W x + b for a single x, both tensors contiguous and of the dtype of W."""
    n_out = w.bias.shape[0]
    arguments = (*w, x.data_ptr(), x.numel(), out.data_ptr(), n_out)
    _run(len(w.values), 1, n_out, cpu_kernels.dot_rows, *arguments)


def forward(
    x: Tensor, values: Tensor, bias: Tensor | None, first: Tensor, columns: Tensor
) -> Tensor:
    """See `reference.forward`; float16 and bfloat16 are computed in float32."""
    if x.dtype not in (torch.float32, torch.float64):
        wide = None if bias is None else bias.float()
        return forward(x.float(), values.float(), wide, first, columns).to(x.dtype)
    edge = 1 if values.ndim == 1 else values.shape[-1]
    return multiply(matrix(values, bias, first, columns), edge, x)


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
    if x.dtype not in (torch.float32, torch.float64):
        grad, wide = grad.float(), values.float()
        grads = backward(grad, x.float(), wide, first, columns, transposed, wanted)
        dx, dv, db = (g.to(x.dtype) for g in grads)
        return dx, dv, db
    dx, dv, db = (grad.new_empty(0) for _ in range(3))
    if wanted[0]:
        assert transposed is not None
        by_column = values[transposed[2]]
        by_column = by_column if values.ndim == 1 else by_column.mT
        edge = 1 if values.ndim == 1 else values.shape[-1]
        dx = multiply(matrix(by_column, None, *transposed[:2]), edge, grad.mT)
    if wanted[1]:
        sampled = _sampled if values.ndim == 1 else _sampled_blocks
        dv = sampled(grad, x, values, first, columns)
    if wanted[2]:
        db = grad.sum(1)
    return dx, dv, db


def _run(numbers: int, lanes: int, rows: int, loop: Callable[..., Any], *arguments: Any) -> None:
    """`run_rows` where `numbers` times `lanes` multiplications are worth several threads."""
    if numbers * max(lanes, _LEAST_LANES) >= _WORTH_THREADS:
        run_rows(rows, loop, *arguments)
    elif rows:
        loop(0, rows, *arguments)


def _tiles(x: Tensor, dtype: np.dtype) -> np.ndarray:
    """Put x (batch, in) in tiles (in, lanes), one after the other; x itself where it lies so."""
    batch, n_in = x.shape
    rest = batch * dtype.itemsize % 256
    missing = (32 - rest if rest <= 32 else (1 << (rest - 1).bit_length()) - rest) if rest else 0
    lanes = batch + missing // dtype.itemsize
    is_transposed = x.stride(0) == 1 and x.stride(1) == batch
    if (
        is_transposed
        and not missing
        and 0 < batch * dtype.itemsize <= 256
        and not x.data_ptr() % 64
    ):
        return x.mT.reshape(-1).numpy()
    tiles = np.empty(lanes * n_in + 64 // dtype.itemsize, dtype)  # room to begin at an aligned one
    if is_transposed:
        pack = cpu_kernels.pack_transposed_tiles
    else:
        pack, x = cpu_kernels.pack_tiles, x.contiguous()
    _run(n_in, lanes, n_in, pack, x.data_ptr(), n_in, batch, tiles)
    return tiles


def _multiply_tiles(w: Matrix, edge: int, x: Tensor) -> Tensor:
    (n_out,), (batch, n_in) = w.bias.shape, x.shape
    tiles = _tiles(x, w.values.dtype)
    out = torch.empty(n_out, batch, dtype=x.dtype)
    arguments = (*w, tiles, n_in, out.data_ptr(), batch)
    if edge == 1:
        _run(len(w.values), batch, n_out, cpu_kernels.sum_rows, *arguments)
    else:
        rows = n_out // edge
        _run(len(w.values), batch, rows, cpu_kernels.sum_block_rows, *arguments, edge)
    return out


def _sampled(grad: Tensor, x: Tensor, values: Tensor, first: Tensor, columns: Tensor) -> Tensor:
    """The entries of dyᵀ x that are in the pattern."""
    out = np.zeros(len(columns), values.numpy().dtype)
    _run(len(columns), len(x), len(first) - 1, cpu_kernels.sample_rows, columns.numpy(),
         first.numpy(), _tiles(x, out.dtype), x.shape[1], _tiles(grad.mT, out.dtype), len(grad),
         len(x), out)  # fmt: skip
    return torch.from_numpy(out)


def _sampled_blocks(
    grad: Tensor, x: Tensor, values: Tensor, first: Tensor, columns: Tensor
) -> Tensor:
    """The blocks of dyᵀ x that are in the pattern."""
    n, edge = len(columns), values.shape[-1]
    rows = torch.arange(len(first) - 1).repeat_interleave(first.diff(), output_size=n)
    dy = grad.reshape(len(first) - 1, edge, len(x))
    blocks = x.mT.reshape(x.shape[1] // edge, edge, len(x))
    out = values.new_empty(values.shape)
    some = max(1, _SCRATCH // max(1, edge * len(x)))
    for start in range(0, n, some):
        part = slice(start, start + some)
        torch.bmm(dy[rows[part]], blocks[columns[part].long()].mT, out=out[part])
    return out
