"""The passes of the radix selection in torch alone, for accelerators."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .ordered_bits import DIGIT, Order

__all__ = ["count_first", "count_next", "mark"]

_PIECE = 1 << 24
"""Numbers at a time, so that what a pass stores on the way stays small."""


def count_first(
    values: Tensor, alive: Tensor, order: Order, magnitude: bool, shift: int, counts: Tensor
) -> bool:
    """Add to ``counts`` how many alive numbers have each value of the signed leading digit.

    Returns:
        Whether an alive number is NaN.
    """
    found = torch.zeros(counts.shape, dtype=counts.dtype, device=values.device)
    nan = torch.zeros((), dtype=torch.bool, device=values.device)
    for value, living in _pieces(values, alive):
        chosen = value[living]
        nan |= ((chosen & order.positive) > order.infinity).any()
        digits = (order.keys(chosen, magnitude) >> shift).long() + (1 << (DIGIT - 1))
        found += torch.bincount(digits, minlength=1 << DIGIT)
    counts += found.to(counts.device)
    return bool(nan)


def count_next(
    values: Tensor,
    alive: Tensor,
    order: Order,
    magnitude: bool,
    shift: int,
    above: int,
    counts: Tensor,
) -> None:
    """Add the values of the digit at ``shift`` of alive numbers whose higher bits are ``above``."""
    found = torch.zeros(counts.shape, dtype=counts.dtype, device=values.device)
    for value, living in _pieces(values, alive):
        keys = order.keys(value[living], magnitude)
        digits = (keys[keys >> (shift + DIGIT) == above] >> shift).long() & ((1 << DIGIT) - 1)
        found += torch.bincount(digits, minlength=1 << DIGIT)
    counts += found.to(counts.device)


def mark(
    values: Tensor, alive: Tensor, order: Order, magnitude: bool, pivot: int, ties: int
) -> tuple[Tensor, int]:
    """Return what stays: alive numbers above the pivot, and all but the first ``ties`` equal to it.

    Returns:
        The mask, and how many alive numbers equal the pivot.
    """
    kept = torch.empty_like(alive)
    equal = 0
    pieces = zip(_pieces(values, alive), kept.split(_PIECE), strict=True)
    for (value, living), out in pieces:
        keys = order.keys(value, magnitude)
        tied = living & (keys == pivot)
        torch.logical_and(living, keys > pivot, out=out)
        out |= tied & (tied.cumsum(0) > ties - equal)
        equal += int(tied.sum())
    return kept, equal


def _pieces(values: Tensor, alive: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(values.split(_PIECE), alive.split(_PIECE), strict=True)
