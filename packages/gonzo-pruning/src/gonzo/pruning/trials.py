"""One finished training of a lottery run: what was pruned, what was recorded, where it was best."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

__all__ = ["Trial", "early_stop", "trial_name"]

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True)
class Trial:
    """A network that was trained, a ticket or a control.

    Attributes:
        kind: "ticket" (of round 0: the dense network), "reinit", "random-mask", "one-shot" or
            "dense" (a smaller one).
        round: How often was pruned.
        replicate: Counts the trials of one kind and round.
        alive: Weights that are alive, of those that may be pruned. Of "dense" the ticket's.
        total: Weights that may be pruned. Of "dense" the ticket's.
        parameters: Trainable numbers that are not pruned, biases and their like included.
        history: What was recorded: metrics, and with them "step", the number of steps done.
        early_stop_step: The first step at which the metric was best; NaN is passed over.
        at_early_stop: What was recorded there.
        at_end: What was recorded last.
    """

    kind: str
    round: int
    replicate: int
    alive: int
    total: int
    parameters: int
    history: tuple[dict[str, float], ...]
    early_stop_step: int
    at_early_stop: dict[str, float]
    at_end: dict[str, float]

    @property
    def density(self) -> float:
        """The part of the prunable weights that is alive."""
        return self.alive / self.total

    @property
    def name(self) -> str:
        """What its file is called."""
        return trial_name(self.kind, self.round, self.replicate)

    def __str__(self) -> str:
        found = [f"{n} {value:.4g}" for n, value in self.at_early_stop.items() if n != "step"]
        alive = f"{100 * self.density:.1f} % alive"
        return ", ".join([f"{self.name}: {alive}", f"stopped at {self.early_stop_step}", *found])

    def to_json(self) -> str:
        """Return the trial as JSON, the same text for the same trial."""
        return json.dumps(_written(asdict(self)), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the trial that `to_json` wrote.

        Raises:
            ValueError: The text is not one.
        """
        try:
            fields: dict[str, Any] = _read(json.loads(text))
            fields["history"] = tuple(fields["history"])
            return cls(**fields)
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a trial: {error}") from None


def trial_name(kind: str, number: int, replicate: int) -> str:
    """Return the name of a trial's file, without its ending: reinit-03-1."""
    return f"{kind}-{number:02}" if kind == "ticket" else f"{kind}-{number:02}-{replicate}"


def early_stop(
    history: Sequence[dict[str, float]], metric: str, *, higher_is_better: bool = False
) -> dict[str, float]:
    """Return the entry at the first minimum of ``metric``: where training should have stopped.

    NaN is passed over.

    Args:
        history: Of `Training`.
        metric: Recorded, lower is better.
        higher_is_better: The first maximum instead.

    Raises:
        ValueError: It was never recorded, or is NaN wherever it was.
    """
    entries = [entry for entry in history if metric in entry]
    if not entries:
        known = sorted({name for entry in history for name in entry} - {"step"})
        raise ValueError(
            f"the training function never recorded {metric!r} "
            f"({'only ' + ', '.join(known) if known else 'it recorded nothing'}); write "
            f"training.record({metric}=…), or name another metric in LotteryRun(metric=…)"
        )
    numbers = [entry for entry in entries if not math.isnan(entry[metric])]
    if not numbers:
        raise ValueError(
            f"{metric} is NaN wherever it was recorded: the training diverged; train with a lower "
            "learning rate, or leave out a control that diverges by Controls(rounds=…)"
        )
    best = max if higher_is_better else min
    return best(numbers, key=lambda entry: entry[metric])


def _written(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as words."""
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item if key == "kind" else _read(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_read(item) for item in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
