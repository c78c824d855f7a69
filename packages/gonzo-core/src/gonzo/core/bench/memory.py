"""How much memory a call needs at its peak, whoever allocates it."""

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["peak_memory"]


def peak_memory(call: Callable[..., Any], *, setup: Callable[[], tuple[Any, ...]] = tuple) -> int:
    """Return the bytes by which the process grows, at its peak, during ``call(*setup())``.

    The call runs in a fresh process with one thread, twice: the first time compiles and loads
    what it needs, the second is measured as the high-water mark of resident memory, which sees the
    allocations of torch, NumPy, Numba and C alike. What the call returns counts. Buffers that are
    allocated but never touched do not. The figure is good to about 100 kB.

    Args:
        call: A function at the top level of a module, since the other process imports it.
        setup: The same; returns the arguments, which do not count.

    Raises:
        OSError: The system is not Linux.
    """
    if sys.platform != "linux":
        raise OSError("peak_memory reads the high-water mark in /proc, which only Linux has")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(theirs, call, setup))
    with _returning_freed_memory():
        process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise RuntimeError("peak_memory: the call failed in its own process; see above") from None
    finally:
        process.join()
        process.close()
        ours.close()


@contextmanager
def _returning_freed_memory() -> Generator[None]:
    # glibc keeps freed blocks for itself, and would serve the measured call from those of the
    # first. Above this size every block is mapped, and unmapped as soon as it is freed.
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "16384"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _measure(
    connection: Any, call: Callable[..., Any], setup: Callable[[], tuple[Any, ...]]
) -> None:
    import torch

    torch.set_num_threads(1)
    arguments = setup()
    call(*arguments)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = _resident("VmRSS")
    result = call(*arguments)
    peak = _resident("VmHWM")
    del result
    connection.send(max(0, peak - before))


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
