"""The lowest k of many numbers in linear time: their pivot, found digit by digit, then one mark.

A pass over the numbers counts how many have each value of the leading 16 bits, which says in which
value the k-th lowest lies; a pass a digit more finds all bits of that pivot. Everything below it
goes, and of what equals it the first. Nothing is sorted, gathered or copied; a float32 takes three
passes, and the answer is that of a stable sort.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType

import torch
from torch import Tensor

from . import selection_torch
from .ordered_bits import DIGIT, ORDERS, Order
from .rates import count_to_prune

__all__ = ["keep_highest"]


def keep_highest(
    scores: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    rate: Fraction,
    *,
    magnitude: bool,
    compiled: bool = True,
) -> dict[str, Tensor]:
    """Return what stays alive when the floor(rate · alive) lowest of all scores go.

    Args:
        scores: By name, floating point, any shapes and devices.
        masks: Of the same names and shapes, and perhaps more names.
        rate: The part to prune.
        magnitude: Rank by absolute value.
        compiled: On the CPU, by compiled loops; torch alone gives the same bits.

    Returns:
        By name, bool, on the device of the scores.

    Raises:
        ValueError: A score of an alive weight is NaN.
    """
    dtype = _common(scores.values())
    parts = [
        _Part(
            name,
            score.to(dtype).resolve_neg().reshape(-1).view(ORDERS[dtype].integer),
            masks[name].to(score.device).reshape(-1),
            _backend(score.device, compiled),
        )
        for name, score in scores.items()
    ]
    kept = _keep(parts, ORDERS[dtype], rate, magnitude)
    return {
        name: mask.view(score.shape)
        for (name, score), mask in zip(scores.items(), kept, strict=True)
    }


@dataclass(frozen=True)
class _Part:
    """One parameter: the bits of its scores and its mask, both flat, and who works on them."""

    name: str
    values: Tensor
    alive: Tensor
    backend: ModuleType


def _backend(device: torch.device, compiled: bool) -> ModuleType:
    if device.type != "cpu" or not compiled:
        return selection_torch
    from . import selection_kernels  # only now, since it brings Numba

    return selection_kernels


def _common(scores: Iterable[Tensor]) -> torch.dtype:
    """The narrowest precision that holds all scores exactly and has an order of its own."""
    dtypes = {score.dtype for score in scores}
    if len(dtypes) == 1 and dtypes <= ORDERS.keys():
        return dtypes.pop()
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _keep(parts: list[_Part], order: Order, rate: Fraction, magnitude: bool) -> list[Tensor]:
    shift = order.bits - DIGIT
    counts = torch.zeros(1 << DIGIT, dtype=torch.int64)
    for part in parts:
        if part.backend.count_first(part.values, part.alive, order, magnitude, shift, counts):
            raise ValueError(f"the scores of {part.name} are NaN for alive weights")
    alive = int(counts.sum())
    going = count_to_prune(rate, alive)
    if going == 0:
        return [part.alive.clone() for part in parts]
    if going == alive:
        return [torch.zeros_like(part.alive) for part in parts]
    digit, below = _place(counts, going)
    pivot = digit - (1 << (DIGIT - 1))  # the leading digit is signed, counted from its lowest value
    while shift:
        shift -= DIGIT
        counts.zero_()
        for part in parts:
            part.backend.count_next(part.values, part.alive, order, magnitude, shift, pivot, counts)
        going -= below
        digit, below = _place(counts, going)
        pivot = (pivot << DIGIT) | digit
    ties = going - below  # at least one: the pivot itself
    kept = []
    for part in parts:
        mask, equal = part.backend.mark(part.values, part.alive, order, magnitude, pivot, ties)
        ties = max(0, ties - equal)
        kept.append(mask)
    return kept


def _place(counts: Tensor, rank: int) -> tuple[int, int]:
    """In which value of the digit the ``rank``-th lowest lies, and how many lie below that."""
    upto = counts.cumsum(0)
    digit = int(torch.searchsorted(upto, rank))
    return digit, int(upto[digit] - counts[digit])
