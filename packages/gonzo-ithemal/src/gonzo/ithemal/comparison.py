"""Predictors beside one another on measured blocks: errors, ranks, speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.metrics import CLASSES, Errors, block_class, errors

__all__ = ["Comparison", "Row", "baselines", "compare"]

Predict = Callable[[Sequence[BasicBlock]], ArrayLike]


class Row(NamedTuple):
    """One predictor.

    Attributes:
        name: what it is called.
        all: errors over all blocks.
        without_stack: errors over the blocks that have no push or pop.
        by_class: errors by `metrics.block_class`; the classes that occur.
        blocks_per_second: end to end, from blocks to cycles: with tokenising and batching here, and
            with text, start of the process and parsing where another program predicts.
        cycles: (n,) its predictions, nan where there is none.
    """

    name: str
    all: Errors
    without_stack: Errors
    by_class: dict[str, Errors]
    blocks_per_second: float
    cycles: NDArray[np.float64]


class Comparison(NamedTuple):
    """All predictors on the same blocks.

    Attributes:
        rows: one per predictor, in the order given.
        classes: how many blocks are of each class, the classes that occur.
    """

    rows: list[Row]
    classes: dict[str, int]


def compare(
    blocks: Sequence[BasicBlock], cycles: ArrayLike, predictors: Mapping[str, Predict]
) -> Comparison:
    """Let every predictor predict the blocks, and compare with what was measured.

    Args:
        blocks: n measured blocks.
        cycles: (n,) cycles per repetition, positive.
        predictors: by name, functions from blocks to (n,) cycles, nan where one has no answer. Each
            is judged on the blocks that it answers; `Errors.missing` counts the others.

    Raises:
        ValueError: there is no block, `cycles` has another length or is not positive, or a
            predictor answers with another number of values.
    """
    truth = np.asarray(cycles, dtype=float)
    if not len(blocks):
        raise ValueError("compare: expected at least one measured block, got none")
    if truth.shape != (len(blocks),):
        raise ValueError(f"compare: expected cycles of shape ({len(blocks)},), got {truth.shape}")
    kinds = np.array([block_class(block) for block in blocks])
    present = [name for name in CLASSES if (kinds == name).any()]
    rows = []
    for name, predict in predictors.items():
        start = time.perf_counter()
        predicted = np.asarray(predict(blocks), dtype=float)
        seconds = time.perf_counter() - start
        if predicted.shape != truth.shape:
            raise ValueError(
                f"compare: expected {len(blocks)} values of {name}, got shape {predicted.shape}"
            )
        of = {kind: errors(predicted[kinds == kind], truth[kinds == kind]) for kind in present}
        plain = kinds != "push/pop"
        rows.append(
            Row(
                name=name,
                all=errors(predicted, truth),
                without_stack=errors(predicted[plain], truth[plain]),
                by_class=of,
                blocks_per_second=len(blocks) / max(seconds, 1e-9),
                cycles=predicted,
            )
        )
    return Comparison(rows, {name: int((kinds == name).sum()) for name in present})


def baselines(cycles: ArrayLike) -> dict[str, Predict]:
    """Return two predictors that every other must beat.

    Four instructions a cycle, and the median of the measured cycles for every block. The median is
    that of the very blocks it is judged on, so no other constant has a smaller mean absolute error.

    Args:
        cycles: (n,) the measured cycles.
    """
    middle = float(np.median(np.asarray(cycles, dtype=float)))
    return {
        "instructions / 4": lambda blocks: np.array([len(block) / 4 for block in blocks]),
        "constant (median)": lambda blocks: np.full(len(blocks), middle),
    }
