"""Which genomes go out together, which go out again, and when to give up on one.

Chunks are handed out as workers come free, since episodes end at very different times. A chunk that
fails is tried again whole. One of several genomes that fails again goes out genome by genome, each
with one failure forgiven, so that the third failure is one genome's own, and names it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .seeds import Episodes

_RETRIES = 2


class EvaluationError(RuntimeError):
    """A genome could not be evaluated.

    Attributes:
        genome_id: of the genome.
        generation: in which it happened.
        run_seed: of the run.
        seed: of the genome's first episode.
        cause: what happened the last time, in words or as the traceback's text.
    """

    def __init__(self, genome_id: int, generation: int, run_seed: int, seed: int, cause: str):
        super().__init__(genome_id, generation, run_seed, seed, cause)
        self.genome_id = genome_id
        self.generation = generation
        self.run_seed = run_seed
        self.seed = seed
        self.cause = cause

    def __str__(self) -> str:
        return (
            f"the genome with id {self.genome_id} in generation {self.generation} (run seed "
            f"{self.run_seed}, seed of its first episode {self.seed}) failed {_RETRIES + 1} times; "
            f"the last time: {self.cause}"
        )


@dataclass(frozen=True)
class Task:
    """Neighbouring genomes, and how often they failed."""

    rows: range
    failures: int = 0


class Schedule:
    """What is still to be evaluated, and what came back.

    Args:
        episodes: of P genomes.
        chunk: most genomes in one task.
    """

    def __init__(self, episodes: Episodes, chunk: int) -> None:
        self._episodes = episodes
        count = len(episodes)
        self._fitness = np.full(count, np.nan)
        self._missing = count
        self._waiting = deque(
            Task(range(start, min(start + chunk, count))) for start in range(0, count, chunk)
        )

    @property
    def finished(self) -> bool:
        """Whether every genome has its fitness."""
        return self._missing == 0

    @property
    def waiting(self) -> bool:
        """Whether a task waits for a worker."""
        return bool(self._waiting)

    def take(self) -> Task:
        """The next task. It ends in `done`, `failed` or `put_back`."""
        return self._waiting.popleft()

    def put_back(self, task: Task) -> None:
        """A task that no worker began."""
        self._waiting.appendleft(task)

    def done(self, task: Task, fitness: NDArray[np.float64]) -> None:
        """What came back of a task."""
        assert fitness.shape == (len(task.rows),)
        self._fitness[task.rows.start : task.rows.stop] = fitness
        self._missing -= len(task.rows)

    def failed(self, task: Task, cause: str) -> None:
        """Put a task back that failed, split, or give up.

        Raises:
            EvaluationError: a single genome failed for the third time.
        """
        failures = task.failures + 1
        if len(task.rows) > 1 and failures == _RETRIES:
            self._waiting.extendleft(
                Task(range(row, row + 1), failures - 1) for row in reversed(task.rows)
            )
        elif failures <= _RETRIES:
            self._waiting.appendleft(Task(task.rows, failures))
        else:
            (row,) = task.rows
            of = self._episodes
            raise EvaluationError(of.ids[row], of.generation, of.run_seed, of.seed(row, 0), cause)

    def fitness(self) -> NDArray[np.float64]:
        """(P,), in order."""
        assert self.finished
        return self._fitness


def chunk_size(genomes: int, workers: int) -> int:
    """Genomes in a task: four tasks for a worker, so that a long one leaves little to wait for."""
    return max(1, -(-genomes // (4 * workers)))
