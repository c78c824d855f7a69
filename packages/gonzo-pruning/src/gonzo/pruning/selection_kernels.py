"""The passes of the radix selection as compiled loops, for the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel

from .ordered_bits import DIGIT, Order

__all__ = ["count_first", "count_next", "mark"]


def count_first(
    values: Tensor, alive: Tensor, order: Order, magnitude: bool, shift: int, counts: Tensor
) -> bool:
    """As `selection_torch.count_first`."""
    arguments = _arguments(values, alive, order, magnitude)
    infinity = arguments[0].dtype.type(order.infinity)
    return bool(_count_first(*arguments, infinity, shift, counts.numpy()))


def count_next(
    values: Tensor,
    alive: Tensor,
    order: Order,
    magnitude: bool,
    shift: int,
    above: int,
    counts: Tensor,
) -> None:
    """As `selection_torch.count_next`."""
    _count_next(*_arguments(values, alive, order, magnitude), shift, above, counts.numpy())


def mark(
    values: Tensor, alive: Tensor, order: Order, magnitude: bool, pivot: int, ties: int
) -> tuple[Tensor, int]:
    """As `selection_torch.mark`."""
    kept = torch.empty_like(alive)
    arguments = _arguments(values, alive, order, magnitude)
    limit = arguments[0].dtype.type(pivot)
    out = kept.view(torch.uint8).numpy()
    equal = int(_mark(*arguments, limit, out))
    if ties and equal:
        _unmark(*arguments, limit, min(ties, equal), out)
    return kept, equal


def _arguments(values: Tensor, alive: Tensor, order: Order, magnitude: bool) -> tuple[Any, ...]:
    numbers = values.numpy()
    # Constants of the numbers' own width keep the loops in it.
    positive = numbers.dtype.type(order.positive)
    # What sign the keys take over: all of it, or none.
    sign = numbers.dtype.type(0 if magnitude else -1)
    return numbers, alive.view(torch.uint8).numpy(), positive, sign, order.bits - 1


@kernel(allocates=False)
def _count_first(values, alive, positive, sign, top, infinity, shift, counts):
    nan = 0
    for i in range(values.size):
        size = values[i] & positive
        negative = (values[i] >> top) & sign
        key = (size ^ negative) - negative
        living = alive[i]
        nan |= living & (size > infinity)
        counts[(key >> shift) + (1 << (DIGIT - 1))] += living
    return nan


@kernel(allocates=False)
def _count_next(values, alive, positive, sign, top, shift, above, counts):
    for i in range(values.size):
        size = values[i] & positive
        negative = (values[i] >> top) & sign
        key = (size ^ negative) - negative
        if (key >> (shift + DIGIT)) == above and alive[i]:
            counts[(key >> shift) & ((1 << DIGIT) - 1)] += 1


@kernel(allocates=False)
def _mark(values, alive, positive, sign, top, pivot, kept):
    """Keep what is above the pivot and what equals it; return how many equal it."""
    equal = 0
    for i in range(values.size):
        size = values[i] & positive
        negative = (values[i] >> top) & sign
        key = (size ^ negative) - negative
        kept[i] = alive[i] & (key >= pivot)
        equal += alive[i] & (key == pivot)
    return equal


@kernel(allocates=False)
def _unmark(values, alive, positive, sign, top, pivot, ties, kept):
    """Take the first ``ties`` that equal the pivot out again, and look no further."""
    for i in range(values.size):
        size = values[i] & positive
        negative = (values[i] >> top) & sign
        key = (size ^ negative) - negative
        if key == pivot and alive[i]:
            kept[i] = 0
            ties -= 1
            if ties == 0:
                return
