"""What llvm-mca says a block costs: any installed version, many blocks a process.

llvm-mca simulates a block from a hand-made model of a processor. It answers with the cycles that so
many repetitions take, of which the cycles of one are the quotient.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gonzo.ithemal.block import BasicBlock

__all__ = ["Model", "find", "llvm_mca", "model", "version"]

PROGRAM_VARIABLE = "GONZO_LLVM_MCA"
"""Names the program where none is given."""

_CHUNK = 1000
_SECONDS_PER_BLOCK = 2.0


class Model(NamedTuple):
    """Which simulator, of which processor.

    Attributes:
        version: such as "19.1.7".
        cpu: the processor that llvm-mca took, by the name its `-mcpu` knows it.
        schedule: what its table of the processor's ports is called there, "SPR" or "ICX", say: an
            old version takes the table of an older processor for one it has none for. Empty where
            the version does not tell.
    """

    version: str
    cpu: str
    schedule: str

    def __str__(self) -> str:
        table = f", table {self.schedule}" if self.schedule else ""
        return f"llvm-mca {self.version} ({self.cpu}{table})"


def find(program: str | None = None) -> str:
    """Return the program to run: the one named, that of `GONZO_LLVM_MCA`, or the newest installed.

    Raises:
        ValueError: there is none, or the one named is not there.
    """
    named = program or os.environ.get(PROGRAM_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise ValueError(f"expected {named!r} to be an llvm-mca program; there is no such one")
        return found
    plain = shutil.which("llvm-mca")
    found = {_major(path): path for path in [*_numbered(), *([plain] if plain else [])]}
    if not found:
        raise ValueError(
            "llvm-mca is not installed; it comes with LLVM: apt install llvm, dnf install llvm or "
            f"brew install llvm. One elsewhere is named with --mca PROGRAM or {PROGRAM_VARIABLE}."
        )
    return found[max(found)]


def version(program: str | None = None) -> str:
    """Return the version of llvm-mca, such as "19.1.7".

    Raises:
        ValueError: as `find`, or the program is no llvm-mca.
    """
    return _version(find(program))


def model(program: str | None = None, cpu: str | None = None) -> Model:
    """Return what `llvm_mca` with the same arguments simulates.

    Raises:
        ValueError: as `llvm_mca`.
    """
    path = find(program)
    said, complaint = _run(path, [["nop"]], cpu, 1, 10.0)
    if said is None:
        raise ValueError(f"{path} does not run: {complaint.strip()[:300]}")
    name = _processor(cpu)
    schedule = ""
    if said.lstrip().startswith("{"):
        target = json.loads(said)["TargetInfo"]
        name = target["CPUName"]
        schedule = _shared_start(target["Resources"]).partition("Port")[0]
    return Model(_version(path), name, schedule)


def llvm_mca(
    blocks: Sequence[BasicBlock],
    *,
    program: str | None = None,
    cpu: str | None = None,
    iterations: int = 100,
) -> NDArray[np.float64]:
    """Simulate blocks.

    Args:
        blocks: n blocks.
        program: the llvm-mca to run; by default as `find` says.
        cpu: a processor that `llvm-mca -mcpu=help` names, such as "znver3"; by default this one.
        iterations: how often a block is repeated.

    Returns:
        (n,) cycles per repetition; nan for a block that llvm-mca does not know or has no time for.

    Raises:
        ValueError: there is no llvm-mca, or it does not know the processor.
    """
    if iterations < 1:
        raise ValueError(f"expected at least 1 iteration, got {iterations}")
    path = find(program)
    cycles = np.full(len(blocks), np.nan)
    texts = [block.text("gas") for block in blocks]
    for start in range(0, len(blocks), _CHUNK):
        part = list(range(start, min(start + _CHUNK, len(blocks))))
        _simulate(path, texts, part, cpu, iterations, cycles)
    return cycles


def _simulate(
    path: str,
    texts: list[list[str]],
    part: list[int],
    cpu: str | None,
    iterations: int,
    cycles: NDArray[np.float64],
) -> None:
    """Fill `cycles` for the blocks of `part`; one that fails must not take others with it."""
    while part:
        seconds = 10.0 + _SECONDS_PER_BLOCK * len(part) ** 0.5
        said, complaint = _run(path, [texts[i] for i in part], cpu, iterations, seconds)
        # Old versions drop a line that they cannot read and simulate the rest: the value of such a
        # block is that of another one, so an error line counts, whatever the exit status.
        refused = _refused(complaint, [texts[i] for i in part])
        if said is not None:
            for region, total in _totals(said).items():
                if region not in refused and region < len(part):
                    cycles[part[region]] = total / iterations
            return
        if refused:
            part = [i for position, i in enumerate(part) if position not in refused]
        elif len(part) == 1:
            return
        else:
            half = len(part) // 2
            _simulate(path, texts, part[:half], cpu, iterations, cycles)
            part = part[half:]


def _run(
    path: str, texts: list[list[str]], cpu: str | None, iterations: int, seconds: float
) -> tuple[str | None, str]:
    """Return (what it printed, or None where it failed; its complaints)."""
    lines = []
    for number, text in enumerate(texts):
        lines += [f"# LLVM-MCA-BEGIN {number}", *text, "# LLVM-MCA-END"]
    command = [
        path,
        "-mtriple=x86_64-unknown-linux-gnu",
        f"-mcpu={_processor(cpu)}",
        f"-iterations={iterations}",
        "-instruction-info=0",
        "-resource-pressure=0",
        *(["-json"] if _has_json(path) else []),
    ]
    try:
        done = subprocess.run(
            command,
            # Without the newline at its end some versions lose the last region.
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, ""
    except OSError as error:
        raise ValueError(f"{path} does not run: {error}") from None
    if "is not a recognized processor" in done.stderr or "unable to find target" in done.stderr:
        raise ValueError(
            f"{path} does not know the processor {_processor(cpu)!r}; llvm-mca -mcpu=help lists "
            "those it knows"
        )
    return (done.stdout if done.returncode == 0 and done.stdout else None), done.stderr


def _processor(cpu: str | None) -> str:
    return cpu or "native"


def _refused(complaint: str, texts: list[list[str]]) -> set[int]:
    """Return the positions of the blocks that have a line in an error message."""
    ends = np.cumsum([len(text) + 2 for text in texts])
    lines = [
        int(line) for line in re.findall(r"^<stdin>:(\d+):\d+: error", complaint, re.MULTILINE)
    ]
    return {int(i) for i in np.searchsorted(ends, lines) if i < len(texts)}


def _totals(said: str) -> dict[int, float]:
    if said.lstrip().startswith("{"):
        return {
            int(region["Name"]): float(region["SummaryView"]["TotalCycles"])
            for region in json.loads(said)["CodeRegions"]
        }
    regions = re.split(r"^\[\d+\] Code Region - ", said, flags=re.MULTILINE)
    # One region alone is printed without its heading by some versions.
    named = [f"0\n{said}"] if len(regions) == 1 else regions[1:]
    totals = {}
    for text in named:
        total = re.search(r"^Total Cycles:\s+(\d+)", text, re.MULTILINE)
        if total:
            totals[int(text.split(maxsplit=1)[0])] = float(total[1])
    return totals


@cache
def _version(path: str) -> str:
    found = re.search(r"LLVM version (\d[\w.]*)", _said(path, "--version"))
    if found is None:
        raise ValueError(f"expected {path} to be an llvm-mca program; it does not say its version")
    return found[1]


@cache
def _has_json(path: str) -> bool:
    return bool(re.search(r"^\s+--?json\b", _said(path, "--help"), re.MULTILINE))


def _said(path: str, option: str) -> str:
    try:
        done = subprocess.run(
            [path, option],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"{path} does not run: {error}") from None
    return done.stdout


def _shared_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    differ = (at for at, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) > 1)
    return first[: next(differ, len(first))]


def _major(path: str) -> int:
    try:
        return int(_version(path).split(".")[0])
    except ValueError:
        return -1  # installed but broken: the last choice, whose error then explains


def _numbered() -> list[str]:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = []
    for folder in filter(None, folders):
        for path in sorted(Path(folder).glob("llvm-mca-*")):
            if re.fullmatch(r"llvm-mca-\d+", path.name) and os.access(path, os.X_OK):
                found.append(str(path))
    return found
