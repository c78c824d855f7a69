"""What a worker process of `ProcessPool` runs: take a problem, then parcels, and answer fitness."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait

import torch

from .parcel import warm_up
from .phenotypes import Networks
from .population import Population
from .problem import Problem

READY, STARTED, FITNESS, RAISED, UNREADABLE = "ready", "started", "fitness", "raised", "unreadable"


def work(pipe: Connection) -> None:
    """Answer until the pipe closes or the parent dies.

    The time limit runs from `STARTED`, when all that is ours is done.

    Messages in: a problem and a phenotype as bytes, then parcels, then perhaps another pair.
    Messages out: a word of the above and what belongs to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    problem: Problem | None = None
    phenotype: Callable[[Population], Networks] | None = None
    warm = False
    try:
        pipe.send((READY, None))
        while True:
            message = pipe.recv()
            if isinstance(message, bytes):
                try:
                    problem, phenotype = pickle.loads(message)
                except Exception:
                    pipe.send((UNREADABLE, traceback.format_exc()))
                    return
                continue
            assert problem is not None
            assert phenotype is not None
            try:
                nets = phenotype(message.population())
                if not warm:
                    warm_up(nets)
                    warm = True
                pipe.send((STARTED, None))
                answer = (FITNESS, message.evaluate(problem, nets))
            except BaseException:  # SystemExit too: what a problem does ends no worker
                answer = (RAISED, traceback.format_exc())
            pipe.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
