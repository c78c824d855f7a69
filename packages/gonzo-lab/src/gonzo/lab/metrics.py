"""Metrics of one loop as JSON lines, buffered so that logging never waits for a device."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gonzo.lab.errors import LabError
from gonzo.lab.tensorboard import ScalarWriter

Curves = dict[str, list[tuple[int, float]]]
"""Metric name -> (step, value) pairs in the order logged."""

_FLUSH_SECONDS = 0.5


class MetricLog:
    """The metrics file of one loop.

    Args:
        path: the `.jsonl` file; one object a line, `{"step": 3, "loss": 0.25}`. A value that
            is not finite is written as null, since JSON has no word for it.
        keep_bytes: how much of an existing file belongs to the state being continued. What
            follows was logged after the last checkpoint and will be logged again: it is cut.
        way_out: ends the error message when the file is damaged.

    Raises:
        LabError: the part to keep is missing or is not JSON lines.
    """

    def __init__(self, path: Path, *, keep_bytes: int, way_out: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if keep_bytes:
            read_metrics(path, size=keep_bytes, way_out=way_out)
        self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115  closed by close
        self._file.truncate(keep_bytes)
        self._file.seek(keep_bytes)
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._last_flush = time.monotonic()
        self.latest: dict[str, float] = {}
        self.mirror: ScalarWriter | None = None

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Note `values` at `step`: numbers, or tensors of one element, which are copied."""
        copied = {
            name: value.detach().clone() if isinstance(value, torch.Tensor) else float(value)
            for name, value in values.items()
        }
        self._pending.append((step, copied))
        if time.monotonic() - self._last_flush > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> int:
        """Write what is pending and return the size of the file in bytes."""
        for step, values in self._pending:
            numbers = {name: float(value) for name, value in values.items()}
            self.latest.update(numbers)
            if self.mirror is not None:
                for name, value in numbers.items():
                    self.mirror.add_scalar(name, value, step)
            finite = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
            self._file.write(json.dumps({"step": step, **finite}).encode() + b"\n")
        self._pending.clear()
        self._file.flush()
        self._last_flush = time.monotonic()
        return self._file.tell()

    def close(self) -> None:
        """Write what is pending and close the file."""
        self.flush()
        self._file.close()
        if self.mirror is not None:
            self.mirror.close()


def read_metrics(path: Path, *, size: int | None = None, way_out: str) -> Curves:
    """Read the curves of a metrics file.

    Args:
        path: the `.jsonl` file.
        size: how many bytes of it count; all of them by default. A last line without its end
            is ignored then: a killed process may leave one.
        way_out: ends the error message when the file is damaged.

    Raises:
        LabError: the file is shorter than `size`, or a line is not a JSON object of numbers.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabError(f"{path} is damaged ({error}). {way_out}") from error
    if size is None:
        content = content[: content.rfind(b"\n") + 1]
    elif len(content) < size:
        raise LabError(
            f"{path} is damaged (its checkpoint counts {size:,} bytes, it has {len(content):,}). "
            f"{way_out}"
        )
    curves: Curves = {}
    for number, line in enumerate(content[:size].splitlines(), start=1):
        try:
            entry = json.loads(line)
            step = int(entry.pop("step"))
            for name, value in entry.items():
                number_or_nan = math.nan if value is None else float(value)
                curves.setdefault(name, []).append((step, number_or_nan))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LabError(f"{path} is damaged (line {number}: {error}). {way_out}") from error
    return curves
