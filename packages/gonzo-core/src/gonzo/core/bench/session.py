"""Run the rows of a benchmark script: tests first, then the table, the results, the verdict."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gonzo.core.bench.provenance import commit, device_name, slug, versions
from gonzo.core.bench.rows import Bar, Row, TimeRow
from gonzo.core.bench.timing import time_in_turn

__all__ = ["main"]

_SCALES = {"s": [(1, "s"), (1e-3, "ms"), (1e-6, "µs")], "B": [(2**20, "MiB"), (2**10, "KiB")]}


def main(
    rows: Sequence[Row],
    *,
    package: str,
    script: str,
    device: str = "cpu",
    arguments: Sequence[str] | None = None,
) -> int:
    """Measure ``rows``, print a table, write ``results/<device>.json`` and return the exit code.

    Rows whose tests fail are refused. ``--only TEXT`` measures the rows that contain TEXT and
    writes no results.

    Args:
        rows: What to measure.
        package: The distribution, for its version.
        script: ``__file__`` of the script, in the package's folder ``benchmarks`` or its ``gpu``.
        device: ``"cpu"`` or ``"cuda"``: what is named, and waited for.
        arguments: Of the command line; by default those of the process.

    Returns:
        0, or 1 when a bar is missed or a row is refused.
    """
    parser = argparse.ArgumentParser(prog=Path(script).name, description=f"Benchmarks of {package}")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains TEXT")
    only = parser.parse_args(arguments).only
    chosen = [row for row in rows if only.lower() in row.what.lower()]
    if not chosen:
        names = "\n  ".join(row.what for row in rows)
        parser.error(f"no row contains {only!r}; the rows are:\n  {names}")
    benchmarks = Path(script).resolve().parent
    if benchmarks.name == "gpu":  # whose results stand beside those of the CPU
        benchmarks = benchmarks.parent
    root = benchmarks.parent
    name = device_name(device)
    print(f"{package} on {name}\n")
    results, failures = [], []
    verdicts: dict[tuple[str, ...], str] = {}
    for row in chosen:
        tests = tuple(row.tests)
        if tests not in verdicts:
            verdicts[tests] = _failure(tests, root)
        if verdicts[tests]:
            print(f"{row.what}\n    refused: its tests fail ({' '.join(tests)})")
            failures.append(f"{row.what}: its tests fail\n{verdicts[tests]}")
            continue
        result = _measured(row, device)
        results.append(result)
        _show(result)
        if result["met"] is False:
            failures.append(
                f"{row.what}: {_figure(result['ours'], result['unit'])} misses {result['bar']}"
            )
    if not only:
        record = {
            "commit": commit(root),
            "versions": versions(package),
            "rows": results,
        }
        path = benchmarks / "results" / f"{slug(name)}.json"
        _write(path, package, name, Path(script).stem, record)
        print(f"\nwritten: {path.relative_to(root)}")
    for failure in failures:
        print(f"\nFAILED {failure}")
    return 1 if failures else 0


def _failure(tests: tuple[str, ...], root: Path) -> str:
    """Run the tests of a row; return the end of their output when they fail, else nothing."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", *tests]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stdout + done.stderr)[-2000:]


def _measured(row: Row, device: str) -> dict[str, Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(row.threads)
    try:
        calls = [row.ours] if row.peer is None else [row.ours, row.peer]
        if isinstance(row, TimeRow):
            cold = row.caches == "cold"
            on_gpu = device == "cuda"
            figures = time_in_turn(
                calls,
                [row.setup() for _ in range(row.sets if cold else 1)],
                clock=time.perf_counter if on_gpu or row.threads > 1 else time.process_time,
                synchronize=torch.cuda.synchronize if on_gpu else lambda: None,
            )
        else:
            arguments = row.setup()
            figures = [float(call(*arguments)) for call in calls]
    finally:
        torch.set_num_threads(threads)
    ours, peer = figures[0], figures[1] if len(figures) > 1 else None
    unit = getattr(row, "unit", "")
    bar = row.bar or Bar(0, "times peer")
    # A bar that speaks of a peer nobody can run here is neither met nor missed.
    judged = row.bar is not None and (row.bar.kind == "absolute" or peer is not None)
    return {
        "what": row.what,
        "ours": ours,
        "peer": row.peer_name or (f"none: {row.no_peer}" if row.no_peer else ""),
        "peer_time": peer,
        "ratio": bar.ratio(ours, peer),
        "bar": _bar_text(row.bar, unit),
        "met": row.bar.met(ours, peer) if row.bar is not None and judged else None,
        "threads": row.threads,
        "unit": unit,
        "caches": getattr(row, "caches", ""),
    }


def _bar_text(bar: Bar | None, unit: str) -> str:
    if bar is None:
        return ""
    if bar.kind == "absolute":
        return f"≤ {_figure(bar.limit, unit)}"
    return f"≤ {bar.limit:g} × peer" if bar.kind == "times peer" else f"≥ {bar.limit:g} × faster"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    for scale, name in _SCALES.get(unit, []):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {name}"
    return f"{value:.3g} {unit}".rstrip()


def _show(result: dict[str, Any]) -> None:
    verdict = {True: "met", False: "MISSED", None: ""}[result["met"]]
    columns = [
        f"{_figure(result['ours'], result['unit']):>10}",
        f"peer {_figure(result['peer_time'], result['unit']):>10}",
        f"{result['ratio']:>7.3g} ×" if result["ratio"] else " " * 9,
        f"{result['bar']:<14}",
        f"{verdict:<6}",
        f"{result['caches']} caches, " * bool(result["caches"]) + f"threads {result['threads']}",
    ]
    print(
        f"{result['what']}  ({result['peer'] or 'no peer'})\n    {'  '.join(columns)}", flush=True
    )


def _write(path: Path, package: str, device: str, suite: str, record: dict[str, Any]) -> None:
    """Put the record of one script beside those of the package's other scripts."""
    document: dict[str, Any] = {"package": package, "device": device, "suites": {}}
    if path.exists():
        document["suites"] = json.loads(path.read_text(encoding="utf-8"))["suites"]
    document["suites"][suite] = record
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(
        json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    os.replace(temporary, path)
