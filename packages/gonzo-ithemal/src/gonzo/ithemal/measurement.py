"""Measure the throughput of basic blocks on this machine: several passes, spread over time.

One pass over a block is a child of the measuring program (`harness.c`). Its noise is one-sided:
what disturbs a run makes it slower. So every block is timed in several passes, minutes apart where
there are many blocks, and the result is the second smallest: the smallest of all can be a fluke.
A pass in which another thread of the core was awake counts only where there are no quieter ones,
and blocks whose passes disagree get more, up to three times as many.

The chain of reasoning from ticks to cycles, and what is left out (the front end of real loops: a
block is unrolled here, not looped), is on the documentation's page on Ithemal.
"""

from __future__ import annotations

import csv
import math
import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

from .admit import refusal
from .block import BasicBlock
from .harness import Harness, Pass, Request

__all__ = ["STEADY", "Measurement", "cpu_model", "measure"]

STEADY = 0.05
"""The three fastest passes of an accepted block lie within this share of each other."""

_MOST_ROUNDS = 3
_CHUNK = 256
_PHYSICAL_PAGES = 8
_JOURNAL = ("hex", *Pass._fields)


class Measurement(NamedTuple):
    """What is known of one block on one machine."""

    hex: str
    """The block."""
    cycles: float
    """Core cycles per repetition; NaN where there is no value."""
    status: str
    """`ok`, or why there is no value."""
    spread: float
    """How far the third fastest pass is above the fastest, as a share of it."""
    pages: int
    """Virtual pages that the block touches."""
    aliased: bool
    """Whether they are more than the physical pages behind them, so that some share one."""
    clock: float
    """Ticks of the counter per core cycle; 1 where the counter counts core cycles."""
    passes: int
    """How often it was timed."""
    quiet: int
    """In how many of these no other thread of the core was awake."""
    cpu: str
    """The processor, as `cpu_model` says."""

    @property
    def accepted(self) -> bool:
        """Whether there is a value that its passes agree on."""
        return self.status == "ok" and self.spread <= STEADY


def measure(
    blocks: Sequence[BasicBlock],
    *,
    passes: int = 5,
    workers: int = 1,
    journal: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Measurement]:
    """Time blocks on this machine.

    Each block is decoded, admitted by a list of instructions that cannot leave a sandbox, and then
    run in one: a hostile block ends itself and nothing else.

    Args:
        blocks: the blocks.
        passes: quiet passes over each block, at least 3.
        workers: measuring programs side by side; more than the cores there are disturb each other.
        journal: a file that keeps each pass as it ends. A run that is started again with the same
            file goes on from there.
        progress: called with the passes done and the passes to do.

    Returns:
        One measurement for each block, in order.

    Raises:
        HarnessError: this machine cannot measure.
        ValueError: an argument is out of range, or the journal is another machine's.
    """
    if passes < 3:
        raise ValueError(f"measure: expected at least 3 passes, got {passes}: noise needs a vote")
    if workers < 1:
        raise ValueError(f"measure: expected at least 1 worker, got {workers}")
    cpu = cpu_model()
    refused = {block.code: reason for block in blocks if (reason := refusal(block.instructions))}
    history: dict[bytes, list[Pass]] = {
        block.code: [] for block in blocks if block.code not in refused
    }
    with _Journal(journal, cpu) as log:
        for code, timing in log.before:
            if code in history:
                history[code].append(timing)
        requests = {code: Request.of(BasicBlock(code)) for code in history}
        for code, timing in _rounds(requests, history, passes, workers, progress):
            log.add(code, timing)
            history[code].append(timing)
    return [
        _refused(block, refused[block.code], cpu)
        if block.code in refused
        else _summary(block, history[block.code], cpu)
        for block in blocks
    ]


