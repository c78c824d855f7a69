"""Evaluating on the cores of this machine, in processes that may die.

Each worker is a spawned process with a pipe of its own, and what a dead one held goes to another:
a pool of the standard library would wait for ever (`multiprocessing.Pool`) or give up
(`ProcessPoolExecutor`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import inf
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from .evaluators import FEED_FORWARD, check_call, check_ids
from .parcel import Parcel, pack, rows_of
from .phenotypes import Networks
from .population import Population
from .problem import Problem
from .schedule import Schedule, Task, chunk_size
from .seeds import Episodes
from .worker import FITNESS, RAISED, READY, STARTED, UNREADABLE, work

_START_SECONDS = 300.0
_FALSE_STARTS = 3
_UNGUARDED = 77
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    deadline: float
    ready: bool = False
    problem: int = 0
    task: Task | None = None


class ProcessPool:
    """Evaluates in worker processes; the numbers are those of `InProcess`, to the last bit.

    A worker that is killed, or that exceeds the time limit, is replaced and its genomes are
    evaluated again. A genome that fails three times is an error that names it. Workers run one
    thread each, ignore Ctrl-C, and end with their parent.

    The problem and what it refers to must be importable: functions at the top of a module. A script
    guards what it runs with ``if __name__ == "__main__":``, since workers import it too.

    Args:
        workers: processes; by default, one for each core this process may use.
        chunk: genomes in one task; by default, so that each worker gets about four tasks. Large
            chunks share the overhead of a batch, small ones even out long episodes.
        episode_seconds: the longest that an episode may take on the average of a task; a task may
            take this times its genomes times the problem's `episodes` (1 where it has none).

    Raises:
        ValueError: numbers below 1, or a time limit not above 0.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        chunk: int | None = None,
        episode_seconds: float | None = None,
    ) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            # A worker that imports an unguarded script gets here; the parent knows this code.
            raise SystemExit(_UNGUARDED)
        if workers is None:
            workers = _cores()
        if workers < 1 or (chunk is not None and chunk < 1):
            raise ValueError(
                f"ProcessPool: expected 1 or more workers and genomes, got {workers} and {chunk}"
            )
        if episode_seconds is not None and not episode_seconds > 0:
            raise ValueError(
                f"ProcessPool: expected episode_seconds above 0, got {episode_seconds}"
            )
        self._workers: list[_Worker | None] = [None] * workers
        self._chunk = chunk
        self._episode_seconds = inf if episode_seconds is None else episode_seconds
        self._problem = b""
        self._version = 0
        self._false_starts = 0
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run."""
        return [w.process.pid for w in self._workers if w is not None and w.process.pid]

    def evaluate(
        self,
        problem: Problem,
        population: Population,
        episodes: Episodes,
        *,
        phenotype: Callable[[Population], Networks] = FEED_FORWARD,
    ) -> Tensor:
        """See `Evaluator.evaluate`.

        Raises:
            EvaluationError: a genome failed three times.
            TypeError: the problem cannot be sent to another process.
            RuntimeError: the pool is closed, or workers cannot start or rebuild the problem.
            ValueError: genomes, problem and episodes that do not fit.
        """
        if self._closed:
            raise RuntimeError("ProcessPool: closed; make another to go on")
        check_ids(population, episodes)
        if len(population):
            check_call(problem, phenotype(population.select(slice(0, 1))))
        self._publish(problem, phenotype)
        limit = self._episode_seconds * getattr(problem, "episodes", 1)
        here = population.to("cpu")
        size = self._chunk or chunk_size(len(population), len(self._workers))
        schedule = Schedule(episodes, size)

        def parcel(task: Task) -> Parcel:
            return pack(rows_of(here, task.rows), episodes.select(task.rows))

        try:
            while not schedule.finished:
                self._start(schedule.waiting)
                for i, worker in enumerate(self._workers):
                    if worker and worker.ready and worker.task is None and schedule.waiting:
                        task = schedule.take()
                        if not self._send(worker, task, parcel(task)):
                            schedule.put_back(task)
                            self._end(i)
                self._wait(schedule, limit)
        except BaseException:
            for i, worker in enumerate(self._workers):
                if worker and worker.task is not None:
                    self._end(i)
            raise
        return torch.from_numpy(schedule.fitness()).to(population.device)

    def close(self) -> None:
        """End the workers."""
        self._closed = True
        for i in range(len(self._workers)):
            self._end(i)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _publish(self, problem: Problem, phenotype: Callable[[Population], Networks]) -> None:
        try:
            pickled = pickle.dumps((problem, phenotype), protocol=pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"ProcessPool: the problem cannot be sent to another process ({error}); define "
                "its functions and classes at the top of a module, without lambdas"
            ) from error
        if pickled != self._problem:
            self._problem = pickled
            self._version += 1

    def _start(self, waiting: bool) -> None:
        context = multiprocessing.get_context("spawn")
        for i, worker in enumerate(self._workers):
            if worker is None and waiting:
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs,), daemon=True)
                with _one_thread_and_no_interrupt():
                    process.start()
                theirs.close()
                self._workers[i] = _Worker(process, ours, time.monotonic() + _START_SECONDS)

    def _send(self, worker: _Worker, task: Task, parcel: Parcel) -> bool:
        try:
            if worker.problem != self._version:
                worker.pipe.send(self._problem)
                worker.problem = self._version
            worker.pipe.send(parcel)
        except (BrokenPipeError, ConnectionResetError):
            return False  # it died idle
        worker.task = task
        worker.deadline = time.monotonic() + _START_SECONDS
        return True

    def _wait(self, schedule: Schedule, limit: float) -> None:
        live = [w for w in self._workers if w is not None]
        deadline = min((w.deadline for w in live), default=inf)
        timeout = None if deadline == inf else max(0.0, deadline - time.monotonic())
        happened = set(wait([w.pipe for w in live] + [w.process.sentinel for w in live], timeout))
        for i, worker in enumerate(self._workers):
            if worker is None:
                continue
            gone = worker.process.sentinel in happened
            if worker.pipe in happened:
                gone = not self._hear(worker, schedule, limit)
            if gone:
                worker.process.join()
                self._lost(i, schedule, _death(worker.process.exitcode))
            elif worker.deadline <= time.monotonic():
                self._lost(i, schedule, f"timed out after {_limit(worker, limit):g} s")

    def _hear(self, worker: _Worker, schedule: Schedule, limit: float) -> bool:
        """Act on a worker's message; False where its end of the pipe is closed."""
        try:
            word, content = worker.pipe.recv()
        except (EOFError, OSError):
            return False
        if word == READY:
            worker.ready, worker.deadline = True, inf
            self._false_starts = 0
        elif word == STARTED:
            worker.deadline = time.monotonic() + _limit(worker, limit)
        elif word == UNREADABLE:
            raise RuntimeError(
                "ProcessPool: a worker could not rebuild the problem; define its functions and "
                f"classes at the top of a module that can be imported. The worker said:\n{content}"
            )
        else:
            task, worker.task, worker.deadline = worker.task, None, inf
            assert task is not None
            assert word in (FITNESS, RAISED)
            if word == FITNESS:
                schedule.done(task, content)
            else:
                schedule.failed(task, f"it raised\n{content}")
        return True

    def _lost(self, i: int, schedule: Schedule, cause: str) -> None:
        worker = self._workers[i]
        assert worker is not None
        self._end(i)
        if not worker.ready:
            self._refuse_false_start(worker, cause)
        elif worker.task is not None:
            schedule.failed(worker.task, cause)

    def _refuse_false_start(self, worker: _Worker, cause: str) -> None:
        if worker.process.exitcode == _UNGUARDED:
            raise RuntimeError(
                "ProcessPool: the script makes a pool when it is imported, and workers import it; "
                'put what it runs under: if __name__ == "__main__":'
            )
        self._false_starts += 1
        if self._false_starts >= _FALSE_STARTS:
            raise RuntimeError(
                f"ProcessPool: {_FALSE_STARTS} workers in a row ended before they were ready, the "
                f"last one {cause}; what they wrote to standard error says why"
            )

    def _end(self, i: int) -> None:
        worker = self._workers[i]
        if worker is not None:
            self._workers[i] = None
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


def _limit(worker: _Worker, limit: float) -> float:
    return limit * len(worker.task.rows) if worker.task else _START_SECONDS


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with exit code {code}"
    try:
        return f"its process was killed by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"its process was killed by signal {-code}"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _one_thread_and_no_interrupt() -> Generator[None]:
    """What a process started inside inherits: libraries on one thread, and no Ctrl-C.

    Both must hold before the worker runs a line of ours, so they are set here for a moment.
    """
    added = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    can_block = hasattr(signal, "pthread_sigmask")
    if can_block:
        resource_tracker.ensure_running()  # starting it would unblock the signal
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        if can_block:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for name in added:
            os.environ.pop(name, None)
