"""Time ours and the peer in turn, so that both meet the same moods of the machine."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["time_in_turn"]

# A sample shorter than this is dominated by the clock.
_SAMPLE = 0.005
_LEAST_SAMPLES, _MOST_SAMPLES = 7, 201


def time_in_turn(
    calls: Sequence[Callable[..., Any]],
    sets: Sequence[tuple[Any, ...]],
    *,
    clock: Callable[[], float] = time.process_time,
    synchronize: Callable[[], None] = lambda: None,
    budget: float = 3.0,
) -> list[float]:
    """Return the median seconds of one call of each of ``calls``.

    With one set of arguments every sample is a run of calls long enough for the clock, hot. With
    several, every sample is a single call, and the calls rotate through the sets out of step, so
    that what one reads was not just left in the cache by another.

    Args:
        calls: Ours and, where there is one, the peer.
        sets: The arguments.
        clock: CPU time by default, which other processes do not disturb. Of several threads it is
            the sum: pass ``time.perf_counter`` there.
        synchronize: Waits for the device, before every reading of the clock.
        budget: Seconds for each call, beyond warm-up and at least seven samples.
    """

    def sample(call: Callable[..., Any], arguments: tuple[Any, ...], count: int) -> float:
        synchronize()
        start = clock()
        for _ in range(count):
            call(*arguments)
        synchronize()
        return (clock() - start) / count

    counts = []
    for call in calls:
        for arguments in sets:
            sample(call, arguments, 1)
        once = max(sample(call, sets[0], 1), 1e-9)
        counts.append(max(1, round(_SAMPLE / once)) if len(sets) == 1 else 1)
    times: list[list[float]] = [[] for _ in calls]
    spent = 0.0
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for turn in range(_MOST_SAMPLES):
            if turn >= _LEAST_SAMPLES and spent > budget * len(calls):
                break
            for index, call in enumerate(calls):
                arguments = sets[(turn + index * len(sets) // len(calls)) % len(sets)]
                times[index].append(sample(call, arguments, counts[index]))
                spent += times[index][-1] * counts[index]
    finally:
        if collecting:
            gc.enable()
    return [statistics.median(samples) for samples in times]
