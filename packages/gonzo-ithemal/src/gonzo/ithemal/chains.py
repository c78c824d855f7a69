"""The latency bound: how fast the longest chain of dependent instructions lets a block repeat.

An edge says that its consumer starts at least `latency` cycles after its producer, in the same
repetition or, for a carried edge, in the one before. Starting times are longest paths,

    start[r, i] = max(0, max over edges (p, i) of start[r - carried, p] + latency),

and a repetition costs (end[R] - end[R / 2]) / (R / 2), where end[r] is the largest starting time of
repetition r: for R large enough this is the largest mean latency of a cycle through repetitions.
Latencies are learnt. The gradient of a latency is how often the longest path uses it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel
from gonzo.ithemal.batch import RELATIONS, Batch

__all__ = ["REPETITIONS", "latency_bound"]

REPETITIONS = 16
"""R: enough for the chains of all but contrived blocks to settle."""

_CARRIED = np.array([carried for _, carried in RELATIONS])


def latency_bound(latency: Tensor, batch: Batch) -> Tensor:
    """Return the cycles per repetition that chains of dependences need.

    Args:
        latency: (e, channels) at least 0, of the batch's edges; channels are separate machines.
        batch: the blocks.

    Returns:
        (blocks, channels), the longest block first. Differentiable once.
    """
    return _LatencyBound.apply(latency, batch)


class _LatencyBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latency: Tensor, batch: Batch) -> Tensor:
        bound = np.zeros((len(batch.place), latency.shape[1]), dtype=np.float32)
        uses = np.zeros(tuple(latency.shape), dtype=np.float32)
        _bound(
            np.ascontiguousarray(latency.detach().T.float().numpy()),
            batch.producer.numpy(),
            batch.consumer.numpy(),
            _CARRIED[batch.relation.numpy()],
            batch.block.numpy(),
            REPETITIONS,
            bound,
            uses,
        )
        ctx.save_for_backward(torch.from_numpy(uses), batch.block[batch.consumer])
        return torch.from_numpy(bound).to(latency.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        uses, block = ctx.saved_tensors
        return gradients[0][block] * uses, None


@kernel
def _bound(latency, producer, consumer, carried, block, repetitions, bound, uses):  # type: ignore[no-untyped-def]
    n = len(block)
    begin = np.zeros((repetitions + 1, n), dtype=np.float32)
    via = np.empty((repetitions + 1, n), dtype=np.int64)
    stop = 0
    while stop < len(producer):
        first = stop
        owner = block[consumer[first]]
        while stop < len(producer) and block[consumer[stop]] == owner:
            stop += 1
        for channel in range(len(latency)):
            for r in range(repetitions + 1):
                for e in range(first, stop):
                    begin[r, consumer[e]] = 0
                    via[r, consumer[e]] = -1
                if r == 0:
                    continue
                for e in range(first, stop):
                    p, i = producer[e], consumer[e]
                    start = begin[r - 1 if carried[e] else r, p] + latency[channel, e]
                    if start > begin[r, i]:
                        begin[r, i] = start
                        via[r, i] = e
            half = repetitions // 2
            share = 1 / (repetitions - half)
            for r, sign in ((repetitions, share), (half, -share)):
                last = consumer[first]
                for e in range(first, stop):
                    if begin[r, consumer[e]] > begin[r, last]:
                        last = consumer[e]
                bound[owner, channel] += sign * begin[r, last]
                while r > 0 and begin[r, last] > 0:
                    e = via[r, last]
                    uses[e, channel] += sign
                    last = producer[e]
                    r -= carried[e]
