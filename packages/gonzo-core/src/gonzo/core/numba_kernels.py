"""Numba kernels and the thread pool that runs them over rows.

Numba's own parallel layer is not used: it aborts the process when two threads enter it at once and
hangs after a fork. A kernel here is a plain loop over rows ``start <= row < stop`` that releases
the GIL, and `run_rows` splits the rows over a small pool that follows ``torch.get_num_threads()``.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import torch

_log = logging.getLogger("gonzo.core")
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()
_inside = threading.local()


def kernel(
    function: Callable[..., Any] | None = None,
    *,
    fastmath: set[str] | bool = False,
    allocates: bool = True,
) -> Any:
    """Compile `function` with Numba on its first call, cached on disk where that can be written.

    Args:
        function: the loop, or None when used as ``@kernel(fastmath=...)``.
        fastmath: LLVM's permissions; an op that gives any says in its README why that is safe.
        allocates: False promises that it makes no array and calls only kernels that make none.
            Numba then counts no references, which around a call take 10 ns an array.
    """
    if function is None:
        return lambda f: kernel(f, fastmath=fastmath, allocates=allocates)
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    if not allocates:
        options["_nrt"] = False
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:
        if "no locator" not in str(error):
            raise
        _warn_once()  # no folder for the cache: slower starts, the same results
        return numba.njit(**options)(function)


@functools.cache
def _warn_once() -> None:
    _log.warning(
        "no folder to cache kernels in, so every process compiles them; NUMBA_CACHE_DIR names one"
    )


def run_rows(rows: int, loop: Callable[..., Any], *arguments: Any) -> None:
    """Call ``loop(start, stop, *arguments)`` so that the pieces cover ``range(rows)`` once.

    One piece a thread. Runs in the calling thread when there is one piece, and when it is itself
    called from a piece (so nesting cannot deadlock).
    """
    pieces = min(torch.get_num_threads(), rows)
    if pieces <= 1 or getattr(_inside, "piece", False):
        if rows:
            loop(0, rows, *arguments)
        return
    edges = [rows * i // pieces for i in range(pieces + 1)]
    others = [
        _get_pool(pieces - 1).submit(_run_piece, loop, edges[i], edges[i + 1], arguments)
        for i in range(1, pieces)
    ]
    try:
        loop(0, edges[1], *arguments)
    finally:
        for other in others:  # wait for all even if one failed: they write into the caller's arrays
            other.exception()
    for other in others:
        other.result()


def _run_piece(loop: Callable[..., Any], start: int, stop: int, arguments: tuple[Any, ...]) -> None:
    _inside.piece = True
    loop(start, stop, *arguments)


def _get_pool(workers: int) -> ThreadPoolExecutor:
    global _pool
    with _pool_lock:
        if _pool is None or _pool._max_workers < workers:
            _pool = ThreadPoolExecutor(workers, thread_name_prefix="gonzo-kernel")
        return _pool


def _forget_pool() -> None:
    """Threads do not survive a fork: the child starts a pool and a lock of its own."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
