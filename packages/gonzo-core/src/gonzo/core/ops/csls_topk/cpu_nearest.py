"""The largest entries of every row and column of a matrix that is seen one block at a time.

Each line has a buffer of twice what it keeps. What exceeds the line's threshold is appended; when
the buffer is full, the best half is selected and the least of it is the new threshold. Blocks come
in ascending order along every line, so an entry that equals the threshold has a higher index than
all that were kept, and loses.
"""

from __future__ import annotations

import numpy as np

from gonzo.core.numba_kernels import kernel, run_rows

_LANES = 16  # entries compared at once; a buffer has room for so many beyond its end
_ROWS = 4  # rows compared at once with the thresholds of columns
_STEPS = 12  # of a bisection
# A maximum of many becomes one of vectors. Nothing is added, there is no NaN, and no sign of a zero
# is looked at.
_MAXIMA = {"nnan", "nsz"}


class Nearest:
    """The buffers of all lines of one direction.

    Attributes:
        values, indices: of all buffers, one after the other.
        first: (lines,) where the buffer of each line begins.
        keep: (lines,) how many entries are kept of each.
        count: (lines,) how many the buffer holds.
    """

    def __init__(self, keep: np.ndarray, length: int, dtype: np.dtype) -> None:
        """Make empty buffers for lines of `length` entries, of which ``keep`` are wanted."""
        self.keep = np.minimum(keep, length)
        capacity = np.minimum(2 * self.keep, length) + _LANES
        ends = capacity.cumsum()
        self.first = ends - capacity
        self.values = np.empty(ends[-1] if len(ends) else 0, dtype)
        self.indices = np.empty(len(self.values), np.int32)
        self.count = np.zeros(len(keep), np.int64)
        self._threshold = np.full(len(keep), -np.inf, dtype)

    def see_rows(self, block: np.ndarray, row: int, column: int) -> None:
        """Take in a block whose rows are lines, from line `row` on."""
        run_rows(len(block), _see_rows, block, row, column, *self._state)

    def see_columns(self, block: np.ndarray, row: int, column: int) -> None:
        """Take in a block whose columns are lines, from line `column` on."""
        run_rows(block.shape[1], _see_columns, block, row, column, *self._state)

    def finish(self, neighbours: int) -> np.ndarray:
        """Sort what is kept, best first, and return the mean of the first `neighbours` of a line.

        The sum runs in float64 over sorted values, so it does not depend on how they were found.
        """
        means = np.empty(len(self.keep), self.values.dtype)
        run_rows(len(means), _finish, neighbours, means, *self._state)
        return means

    @property
    def _state(self) -> tuple[np.ndarray, ...]:
        return self.values, self.indices, self.first, self.keep, self.count, self._threshold


@kernel(allocates=False, fastmath=_MAXIMA)
def _see_rows(
    start, stop, block, row, column, values, indices, first, keep, count, threshold
):  # fmt: skip
    whole = block.shape[1] // _LANES * _LANES
    for r in range(start, stop):
        line = row + r
        base, kept, filled, least = first[line], keep[line], count[line], threshold[line]
        for j in range(0, whole, _LANES):
            most = block[r, j]
            for lane in range(1, _LANES):
                most = max(most, block[r, j + lane])
            if most > least:
                at = base + filled
                for lane in range(_LANES):  # all are written; the end moves past those that stay
                    values[at] = block[r, j + lane]
                    indices[at] = column + j + lane
                    at += block[r, j + lane] > least
                filled = at - base
                if filled >= 2 * kept:
                    filled, least = _shrink(values, indices, base, filled, kept, least)
        for j in range(whole, block.shape[1]):
            if block[r, j] > least:
                values[base + filled], indices[base + filled] = block[r, j], column + j
                filled += 1
                if filled >= 2 * kept:
                    filled, least = _shrink(values, indices, base, filled, kept, least)
        count[line], threshold[line] = filled, least


@kernel(allocates=False, fastmath=_MAXIMA)
def _see_columns(
    start, stop, block, row, column, values, indices, first, keep, count, threshold
):  # fmt: skip
    rows = block.shape[0]
    for r in range(0, rows, _ROWS):
        whole = start
        if r + _ROWS <= rows:
            whole = start + (stop - start) // _LANES * _LANES
        for j in range(start, whole, _LANES):
            most = block[r, j] - threshold[column + j]
            for lane in range(_LANES):
                value = block[r, j + lane]
                for i in range(1, _ROWS):
                    value = max(value, block[r + i, j + lane])
                most = max(most, value - threshold[column + j + lane])
            if most > 0:
                for i in range(_ROWS):
                    _append_row(j, j + _LANES, r + i, block, row, column, values, indices, first,
                                keep, count, threshold)  # fmt: skip
        for i in range(r, min(r + _ROWS, rows)):
            _append_row(whole, stop, i, block, row, column, values, indices, first, keep, count,
                        threshold)  # fmt: skip


