"""Messages between instructions along a block's dependences, in one pass over the edges.

With x projected to three vectors (o, p, c) for every instruction, g one for every block, and a, b
one of each for every kind of edge and direction,

    y_i = o_i + g_block(i) + sum over edges e into i of   (a_e * p_producer + b_e)
                           + sum over edges e out of i of (a'_e * c_consumer + b'_e)

Written with gathers and scatters, each term is a tensor of its own with a row for every edge; the
network then spends half of its time on moving those. Here no row of an edge is stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel
from gonzo.ithemal.batch import Batch

__all__ = ["exchange", "exchange_reference"]


def exchange(
    projected: Tensor, common: Tensor, scale: Tensor, shift: Tensor, batch: Batch
) -> Tensor:
    """Let every instruction collect what its neighbours send.

    Args:
        projected: (n, 3 d_model) of every instruction: for itself, for those that need its value,
            for those whose value it needs.
        common: (blocks, d_model) for every instruction of a block, the longest block first.
        scale: (2 relations, d_model) factors, first of messages to consumers, then to producers.
        shift: (2 relations, d_model) terms, in the same order.
        batch: the blocks.

    Returns:
        (n, d_model). Differentiable once.
    """
    if projected.device.type != "cpu" or projected.dtype != torch.float32:
        return exchange_reference(projected, common, scale, shift, batch)
    return _Exchange.apply(projected, common, scale, shift, batch)


def exchange_reference(
    projected: Tensor, common: Tensor, scale: Tensor, shift: Tensor, batch: Batch
) -> Tensor:
    """Compute `exchange` as the equation says, on any device, in any precision."""
    own, to_consumer, to_producer = projected.chunk(3, 1)
    own = own + common[batch.block]
    backward = batch.relation + len(scale) // 2
    for message, source, target, kind in (
        (to_consumer, batch.producer, batch.consumer, batch.relation),
        (to_producer, batch.consumer, batch.producer, backward),
    ):
        own = own.index_add(0, target, message[source] * scale[kind] + shift[kind])
    return own


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, common: Tensor, scale: Tensor, shift: Tensor, batch: Batch
    ) -> Tensor:
        ctx.save_for_backward(projected, scale)
        ctx.batch, ctx.blocks = batch, len(common)
        out = torch.empty(len(projected), scale.shape[1])
        _collect(
            _rows(projected), _rows(common), _rows(scale), _rows(shift), *_edges(batch), out.numpy()
        )
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        projected, scale = ctx.saved_tensors
        d_projected = torch.empty_like(projected)
        d_common = torch.zeros(ctx.blocks, scale.shape[1])
        d_scale, d_shift = torch.zeros_like(scale), torch.zeros_like(scale)
        _distribute(
            _rows(gradients[0]),
            _rows(projected),
            _rows(scale),
            *_edges(ctx.batch),
            d_projected.numpy(),
            d_common.numpy(),
            d_scale.numpy(),
            d_shift.numpy(),
        )
        return d_projected, d_common, d_scale, d_shift, None


def _rows(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _edges(batch: Batch) -> tuple[np.ndarray, ...]:
    columns = (batch.block, batch.producer, batch.consumer, batch.relation)
    return tuple(column.contiguous().numpy() for column in columns)


@kernel
def _collect(projected, common, scale, shift, block, producer, consumer, relation, out):  # type: ignore[no-untyped-def]
    n, d = out.shape
    backward = len(scale) // 2
    for i in range(n):
        b = block[i]
        for j in range(d):
            out[i, j] = projected[i, j] + common[b, j]
    for e in range(len(producer)):
        p, c, r = producer[e], consumer[e], relation[e]
        s = r + backward
        for j in range(d):
            out[c, j] += projected[p, d + j] * scale[r, j] + shift[r, j]
        for j in range(d):
            out[p, j] += projected[c, 2 * d + j] * scale[s, j] + shift[s, j]


@kernel
def _distribute(  # type: ignore[no-untyped-def]
    gradient,
    projected,
    scale,
    block,
    producer,
    consumer,
    relation,
    d_projected,
    d_common,
    d_scale,
    d_shift,
):
    n, d = gradient.shape
    backward = len(scale) // 2
    for i in range(n):
        b = block[i]
        for j in range(d):
            d_projected[i, j] = gradient[i, j]
            d_common[b, j] += gradient[i, j]
        for j in range(d, 3 * d):
            d_projected[i, j] = 0
    for e in range(len(producer)):
        p, c, r = producer[e], consumer[e], relation[e]
        s = r + backward
        for j in range(d):
            d_projected[p, d + j] += gradient[c, j] * scale[r, j]
            d_scale[r, j] += gradient[c, j] * projected[p, d + j]
            d_shift[r, j] += gradient[c, j]
        for j in range(d):
            d_projected[c, 2 * d + j] += gradient[p, j] * scale[s, j]
            d_scale[s, j] += gradient[p, j] * projected[c, 2 * d + j]
            d_shift[s, j] += gradient[p, j]
