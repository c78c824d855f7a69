"""Precision at k: how often something right is among the first k, and how sure that number is.

The interval is Wilson's, which stays inside 0 … 1 and is right near both ends:

    (p + z²/2n ± z √(p (1 - p) / n + z²/4n²)) / (1 + z²/n)

Source: Wilson: Probable Inference, the Law of Succession, and Statistical Inference (1927).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Interval", "check_ks", "hit_ranks", "wilson_interval"]


class Interval(NamedTuple):
    """Both ends of a confidence interval of a share."""

    low: float
    high: float


def wilson_interval(hits: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Give Wilson's score interval of the share `hits / trials`.

    Args:
        hits: 0 … trials.
        trials: of 0 the interval is (0, 1): nothing is known.
        confidence: how often the interval holds the true share, above 0 and below 1.

    Raises:
        ValueError: an argument out of range.
    """
    if not 0 <= hits <= trials:
        raise ValueError(f"expected hits in 0 … {trials}, the trials, got {hits}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence above 0 and below 1, got {confidence}")
    if trials == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, extra = hits / trials, z * z / trials
    middle = share + extra / 2
    half = z * math.sqrt(share * (1 - share) / trials + extra / (4 * trials))
    # The ends are exact, and rounding must not put them a last digit inside.
    low = 0.0 if hits == 0 else (middle - half) / (1 + extra)
    high = 1.0 if hits == trials else (middle + half) / (1 + extra)
    return Interval(low, high)


def hit_ranks(queries: Tensor, found: Tensor, gold: Tensor) -> Tensor:
    """Find where the first right answer of each query stands.

    Args:
        queries: (q,) int64, not negative.
        found: (q, k) int64 answers, the best first, not negative.
        gold: (p, 2) int64 pairs of a query and a right answer; a query can have several.

    Returns:
        (q,) int64, 0 for the best answer; k where none of the answers is right.
    """
    stride = 1 + int(max(found.max(), gold[:, 1].max())) if len(queries) else 1
    right = torch.isin(queries[:, None] * stride + found, gold[:, 0] * stride + gold[:, 1])
    end = right.new_ones(len(right), 1)
    return torch.cat([right, end], 1).to(torch.uint8).argmax(1)  # the first of the largest


def check_ks(ks: Iterable[int]) -> tuple[int, ...]:
    """Return `ks` sorted, each once.

    Raises:
        ValueError: none, or one below 1.
    """
    numbers = tuple(sorted(set(ks)))
    if not numbers or numbers[0] < 1:
        raise ValueError(f"expected ks of at least 1, such as (1, 5, 10), got {tuple(ks)}")
    return numbers
