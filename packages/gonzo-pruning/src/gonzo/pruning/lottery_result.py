"""What a lottery run found: its trials as a table, the masks and the tickets of its rounds."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .masks import Masks
from .run_directory import RunDirectory, starting_file
from .tickets import Ticket
from .trials import Trial

__all__ = ["LotteryResult"]

_KINDS = ("ticket", "reinit", "random-mask", "one-shot", "dense")


class LotteryResult:
    """The finished trials of a run and the folder they lie in; printed, a table.

    Attributes:
        trials: In the order in which they were trained.
    """

    def __init__(self, files: RunDirectory, trials: Sequence[Trial]) -> None:
        self.trials = tuple(trials)
        self._files = files

    @classmethod
    def read(cls, directory: str | Path) -> LotteryResult:
        """Return what is finished in the folder of a run, complete or not.

        Args:
            directory: Of a `LotteryRun`.

        Raises:
            ValueError: There is no run in it.
        """
        files = RunDirectory(directory)
        if files.config() is None:
            raise ValueError(f"{directory} is not the folder of a LotteryRun: no config.json")
        names = sorted(path.stem for path in (files.path / "trials").glob("*.json"))
        trials = [trial for name in names if (trial := files.trial(name)) is not None]
        trials.sort(key=lambda trial: (trial.round, _KINDS.index(trial.kind), trial.replicate))
        return cls(files, trials)

    def of(self, kind: str, number: int) -> tuple[Trial, ...]:
        """Return the trials of a kind in a round.

        Args:
            kind: See `Trial`.
            number: From 0.
        """
        return tuple(t for t in self.trials if t.kind == kind and t.round == number)

    def table(self) -> str:
        """Return a table for people: kinds and rounds, with means over replicates.

        Of a dense control, whose weights are not the ticket's, its parameters are told.
        """
        names = dict.fromkeys(name for trial in self.trials for name in trial.at_early_stop)
        metrics = [name for name in names if name != "step"]
        rows = [["round", "alive", "network", "stopped at", *metrics]]
        for number in sorted({trial.round for trial in self.trials}):
            for kind in _KINDS:
                trials = self.of(kind, number)
                if trials:
                    rows.append(_row(trials, metrics))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column == 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"LotteryResult({str(self._files.path)!r}, {len(self.trials)} trials)"

    def masks(self, number: int) -> Masks:
        """Return the masks of a round, everything alive in round 0.

        Args:
            number: At most one beyond the last that was trained.

        Raises:
            ValueError: The run has not come so far.
        """
        if number == 0:
            shapes = {n: p["shape"] for n, p in self._config()["parameters"].items()}
            return Masks({n: torch.ones(shape, dtype=torch.bool) for n, shape in shapes.items()})
        return self._files.masks(number)

    def ticket(self, number: int) -> Ticket:
        """Return the ticket of a round: the network to train, not the trained one.

        Args:
            number: Of a finished ticket.

        Raises:
            ValueError: The run has not come so far.
        """
        trial = self._trained_ticket(number)
        config = self._config()
        state = self._files.tensors(
            starting_file(number, config["rewind_to"], config["after_pruning"])
        )
        for alias, name in config.get("tied", {}).items():
            state[alias] = state[name]  # one tensor under both names, so that both are masked
        return Ticket(state, self.masks(number), self._provenance(trial, config))

    def trained(self, number: int) -> dict[str, Tensor]:
        """Return the parameters and buffers of a trained ticket.

        Args:
            number: Of a finished ticket.

        Raises:
            ValueError: The run did not keep it (``keep_trained=True``), or has not come so far.
        """
        self._trained_ticket(number)
        return self._files.tensors(f"trained/{number:02}")

    def _trained_ticket(self, number: int) -> Trial:
        trials = self.of("ticket", number)
        if not trials:
            known = [trial.round for trial in self.trials if trial.kind == "ticket"]
            raise ValueError(f"there is no ticket of round {number}; there are those of {known}")
        return trials[0]

    def _config(self) -> dict[str, Any]:
        config = self._files.config()
        assert config is not None, "a result is made of a run's folder"
        return config

    def _provenance(self, trial: Trial, config: dict[str, Any]) -> dict[str, Any]:
        same = ("made_by", "seed", "scope", "criterion", "rewind_to", "after_pruning", "metric")
        parents = [
            {
                "round": number,
                "alive": parent.alive,
                "early_stop_step": parent.early_stop_step,
                "masks": _digest(self.masks(number)),
            }
            for number in range(trial.round)
            for parent in self.of("ticket", number)
        ]
        return {
            "round": trial.round,
            "step": 0 if trial.round == 0 else config["rewind_to"],
            **{name: config[name] for name in same},
            **{name: config[name] for name in ("higher_is_better",) if name in config},
            "rates": {name: p["rate"] for name, p in config["parameters"].items()},
            "early_stop_step": trial.early_stop_step,
            "at_early_stop": trial.at_early_stop,
            "at_end": trial.at_end,
            "parents": parents,
        }


def _digest(masks: Masks) -> str:
    """What tells masks apart: SHA-256 over their names and bits."""
    digest = hashlib.sha256()
    for name, bits in masks.pack().items():
        digest.update(name.encode() + b"\0" + bits.numpy().tobytes())
    return digest.hexdigest()


def _row(trials: Sequence[Trial], metrics: Sequence[str]) -> list[str]:
    first = trials[0]
    times = f" × {len(trials)}" if len(trials) > 1 else ""
    cells = []
    for metric in metrics:
        values = [t.at_early_stop[metric] for t in trials if metric in t.at_early_stop]
        cells.append(f"{statistics.fmean(values):.4g}" if values else "")
    steps = statistics.fmean(trial.early_stop_step for trial in trials)
    size = f" of {first.parameters:,} parameters" if first.kind == "dense" else ""
    return [
        str(first.round),
        f"{100 * first.density:.1f} %",
        first.kind + size + times,
        f"{steps:.0f}",
        *cells,
    ]