@kernel(allocates=False)
def _append_row(
    start, stop, r, block, row, column, values, indices, first, keep, count, threshold
):  # fmt: skip
    """Append to lines `column` + start … what row r of a block has for them."""
    for j in range(start, stop):
        line = column + j
        if block[r, j] > threshold[line]:
            base, kept, filled = first[line], keep[line], count[line]
            values[base + filled], indices[base + filled] = block[r, j], row + r
            filled += 1
            if filled >= 2 * kept:
                filled, threshold[line] = _shrink(
                    values, indices, base, filled, kept, threshold[line]
                )
            count[line] = filled


@kernel(allocates=False, fastmath=_MAXIMA)
def _shrink(values, indices, base, size, kept, least):
    """Drop entries that cannot be among the `kept` best; return how many stay and what all exceed.

    A few steps of bisection find a value that at least `kept` entries exceed, and not many more:
    comparing and counting a whole buffer is quicker than moving its entries about. Where equal
    entries leave no such value, the exact selection decides.
    """
    high = values[base]
    low, half = high, values.dtype.type(0.5)
    for i in range(base, base + size):
        high = max(high, values[i])
        low = min(low, values[i])
    low = max(low, least)
    for _ in range(_STEPS):
        middle = (low + high) * half
        above = np.int32(0)
        for i in range(base, base + size):
            above += np.int32(values[i] > middle)
        if above < kept:
            high = middle
        elif above > kept + kept // 4:
            low = middle
        else:
            at = base
            for i in range(base, base + size):
                value, index = values[i], indices[i]
                values[at], indices[at] = value, index
                at += value > middle
            return at - base, middle
    return kept, select(values, indices, base, size, kept)


@kernel(allocates=False)
def _finish(start, stop, neighbours, means, values, indices, first, keep, count, threshold):
    for line in range(start, stop):
        base = first[line]
        if count[line] > keep[line]:
            select(values, indices, base, count[line], keep[line])
            count[line] = keep[line]
        sort(values, indices, base, count[line])
        some = min(neighbours, count[line])
        total = 0.0
        for i in range(base, base + some):
            total += values[i]
        means[line] = total / some


@kernel(allocates=False)
def select(values, indices, base, size, kept):
    """Move the `kept` best of `size` entries to the front, by quickselect; return the least."""
    left, right, wanted = base, base + size - 1, base + kept - 1
    while left < right:
        middle = (left + right) // 2
        value, index = values[middle], indices[middle]
        i, j = left, right
        while i <= j:
            while values[i] > value or (values[i] == value and indices[i] < index):
                i += 1
            while values[j] < value or (values[j] == value and indices[j] > index):
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                indices[i], indices[j] = indices[j], indices[i]
                i += 1
                j -= 1
        if j < wanted:
            left = i
        if wanted < i:
            right = j
    return values[wanted]


@kernel(allocates=False)
def sort(values, indices, base, size):
    """Sort entries in place by heapsort, largest first; of equals the lower index first."""
    for top in range(size // 2 - 1, -1, -1):
        _sink(values, indices, base, top, size)
    for end in range(size - 1, 0, -1):
        values[base], values[base + end] = values[base + end], values[base]
        indices[base], indices[base + end] = indices[base + end], indices[base]
        _sink(values, indices, base, 0, end)


@kernel(allocates=False)
def _sink(values, indices, base, at, size):
    """Restore the heap, whose top is the worst of its entries, below `at`."""
    value, index = values[base + at], indices[base + at]
    while 2 * at + 1 < size:
        child = base + 2 * at + 1
        if child + 1 < base + size and (
            values[child + 1] < values[child]
            or (values[child + 1] == values[child] and indices[child + 1] > indices[child])
        ):
            child += 1
        if values[child] > value or (values[child] == value and indices[child] < index):
            break
        values[base + at], indices[base + at] = values[child], indices[child]
        at = child - base
    values[base + at], indices[base + at] = value, index
