"""How far predicted cycles are from measured ones, and which kind of block each one is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from iced_x86 import Instruction, InstructionInfoFactory, OpAccess, Register, RegisterExt
from numpy.typing import ArrayLike, NDArray

from gonzo.ithemal.block import BasicBlock

__all__ = ["CLASSES", "Errors", "block_class", "coverage", "errors", "kendall_tau"]

CLASSES = ("push/pop", "load+store", "store only", "load only", "vector", "scalar")
"""What `block_class` says; the last two touch no memory."""

_READS = {OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE}
_WRITES = {OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE}


class Errors(NamedTuple):
    """Errors of predictions; every one but the counts is a fraction, 0.05 for 5 %.

    Attributes:
        count: blocks that have a prediction, and so count in the numbers below.
        missing: blocks without one (nan).
        mape: mean of |predicted - measured| / measured.
        median: median of the same.
        within_10: part of the blocks whose relative error is at most 0.10.
        within_25: the same for 0.25, which the Ithemal paper calls correct.
        tau: Kendall's rank correlation, tau-b; nan when either side is constant.
    """

    count: int
    missing: int
    mape: float
    median: float
    within_10: float
    within_25: float
    tau: float


def errors(predicted: ArrayLike, measured: ArrayLike) -> Errors:
    """Compare predictions with measurements.

    Args:
        predicted: (n,) cycles; nan where there is no prediction.
        measured: (n,) cycles, positive and finite.

    Raises:
        ValueError: the shapes differ, or a measurement is not a positive number.
    """
    guesses, truth = _pair(predicted, measured)
    there = np.isfinite(guesses)
    guesses, truth = guesses[there], truth[there]
    missing = int(there.size - there.sum())
    if not guesses.size:
        return Errors(0, missing, *[float("nan")] * 5)
    relative = np.abs(guesses - truth) / truth
    return Errors(
        count=int(guesses.size),
        missing=missing,
        mape=float(relative.mean()),
        median=float(np.median(relative)),
        within_10=float((relative <= 0.10).mean()),
        within_25=float((relative <= 0.25).mean()),
        tau=kendall_tau(guesses, truth),
    )


def coverage(low: ArrayLike, high: ArrayLike, measured: ArrayLike) -> float:
    """Return the part of the measurements (n,) that lie in [low, high], borders included.

    Raises:
        ValueError: as `errors`, or there is nothing to count.
    """
    below, truth = _pair(low, measured)
    above, _ = _pair(high, measured)
    if not truth.size:
        raise ValueError("coverage: expected at least one measurement, got none")
    return float(((below <= truth) & (truth <= above)).mean())


def kendall_tau(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b of two sequences (n,) in O(n log n); nan when either is constant.

    tau-b = (concordant - discordant) / sqrt((pairs - ties in x)(pairs - ties in y)).

    Raises:
        ValueError: the shapes differ.
    """
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"kendall_tau: expected two sequences of one length, got {first.shape} "
            f"and {second.shape}"
        )
    a = np.unique(first, return_inverse=True)[1]
    b = np.unique(second, return_inverse=True)[1]
    # Sorted by x, and by y among equal x, a pair is discordant exactly when its y is out of order.
    order = np.lexsort((b, a))
    a, b = a[order], b[order]
    pairs = a.size * (a.size - 1) // 2
    tied_x, tied_y = _tied(a), _tied(b)
    tied_both = _tied(a * (int(b.max(initial=0)) + 1) + b)
    spread = float(pairs - tied_x) * float(pairs - tied_y)
    if spread == 0.0:
        return float("nan")
    agreement = pairs - tied_x - tied_y + tied_both - 2 * _inversions(b)
    return float(np.clip(agreement / np.sqrt(spread), -1.0, 1.0))


def _tied(labels: NDArray[np.int64]) -> int:
    counts = np.unique(labels, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _inversions(values: NDArray[np.int64]) -> int:
    """Count i < j with values[i] > values[j], for values from 0, one bit at a time.

    A pair is decided by the highest bit in which it differs. So, with the values kept in order of
    their higher bits and otherwise in the order given, each bit adds its ones before zeros.
    """
    total = 0
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        group = values >> (bit + 1)
        borders = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
        mine = np.repeat(np.arange(borders.size - 1), np.diff(borders))
        starts, ends = borders[mine], borders[mine + 1]
        one = (values >> bit) & 1
        ones = np.concatenate(([0], np.cumsum(one)))
        ones_before = ones[:-1] - ones[starts]
        total += int(ones_before[one == 0].sum())
        zeros = (ends - starts) - (ones[ends] - ones[starts])
        zeros_before = np.arange(values.size) - starts - ones_before
        place = starts + np.where(one == 1, zeros + ones_before, zeros_before)
        moved = np.empty_like(values)
        moved[place] = values
        values = moved
    return total


def block_class(block: BasicBlock) -> str:
    """Say which of `CLASSES` a block is of, by what it does to memory.

    A block with any push or pop is "push/pop", whatever else it does: tools without a model of the
    processor's stack engine are wrong about all of these in the same way.
    """
    reads = writes = vector = False
    for instruction in block.instructions:
        stack, read, write, wide = _kind(instruction)
        if stack:
            return "push/pop"
        reads, writes, vector = reads or read, writes or write, vector or wide
    if reads or writes:
        return "load+store" if reads and writes else "load only" if reads else "store only"
    return "vector" if vector else "scalar"


_FACTORY = InstructionInfoFactory()
_KINDS: dict[tuple[int, bool], tuple[bool, bool, bool, bool]] = {}


def _kind(instruction: Instruction) -> tuple[bool, bool, bool, bool]:
    memory = instruction.memory_base != Register.NONE or instruction.memory_displ_size > 0
    key = (instruction.code, memory or instruction.memory_index != Register.NONE)
    found = _KINDS.get(key)
    if found is None:
        info = _FACTORY.info(instruction)
        accesses = {used.access for used in info.used_memory()}
        vector = any(RegisterExt.is_vector_register(r.register) for r in info.used_registers())
        stack = instruction.is_stack_instruction
        found = stack, bool(accesses & _READS), bool(accesses & _WRITES), vector
        _KINDS[key] = found
    return found


def _pair(
    predicted: ArrayLike, measured: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    guesses, truth = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    if guesses.ndim != 1 or guesses.shape != truth.shape:
        raise ValueError(
            f"expected as many predictions as measurements, got {guesses.shape} and {truth.shape}"
        )
    if truth.size and not (np.isfinite(truth) & (truth > 0)).all():
        raise ValueError(
            "expected measured cycles to be positive numbers; leave out the blocks that could "
            "not be measured"
        )
    return guesses, truth
