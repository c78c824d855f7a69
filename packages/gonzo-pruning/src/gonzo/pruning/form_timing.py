"""Time several ways to compute one thing, in turn: all meet the same moods of the machine."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

import torch

__all__ = ["time_forms"]

_LEAST, _MOST = 7, 200
_OTHERS = 4 << 20  # bytes read between cold calls: beyond what a core's own caches hold
_HOPELESS = 3  # times slower than the fastest, after the least number of rounds: timed no longer


def time_forms(
    calls: Mapping[str, Callable[[], object]],
    *,
    device: torch.device,
    seconds: float,
    cold: bool = False,
    race: bool = True,
) -> dict[str, float]:
    """Return the median seconds of one call of each.

    Calls alternate one by one, so that what one needs has partly left the caches when its turn
    comes again, as in a model whose other layers run in between. The clock is the thread's CPU
    time, which other processes do not disturb; with several threads or on a GPU, the wall clock.

    Args:
        calls: name -> what to time.
        device: where they compute.
        seconds: about how long to measure, beyond the warm-up and at least seven rounds.
        cold: read something else before every call, as the other layers of a model do: a form that
            is fastest on its own weights and code alone may be last to find them again.
        race: leave out, after seven rounds, what is far behind. Not where ratios are reported: what
            is timed at other moments meets another machine.
    """
    on_cpu = device.type == "cpu"
    clock = time.thread_time if on_cpu and torch.get_num_threads() == 1 else time.perf_counter

    others = torch.zeros(_OTHERS if cold else 0, dtype=torch.uint8)

    def once(call: Callable[[], object]) -> float:
        if cold:
            others.max()
        start = clock()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - start

    for call in calls.values():
        once(call)  # compiles, allocates
    times: dict[str, list[float]] = {name: [] for name in calls}
    racing = dict(calls)
    collecting = gc.isenabled()
    gc.disable()
    spent = 0.0
    try:
        for turn in range(_MOST):
            if turn >= _LEAST and spent > seconds:
                break
            for name, call in racing.items():
                times[name].append(once(call))
                spent += times[name][-1]
            if race and turn + 1 == _LEAST:
                best = min(statistics.median(taken) for taken in times.values())
                racing = {
                    name: call
                    for name, call in calls.items()
                    if statistics.median(times[name]) <= _HOPELESS * best
                }
    finally:
        if collecting:
            gc.enable()
    return {name: statistics.median(taken) for name, taken in times.items()}
