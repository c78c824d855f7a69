"""Sorts rows of two objectives, both minimised, into fronts that do not dominate each other.

A row dominates another if it is no worse in both objectives and better in one. In the order of the
first objective, then the second, everything that dominates a row comes before it, and the second
objective falls along a front. So a row belongs to the first front whose last member has a larger
second objective, and the fronts' last members are sorted: one sort, then one bisection a row.

Sources:
    Jensen: Reducing the run-time complexity of multiobjective EAs (2003): the sweep.
    Deb, Pratap, Agarwal and Meyarivan: NSGA-II (2002): fronts, crowding distance, truncation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel

__all__ = ["crowding_distance", "non_dominated_rank", "select_best"]


def non_dominated_rank(objectives: Tensor) -> Tensor:
    """Number each row's front, 0 for the rows that nothing dominates. O(n log n), exact.

    The sweep runs on the CPU. Objectives on another device are copied there and the ranks back
    (16 n bytes and 8 n bytes, and the device is waited for): less than a device needs to peel the
    fronts one after the other, of which there can be n.

    Args:
        objectives: (n, 2) numbers to be minimised; infinities are allowed.

    Returns:
        (n,) int64 on the device of `objectives`. Equal rows have equal ranks.

    Raises:
        ValueError: another shape, or NaN.
    """
    ranks, _ = _sweep(_columns(objectives, "non_dominated_rank"), "non_dominated_rank")
    return torch.from_numpy(ranks).to(objectives.device)


def crowding_distance(objectives: Tensor, ranks: Tensor) -> Tensor:
    """Measure how alone each row is in its front: the larger, the more it is worth keeping.

    It is the sum over the objectives of the gap between the row's two neighbours in its front,
    divided by the front's range of that objective. The ends of a front are infinitely far. An
    objective whose range in the front is infinite adds nothing.

    Deviation: of equal rows the first has the distance and the others have 0, so that copies go
    before anything else; the paper leaves that to the order of the sort.

    Args:
        objectives: (n, 2) numbers.
        ranks: (n,) from `non_dominated_rank`.

    Returns:
        (n,) float64 on the device of `objectives`.

    Raises:
        ValueError: other shapes, ranks out of range, or NaN.
    """
    columns = _columns(objectives, "crowding_distance")
    if ranks.shape != (len(columns),):
        raise ValueError(
            f"crowding_distance: expected ranks of shape ({len(columns)},), one for each row, got "
            f"{tuple(ranks.shape)}"
        )
    if ranks.dtype != torch.int64 or ((ranks < 0) | (ranks >= len(columns))).any():
        raise ValueError(
            f"crowding_distance: expected int64 ranks in 0 … {len(columns) - 1}, as "
            f"non_dominated_rank gives them, got {ranks.dtype} from {ranks.min()} to {ranks.max()}"
        )
    _, order = _sweep(columns, "crowding_distance")
    distance = _crowding(columns, ranks.cpu().numpy(), order)
    return torch.from_numpy(distance).to(objectives.device)


def select_best(objectives: Tensor, k: int) -> Tensor:
    """Choose the k rows that NSGA-II would let survive: lowest front, then largest distance.

    Args:
        objectives: (n, 2) numbers to be minimised.
        k: how many, 0 … n.

    Returns:
        (k,) int64 rows, the best first, on the device of `objectives`. Of rows with the same front
        and distance the first comes first.

    Raises:
        ValueError: `k` out of range, another shape, or NaN.
    """
    columns = _columns(objectives, "select_best")
    if not 0 <= k <= len(columns):
        raise ValueError(f"select_best: expected k in 0 … {len(columns)}, the rows, got {k}")
    ranks, order = _sweep(columns, "select_best")
    distance = _crowding(columns, ranks, order)
    best = np.lexsort((-distance, ranks))[:k]
    return torch.from_numpy(best).to(objectives.device)


def _columns(objectives: Tensor, caller: str) -> np.ndarray:
    """Objectives as a contiguous (n, 2) array of int64 or float64, which hold them exactly."""
    if objectives.ndim != 2 or objectives.shape[1] != 2:
        raise ValueError(
            f"{caller}: expected objectives of shape (n, 2), got {tuple(objectives.shape)}"
        )
    wide = torch.float64 if objectives.is_floating_point() else torch.int64
    return objectives.detach().to("cpu", wide).contiguous().numpy()


def _sweep(columns: np.ndarray, caller: str) -> tuple[np.ndarray, np.ndarray]:
    """Ranks, and the rows in the order of the first objective, then the second."""
    order = columns[:, 0].argsort()
    ranks = np.empty(len(columns), np.int64)
    if not _bisect_fronts(columns, order, ranks):
        row = int(np.isnan(columns).any(1).argmax())
        raise ValueError(
            f"{caller}: expected numbers, got NaN in row {row}; give a failure the worst value, "
            "infinity, instead"
        )
    return ranks, order


@kernel
def _bisect_fronts(columns, order, ranks):  # type: ignore[no-untyped-def]
    n = len(order)
    for i in range(n):
        if columns[i, 0] != columns[i, 0] or columns[i, 1] != columns[i, 1]:
            return False
    start = 0
    while start < n:  # `order` is by the first objective; put ties in the order of the second
        stop = start + 1
        while stop < n and columns[order[stop], 0] == columns[order[start], 0]:
            stop += 1
        if stop - start > 24:
            ties = order[start:stop].copy()
            order[start:stop] = ties[np.argsort(columns[ties, 1])]
        else:
            for i in range(start + 1, stop):
                row = order[i]
                j = i
                while j > start and columns[order[j - 1], 1] > columns[row, 1]:
                    order[j] = order[j - 1]
                    j -= 1
                order[j] = row
        start = stop
    last = np.empty(n, columns.dtype)  # second objective of each front's last member, ascending
    fronts = 0
    for i in range(n):
        row = order[i]
        if i > 0:
            previous = order[i - 1]
            if columns[row, 0] == columns[previous, 0] and columns[row, 1] == columns[previous, 1]:
                ranks[row] = ranks[previous]
                continue
        low, high = 0, fronts
        while low < high:
            middle = (low + high) // 2
            if last[middle] > columns[row, 1]:
                high = middle
            else:
                low = middle + 1
        last[low] = columns[row, 1]
        ranks[row] = low
        fronts = max(fronts, low + 1)
    return True


def _crowding(columns: np.ndarray, ranks: np.ndarray, order: np.ndarray) -> np.ndarray:
    distance = np.zeros(len(columns))
    _sum_gaps(columns.astype(np.float64), ranks, order, distance)
    return distance


@kernel
def _sum_gaps(columns, ranks, order, distance):  # type: ignore[no-untyped-def]
    n = len(order)
    ends = np.full((2, n), -1)  # first and last row of each front, in the order of the sweep
    beside = np.full((2, n), -1)  # the rows before and after each row in its front
    i = 0
    while i < n:
        row = order[i]
        a, b = columns[row]
        i += 1
        while i < n and columns[order[i], 0] == a and columns[order[i], 1] == b:
            row = min(row, order[i])  # of equal rows the first is in the front, the others nowhere
            i += 1
        front = ranks[row]
        before = ends[1, front]
        if before < 0:
            ends[0, front] = row
        else:
            beside[1, before] = row
            beside[0, row] = before
        ends[1, front] = row
    for row in range(n):
        front = ranks[row]
        if row in (ends[0, front], ends[1, front]):
            distance[row] = np.inf
        elif beside[0, row] >= 0:
            for j in range(2):
                width = abs(columns[ends[1, front], j] - columns[ends[0, front], j])
                if width < np.inf:
                    gap = columns[beside[1, row], j] - columns[beside[0, row], j]
                    distance[row] += abs(gap) / width
