"""Blocks for the recipes, and their cycles on this machine, kept in the run's directory."""

from __future__ import annotations

import hashlib
import lzma
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gonzo.ithemal import BasicBlock
from gonzo.ithemal.admit import refusal
from gonzo.ithemal.extraction import extract
from gonzo.ithemal.harness import HarnessError
from gonzo.ithemal.measurement import Measurement, measure
from gonzo.ithemal.samples import COUNT, Sample, sample_blocks
from gonzo.lab import LabError, Run
from gonzo.lab.console import remarks
from gonzo.lab.data.files import search_path
from gonzo.lab.progress import Bar

_LISTS = ("blocks_by_app.csv.xz", "blocks_more.txt.xz")
_PROGRAMS = ("git", "gcc", "perl", "bash", "openssl", "ssh", "sqlite3", "gdb", "vim", "tar", "curl")
_FOLDERS = ("/usr/bin", "/bin", "/usr/local/bin")


class Labelled(NamedTuple):
    """Blocks that have a value which their passes agree on."""

    blocks: list[BasicBlock]
    cycles: NDArray[np.float64]
    rows: NDArray[np.int64]
    """Which of the blocks that were asked for these are."""
    have_value: float
    """Share of the blocks that were asked for which have any value."""
    accepted: float
    """Share of those with a value whose passes agree."""


def samples(count: int, run: Run) -> list[Sample]:
    """Return the first `count` blocks that ship with the package, or more from BHive's own lists.

    Raises:
        LabError: there are not so many on this machine.
    """
    if count <= COUNT:
        return sample_blocks(count)
    found = _from_lists(run)
    if len(found) < count:
        raise LabError(
            f"{count:,} blocks are wanted and {len(found):,} are here: {COUNT:,} come with the "
            f"package, the others are read from {' and '.join(_LISTS)} in the folder bhive of "
            "--data-dir or GONZO_DATA_DIR (lines of hexadecimal digits, a comma and the name of "
            "the application). Name fewer with --blocks."
        )
    return found[:count]


def _from_lists(run: Run) -> list[Sample]:
    rows: dict[str, str] = {}
    for folder in search_path("bhive", run.data_dir):
        for name in _LISTS:
            path = folder / name
            if path.is_file():
                for line in lzma.decompress(path.read_bytes()).decode("ascii").split():
                    digits, _, application = line.partition(",")
                    rows.setdefault(digits, application or "unknown")
    found: dict[bytes, Sample] = {sample.block.code: sample for sample in sample_blocks()}
    more: dict[bytes, Sample] = {}
    for digits, application in rows.items():
        try:
            block = BasicBlock.from_hex(digits)
        except ValueError:
            continue
        if block.code not in found and refusal(block.instructions) is None:
            more.setdefault(block.code, Sample(block, application))
    ordered = sorted(more.values(), key=lambda sample: _drawn(sample.block))
    return [*found.values(), *ordered]


def installed(count: int, known: Sequence[BasicBlock]) -> list[BasicBlock]:
    """Return about `count` blocks of programs installed here that are not among `known`."""
    paths = [Path(folder, name) for name in _PROGRAMS for folder in _FOLDERS]
    seen = {block.code for block in known}
    found: dict[bytes, BasicBlock] = {}
    for path in dict.fromkeys(path.resolve() for path in [Path(sys.executable), *paths]):
        if path.is_file():
            try:
                extraction = extract(path)
            except ValueError:
                continue  # a script, say
            found |= {block.code: block for block in extraction.blocks if block.code not in seen}
    return sorted(found.values(), key=_drawn)[:count]


def _drawn(block: BasicBlock) -> bytes:
    """A key that puts blocks in random order, the same on every machine."""
    return hashlib.sha256(b"0" + block.hex.encode()).digest()


def measured(
    name: str, blocks: Sequence[BasicBlock], run: Run, *, passes: int, workers: int
) -> list[Measurement]:
    """Measure blocks; a run that is started again goes on where it was.

    Raises:
        LabError: this machine cannot measure.
    """
    bar: list[Bar] = []

    def progress(done: int, total: int) -> None:
        if not bar:
            bar.append(Bar(remarks(), f"measure {name}", 0, len(blocks) * passes))
        bar[0].update(min(done, len(blocks) * passes), {"passes": float(done)})

    try:
        return measure(
            blocks,
            passes=passes,
            workers=workers,
            journal=run.directory / f"passes-{name}.csv",
            progress=progress,
        )
    except (HarnessError, ValueError) as error:
        raise LabError(str(error)) from error
    finally:
        if bar:
            bar[0].close(len(blocks) * passes, {})


def labelled(measurements: Sequence[Measurement], blocks: Sequence[BasicBlock]) -> Labelled:
    """Keep the blocks that are accepted."""
    rows = np.array([i for i, one in enumerate(measurements) if one.accepted], dtype=np.int64)
    values = sum(one.status == "ok" for one in measurements)
    return Labelled(
        [blocks[row] for row in rows],
        np.array([measurements[row].cycles for row in rows]),
        rows,
        values / max(1, len(measurements)),
        len(rows) / max(1, values),
    )
