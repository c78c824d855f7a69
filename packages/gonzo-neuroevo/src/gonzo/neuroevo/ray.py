"""Evaluating on a Ray cluster, or on this machine as a cluster of one.

Each worker is an actor with a core of its own. The chunks, the retries and the words of a failure
are those of `ProcessPool`, and so are the numbers.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gonzo.core import require

from .evaluators import FEED_FORWARD, check_call, check_ids
from .parcel import Parcel, pack, rows_of, warm_up
from .phenotypes import Networks
from .population import Population
from .problem import Problem
from .schedule import Schedule, Task, chunk_size
from .seeds import Episodes

_EXTRA = "gonzo-neuroevo[ray]"
_START_SECONDS = 300.0
_FALSE_STARTS = 3
_UV = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
"""Under `uv run`, Ray would build an environment for its workers, which here takes minutes."""


class _Actor:
    """What runs in a worker of the cluster."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._problem: Problem | None = None
        self._phenotype: Callable[[Population], Networks] | None = None

    def load(self, pickled: bytes, sample: Parcel) -> str | None:
        """Take a problem for the parcels that follow; the traceback's text where it fails."""
        try:
            self._problem, self._phenotype = pickle.loads(pickled)
            warm_up(self._phenotype(sample.population()))
        except Exception:
            return traceback.format_exc()
        return None

    def evaluate(self, parcel: Parcel) -> NDArray[np.float64] | str:
        """The fitness of a parcel's genomes, or the traceback's text."""
        assert self._problem is not None
        assert self._phenotype is not None
        try:
            return parcel.evaluate(self._problem, self._phenotype(parcel.population()))
        except BaseException:  # SystemExit too: what a problem does ends no worker
            return traceback.format_exc()


@dataclass
class _Worker:
    actor: Any
    problem: int = 0
    waits_for: Any = None
    deadline: float = inf
    task: Task | None = None


