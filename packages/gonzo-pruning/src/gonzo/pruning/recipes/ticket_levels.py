"""What lottery runs of several seeds found at every level, means over seeds and paired counts.

A level is the number of rounds after which a ticket was found; level 0 is the dense network.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, Literal

from ..trials import Trial

__all__ = ["Kind", "Levels", "Quantity"]

Kind = Literal["ticket", "reinit", "random-mask", "one-shot", "dense"]
Quantity = Literal["accuracy", "step", "loss"]

_READ: dict[Quantity, Callable[[Trial], float]] = {
    "accuracy": lambda trial: trial.at_early_stop["test_accuracy"],
    "step": lambda trial: float(trial.early_stop_step),
    "loss": lambda trial: trial.at_early_stop["validation_loss"],
}


class Levels:
    """Trials of several seeds, by kind and level.

    Quantities are those at the early stop, the step of the lowest validation loss: ``"accuracy"``
    on the test set in per cent, ``"step"``, and ``"loss"``, the lowest validation loss itself.

    Args:
        seeds: The trials of each seed.
    """

    def __init__(self, seeds: Sequence[Sequence[Trial]]) -> None:
        self.seeds = seeds

    def levels(self, kind: Kind) -> list[int]:
        """Return the levels at which there are trials of a kind."""
        return sorted({trial.round for trial in self.seeds[0] if trial.kind == kind})

    def remaining(self, level: int) -> float:
        """Return the share of weights that are alive at a level, in per cent."""
        # Exact counts: the same for every seed and kind.
        (share,) = {
            100 * trial.density
            for trials in self.seeds
            for trial in trials
            if trial.kind == "ticket" and trial.round == level
        }
        return share

    def trials(self, kind: Kind, level: int) -> list[list[Trial]]:
        """Return, for each seed, the trials of a kind and level."""
        return [
            [trial for trial in trials if trial.kind == kind and trial.round == level]
            for trials in self.seeds
        ]

    def each(self, kind: Kind, level: int, what: Quantity) -> list[float]:
        """Return a quantity for each seed, the mean where there are several draws."""
        return [
            statistics.fmean(_READ[what](trial) for trial in trials)
            for trials in self.trials(kind, level)
        ]

    def mean(self, kind: Kind, level: int, what: Quantity) -> float:
        """Return the mean of a quantity over seeds; NaN where there are no trials."""
        if level not in self.levels(kind):
            return float("nan")
        return statistics.fmean(self.each(kind, level, what))

    def steps_to_loss_of(self, kind: Kind, level: int, ticket: int) -> float:
        """Return after how many steps tickets have a validation loss as low as others' lowest.

        The mean over seeds; a ticket that never gets there counts all of its steps.

        Args:
            kind: Of the others.
            level: Of the others.
            ticket: The level of the tickets.
        """
        steps = []
        for (ours,), lowest in zip(
            self.trials("ticket", ticket), self.each(kind, level, "loss"), strict=True
        ):
            there = [past["step"] for past in ours.history if past["validation_loss"] <= lowest]
            steps.append(there[0] if there else ours.at_end["step"])
        return statistics.fmean(steps)

    def share_won(self, kind: Kind, level: int) -> float:
        """Return the share of seeds whose ticket stops earlier than a control and is more accurate.

        A ticket that stops at the same step counts where its lowest loss is lower.

        Args:
            kind: Of the control.
            level: Of both.
        """
        won = [
            tickets["accuracy"] > controls["accuracy"]
            and (tickets["step"], tickets["loss"]) < (controls["step"], controls["loss"])
            for tickets, controls in zip(
                self._by_seed("ticket", level), self._by_seed(kind, level), strict=True
            )
        ]
        return sum(won) / len(won)

    def _by_seed(self, kind: Kind, level: int) -> list[dict[Quantity, float]]:
        columns = {what: self.each(kind, level, what) for what in _READ}
        return [
            {what: column[i] for what, column in columns.items()} for i in range(len(self.seeds))
        ]

    def table(self) -> list[dict[str, Any]]:
        """Return a row for every kind and level, of JSON values."""
        kinds: tuple[Kind, ...] = ("ticket", "reinit", "random-mask", "one-shot", "dense")
        return [
            {
                "kind": kind,
                "round": number,
                "remaining": self.remaining(number),
                "alive": self.trials("ticket", number)[0][0].alive,
                **{what: self.each(kind, number, what) for what in _READ},
            }
            for kind in kinds
            for number in self.levels(kind)
        ]
