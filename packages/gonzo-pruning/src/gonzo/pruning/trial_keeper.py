"""What is kept of a training while it runs: the rewind point, and a state to go on from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .ranks import gather, is_first, rank, state_from_first
from .run_directory import RunDirectory, model_state
from .training import Training

__all__ = ["RewindPoint", "TrialKeeper"]


class RewindPoint:
    """The network at step k and what belongs to it.

    Attributes:
        state: Parameters and buffers.
        optimizers: States as ``Optimizer.state_dict()`` gives them.
        generator: The state of the data order's generator.
    """

    def __init__(
        self, state: dict[str, Tensor], optimizers: list[dict[str, Any]], generator: Tensor
    ) -> None:
        self.state = state
        self.optimizers = optimizers
        self.generator = generator


class TrialKeeper:
    """The observer of `LotteryRun`'s trainings.

    Args:
        files: Of the run.
        name: Of the trial.
        capture_at: The step whose network is the rewind point; None: it is known already.
        captured: Called with the rewind point, in every process.
        checkpoint_every: Steps from one checkpoint to the next; 0 writes none.
        generator: The state that the data order's generator has at the first step; None leaves it.
    """

    def __init__(
        self,
        files: RunDirectory,
        name: str,
        *,
        capture_at: int | None = None,
        captured: Callable[[RewindPoint], None] | None = None,
        checkpoint_every: int = 0,
        generator: Tensor | None = None,
    ) -> None:
        self._files = files
        self._path = files.unfinished(name)
        self._capture_at = capture_at
        self._captured = captured
        self._every = checkpoint_every
        self._generator = generator
        self._resumed = -1

    def begin(self, training: Training, total: int) -> int:
        """Restore what was interrupted; see `TrainingObserver`."""
        if (self._capture_at or 0) >= total:
            raise ValueError(
                f"rewind_to={self._capture_at} is not before the end of the training, which has "
                f"{total} steps"
            )
        if self._generator is not None:
            training.generator.set_state(self._generator)
        if not self._every:
            return training.first_step
        saved = state_from_first(lambda: self._files.state(self._path))
        if saved is None:
            return training.first_step
        if len(saved["optimizers"]) != len(training.optimizers):
            raise ValueError(
                f"{self._path} has the state of {len(saved['optimizers'])} optimizers and the "
                f"training function handed over {len(training.optimizers)}; delete the file to "
                "train this network again"
            )
        training.model.load_state_dict(saved["model"])
        for optimizer, state in zip(training.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        training.generator.set_state(saved["generators"][rank()])
        torch.set_rng_state(saved["rng"][rank()])
        if saved["cuda"]:
            torch.cuda.set_rng_state(saved["cuda"][rank()])
        training.history[:] = saved["history"]
        self._resumed = saved["step"]
        return self._resumed

    def before(self, step: int, training: Training) -> None:
        """Keep what is due before a step; see `TrainingObserver`."""
        if step == self._capture_at and self._captured is not None:
            point = RewindPoint(
                model_state(training.model),
                [copy.deepcopy(optimizer.state_dict()) for optimizer in training.optimizers],
                training.generator.get_state(),
            )
            self._captured(point)
        if self._every and step % self._every == 0 and step > max(self._resumed, 0):
            self._write(step, training)

    def _write(self, step: int, training: Training) -> None:
        cuda = torch.cuda.is_initialized()
        state = {
            "step": step,
            "model": model_state(training.model),
            "optimizers": [optimizer.state_dict() for optimizer in training.optimizers],
            "generators": gather(training.generator.get_state()),
            "rng": gather(torch.get_rng_state()),
            "cuda": gather(torch.cuda.get_rng_state()) if cuda else [],
            "history": training.history,
        }
        if is_first():
            self._files.write_state(self._path, state)