class RayEvaluator:
    """Evaluates on Ray; the numbers are those of `InProcess`, to the last bit.

    An actor that dies, or that exceeds the time limit, is replaced and its genomes are evaluated
    again. A genome that fails three times is an error that names it.

    Without an address a Ray of its own is started on this machine, without dashboard and usage
    statistics, whatever RAY_ADDRESS says; `close` ends it. Where the program has called `ray.init`
    before, that Ray is used and left running.

    Args:
        address: of a cluster, as `ray.init` takes it: "auto", "host:6379", "ray://host:10001". Its
            machines must have this package and the problem's modules.
        workers: actors, one core each; by default, one for each core of the cluster.
        chunk: genomes in one task; by default, so that each worker gets about four tasks.
        episode_seconds: as in `ProcessPool`.

    Raises:
        MissingExtraError: Ray is not installed.
        ValueError: numbers below 1, a time limit not above 0, or an address although Ray runs.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        *,
        chunk: int | None = None,
        episode_seconds: float | None = None,
    ) -> None:
        if (workers is not None and workers < 1) or (chunk is not None and chunk < 1):
            raise ValueError(
                f"RayEvaluator: expected 1 or more workers and genomes, got {workers} and {chunk}"
            )
        if episode_seconds is not None and not episode_seconds > 0:
            raise ValueError(
                f"RayEvaluator: expected episode_seconds above 0, got {episode_seconds}"
            )
        self._ray: Any = require("ray", extra=_EXTRA)
        self._ours = not self._ray.is_initialized()
        if not self._ours and address is not None:
            raise ValueError(
                f"RayEvaluator: Ray runs in this program already; leave out the address "
                f"{address!r} to use it, or call ray.shutdown() before"
            )
        if self._ours and address is not None:
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        elif self._ours:
            self._start_local(workers)
        count = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self._workers: list[_Worker | None] = [None] * count
        self._chunk = chunk
        self._episode_seconds = inf if episode_seconds is None else episode_seconds
        self._pickled = b""
        self._stored: Any = None
        self._version = 0
        self._false_starts = 0
        self._closed = False

    def _start_local(self, workers: int | None) -> None:
        with _workers_like_this_process():
            self._ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )

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
            RuntimeError: closed, or no worker can start.
            ValueError: genomes, problem and episodes that do not fit.
        """
        if self._closed:
            raise RuntimeError("RayEvaluator: closed; make another to go on")
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
                for i, worker in enumerate(self._workers):
                    if worker is None and schedule.waiting:
                        self._workers[i] = self._start(parcel(Task(range(1))))
                    elif not worker or worker.waits_for is not None or not schedule.waiting:
                        continue
                    elif worker.problem != self._version:
                        self._load(worker, parcel(Task(range(1))))
                    else:
                        task = schedule.take()
                        worker.task = task
                        worker.deadline = time.monotonic() + limit * len(task.rows)
                        worker.waits_for = worker.actor.evaluate.remote(parcel(task))
                self._wait(schedule, limit)
        finally:
            for i, worker in enumerate(self._workers):
                if worker and worker.task is not None:
                    self._end(i)
        return torch.from_numpy(schedule.fitness()).to(population.device)

    def close(self) -> None:
        """End the actors, and Ray where it was started or joined here."""
        if self._closed:
            return
        self._closed = True
        for i in range(len(self._workers)):
            self._end(i)
        self._stored = None
        if self._ours:
            self._ray.shutdown()

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
        """Store the problem once for all actors, if it is not the one that they have."""
        try:
            pickled = require("ray.cloudpickle", extra=_EXTRA).dumps((problem, phenotype))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"RayEvaluator: the problem cannot be sent to another process ({error})"
            ) from error
        if pickled != self._pickled:
            self._pickled = pickled
            self._stored = self._ray.put(pickled)
            self._version += 1

    def _start(self, sample: Parcel) -> _Worker:
        actor = self._ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Actor)
        worker = _Worker(actor.remote())
        self._load(worker, sample)
        return worker

    def _load(self, worker: _Worker, sample: Parcel) -> None:
        worker.problem = self._version
        worker.deadline = time.monotonic() + _START_SECONDS
        worker.waits_for = worker.actor.load.remote(self._stored, sample)

    def _wait(self, schedule: Schedule, limit: float) -> None:
        busy = [w for w in self._workers if w is not None and w.waits_for is not None]
        deadline = min(worker.deadline for worker in busy)
        timeout = None if deadline == inf else max(0.0, deadline - time.monotonic())
        ready, _ = self._ray.wait([w.waits_for for w in busy], num_returns=1, timeout=timeout)
        for i, worker in enumerate(self._workers):
            if worker is None or worker.waits_for is None:
                continue
            if worker.waits_for in ready:
                self._hear(i, worker, schedule)
            elif worker.deadline <= time.monotonic():
                seconds = limit * len(worker.task.rows) if worker.task else _START_SECONDS
                self._lost(i, worker, schedule, f"timed out after {seconds:g} s")

    def _hear(self, i: int, worker: _Worker, schedule: Schedule) -> None:
        cause = None
        try:
            answer = self._ray.get(worker.waits_for)
        except self._ray.exceptions.RayError as error:
            cause = f"its worker was lost: {type(error).__name__}: {error}"
        if cause is not None:
            self._lost(i, worker, schedule, cause)
            return
        task = worker.task
        worker.waits_for, worker.task, worker.deadline = None, None, inf
        if task is None and answer is not None:
            raise RuntimeError(
                "RayEvaluator: a worker could not rebuild the problem; its functions and classes "
                f"must be importable there. The worker said:\n{answer}"
            )
        if task is None:
            self._false_starts = 0
        elif isinstance(answer, str):
            schedule.failed(task, f"it raised\n{answer}")
        else:
            schedule.done(task, answer)

    def _lost(self, i: int, worker: _Worker, schedule: Schedule, cause: str) -> None:
        self._end(i)
        if worker.task is not None:
            schedule.failed(worker.task, cause)
            return
        self._false_starts += 1
        if self._false_starts >= _FALSE_STARTS:
            raise RuntimeError(
                f"RayEvaluator: {_FALSE_STARTS} workers in a row could not start or load the "
                f"problem, the last one because {cause}"
            )

    def _end(self, i: int) -> None:
        worker = self._workers[i]
        if worker is not None:
            self._workers[i] = None
            self._ray.kill(worker.actor, no_restart=True)


@contextlib.contextmanager
def _workers_like_this_process() -> Generator[None]:
    """Start Ray without usage statistics and without a copy of uv's environment.

    Neither has an argument of `ray.init`. What the user has set in the environment stays.
    """
    constants = require("ray._private.ray_constants", extra=_EXTRA)
    copies = getattr(constants, _UV, False)
    quiet = "RAY_USAGE_STATS_ENABLED" not in os.environ
    if quiet:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if _UV not in os.environ:
        setattr(constants, _UV, False)
    try:
        yield
    finally:
        setattr(constants, _UV, copies)
        if quiet:
            del os.environ["RAY_USAGE_STATS_ENABLED"]
