"""What each instruction of a block contributes, by taking it away.

The contribution of an instruction is c(block) - c(block without it), in cycles. It is what the
Ithemal paper discusses as a way to ask an opaque model for reasons. Contributions need not add up
to the block's cycles: of two equal bottlenecks either may go without effect (both are 0), and where
taking an instruction away makes another wait, the contribution is negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gonzo.ithemal.block import BLOCK_BASE, BasicBlock, displacements

__all__ = ["Explanation", "Predicts", "explain", "without"]


class Predicts(Protocol):
    """What `explain` needs of a predictor: `Predictor` has it."""

    def predict(self, blocks: Sequence[BasicBlock], *, machine: str | None = None) -> Any:
        """Return an object with `cycles`, `low` and `high`, each (n,)."""
        ...


class Explanation(NamedTuple):
    """A prediction, taken apart.

    Attributes:
        block: the block of n instructions.
        cycles: its predicted cycles per repetition.
        low: lower end of their interval.
        high: upper end.
        contributions: (n,) cycles that go when the instruction does.
    """

    block: BasicBlock
    cycles: float
    low: float
    high: float
    contributions: NDArray[np.float64]


def explain(block: BasicBlock, predictor: Predicts, *, machine: str | None = None) -> Explanation:
    """Predict a block, and the block without each of its instructions, in one batch.

    Args:
        block: n instructions. Of a single one the contribution is all of its cycles.
        predictor: has `predict(blocks, machine=…)`, whose result has `cycles`, `low` and `high`.
        machine: whose cycles; by default as `Predictor.predict` chooses.
    """
    alone = len(block) == 1
    variants = [] if alone else [without(block, position) for position in range(len(block))]
    answer = predictor.predict([block, *variants], machine=machine)
    cycles = np.asarray(answer.cycles, dtype=float)
    rest = np.zeros(1) if alone else cycles[1:]
    return Explanation(
        block=block,
        cycles=float(cycles[0]),
        low=float(answer.low[0]),
        high=float(answer.high[0]),
        contributions=cycles[0] - rest,
    )


def without(block: BasicBlock, position: int) -> BasicBlock:
    """Return the block without one instruction; the operands of the others mean what they meant.

    Raises:
        ValueError: there is no such instruction, or no other one.
    """
    count = len(block)
    if not 0 <= position < count:
        raise ValueError(f"expected a position from 0 to {count - 1}, got {position}")
    if count == 1:
        raise ValueError("a block of one instruction is nothing without it")
    gone = block.instructions[position]
    start = gone.ip - BLOCK_BASE
    code = bytearray(block.code)
    for at, target, counted_from in displacements(block.code):
        if at > start:
            # What follows moves down, so the way from there to its data is longer.
            new = target - (counted_from - gone.len)
            code[at : at + 4] = new.to_bytes(4, "little", signed=True)
    return BasicBlock.from_bytes(bytes(code[:start] + code[start + gone.len :]))
