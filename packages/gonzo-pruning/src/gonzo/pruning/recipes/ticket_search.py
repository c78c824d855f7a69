"""Lottery runs over several seeds inside a recipe's run: one step of its bar is one training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gonzo.lab import Run

from ..lottery import LotteryRun
from ..trials import Trial

__all__ = ["search_tickets"]


def search_tickets(
    run: Run, seeds: int, lottery: Callable[[int, Path], LotteryRun], *, name: str = "seed"
) -> list[list[Trial]]:
    """Return the trials of a lottery run for each seed.

    Ctrl-C takes effect after the training that runs; started again, finished trainings are read
    from the run's directory.

    Args:
        run: The recipe's.
        seeds: How many.
        lottery: Makes the run of a seed, to be kept in a folder.
        name: Of the folders and the bars, a number is put after it.
    """
    return [_search(run, f"{name}-{seed}", lottery, seed) for seed in range(seeds)]


def _search(
    run: Run, part: str, lottery: Callable[[int, Path], LotteryRun], seed: int
) -> list[Trial]:
    ours = lottery(1000 * run.seed + seed, run.directory / "tickets" / part)
    coming = iter(ours.trials())
    trials: list[Trial] = []
    with run.part(part):
        for step in run.steps(len(ours.planned), name="trainings"):
            while len(trials) <= step:  # those of before an interruption come at once
                trials.append(next(coming))
    return [*trials, *coming]