def cpu_model() -> str:
    """Return the processor's vendor, family-model-stepping and name.

    The numbers tell processors apart that a hypervisor gives one name.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    found: dict[str, str] = {}
    for line in text.split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        found[name.strip()] = value.strip()
    if "vendor_id" not in found:
        return platform.machine()
    numbers = "-".join(found.get(key, "?") for key in ("cpu family", "model", "stepping"))
    return f"{found['vendor_id']} {numbers} {found.get('model name', '')}".strip()


def _rounds(
    requests: dict[bytes, Request],
    history: dict[bytes, list[Pass]],
    passes: int,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[bytes, Pass]]:
    """Go over all blocks that are not settled, again and again; yield each pass as it ends."""
    done = sum(map(len, history.values()))
    with _Pool(workers) as pool:
        while pending := [code for code in history if not _settled(history[code], passes)]:
            left = sum(max(1, passes - len(history[code])) for code in pending)
            for chunk, timings in pool.map(_chunks(pending), requests):
                yield from zip(chunk, timings, strict=True)
                done += len(chunk)
                left -= len(chunk)
                if progress is not None:
                    progress(done, done + max(left, 0))


def _settled(timings: Sequence[Pass], passes: int) -> bool:
    """Whether there are passes enough: quiet and in agreement, or as many as there may be."""
    if len(timings) >= _MOST_ROUNDS * passes:
        return True
    failures = sum(timing.status != "ok" for timing in timings)
    if failures >= 2:
        return True
    return len(_counted(timings)) >= passes and _spread(_counted(timings)) <= STEADY


def _counted(timings: Iterable[Pass]) -> list[float]:
    """Cycles of the passes that count, ascending: the quiet ones, or all where these are few."""
    good = [timing for timing in timings if timing.status == "ok"]
    quiet = [timing for timing in good if timing.quiet]
    return sorted(timing.cycles for timing in (quiet if len(quiet) >= 3 else good))


def _spread(cycles: Sequence[float]) -> float:
    return cycles[2] / cycles[0] - 1 if len(cycles) > 2 else math.inf


def _summary(block: BasicBlock, timings: Sequence[Pass], cpu: str) -> Measurement:
    good = [timing for timing in timings if timing.status == "ok"]
    if 2 * len(good) <= len(timings):
        failed = [timing for timing in timings if timing.status != "ok"]
        return _none(block, failed[0].status, cpu, pages=failed[0].pages, passes=len(timings))
    counted = _counted(good)
    pages = max(timing.pages for timing in good)
    return Measurement(
        block.hex,
        counted[1] if len(counted) > 1 else counted[0],
        "ok",
        _spread(counted),
        pages,
        pages > _PHYSICAL_PAGES,
        sorted(timing.clock for timing in good)[len(good) // 2],
        len(timings),
        sum(timing.quiet > 0 for timing in good),
        cpu,
    )


def _refused(block: BasicBlock, reason: str, cpu: str) -> Measurement:
    return _none(block, f"refused: {reason}", cpu)


def _none(
    block: BasicBlock, status: str, cpu: str, *, pages: int = 0, passes: int = 0
) -> Measurement:
    nan = math.nan
    aliased = pages > _PHYSICAL_PAGES
    return Measurement(block.hex, nan, status, nan, pages, aliased, nan, passes, 0, cpu)


def _chunks(codes: list[bytes]) -> list[list[bytes]]:
    return [codes[start : start + _CHUNK] for start in range(0, len(codes), _CHUNK)]


class _Pool:
    """Measuring programs, one for each thread."""

    def __init__(self, workers: int) -> None:
        self._own = threading.local()
        self._started: list[Harness] = []
        self._threads = ThreadPoolExecutor(workers)

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_error: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for harness in self._started:
            harness.close()

    def map(
        self, chunks: Sequence[list[bytes]], requests: dict[bytes, Request]
    ) -> Iterator[tuple[list[bytes], list[Pass]]]:
        def run(chunk: list[bytes]) -> list[Pass]:
            return self._harness().run([requests[code] for code in chunk])

        return zip(chunks, self._threads.map(run, chunks), strict=True)

    def _harness(self) -> Harness:
        if not hasattr(self._own, "harness"):
            self._own.harness = Harness()
            self._started.append(self._own.harness)
        return self._own.harness


class _Journal:
    """Every pass, one line each, as it ends; a line that was cut off is dropped."""

    def __init__(self, path: Path | None, cpu: str) -> None:
        self.before: list[tuple[bytes, Pass]] = []
        self._path = path
        self._head = f"# {cpu}\n{','.join(_JOURNAL)}\n"

    def __enter__(self) -> _Journal:
        if self._path is None:
            self._file = None
            return self
        # A line at a time: what has been measured survives a kill.
        self._file = open(self._path, "a", 1, encoding="utf-8", newline="")
        try:
            _lock(self._file, self._path)
            keep = self._read(self._path)
        except BaseException:
            self._file.close()
            raise
        self._file.truncate(len(keep.encode()))
        if not keep:
            self._file.write(self._head)
        self._lines = csv.writer(self._file, lineterminator="\n")
        return self

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def add(self, code: bytes, timing: Pass) -> None:
        if self._file is not None:
            self._lines.writerow((code.hex(), *timing))

    def _read(self, path: Path) -> str:
        """Take up what is there; return the part of the file that is whole."""
        found = path.read_text(encoding="utf-8", errors="replace")
        text = found[: found.rfind("\n") + 1]
        if not (found.startswith(self._head) or self._head.startswith(found)):
            raise ValueError(
                f"{path} was begun on another processor, or is no journal of passes: it begins "
                f"with {found.splitlines()[0][:80]!r}, not with {self._head.splitlines()[0]!r}. "
                "Name another file, or delete this one to measure anew."
            )
        if not text.startswith(self._head):
            return ""  # killed while the head was written
        whole = len(self._head)
        for line in text[whole:].splitlines(keepends=True):
            timing = _parse(line)
            if timing is None:
                raise ValueError(
                    f"{path}: a line that is no pass: {line.strip()!r}. Delete the file to measure "
                    "anew, or what follows from that line to keep what was measured before."
                )
            self.before.append(timing)
        return text


def _lock(file: IO[str], path: Path) -> None:
    import fcntl  # not everywhere, but wherever blocks can be measured

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{path} is in use by another measurement; name another file") from None


def _parse(line: str) -> tuple[bytes, Pass] | None:
    fields = line.rstrip("\n").split(",")
    try:
        code, status, cycles, spread, clock, pages, quiet = fields
        timing = Pass(status, float(cycles), float(spread), float(clock), int(pages), int(quiet))
        return bytes.fromhex(code), timing
    except ValueError:
        return None
