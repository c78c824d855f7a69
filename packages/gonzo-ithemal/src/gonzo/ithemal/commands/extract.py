"""Collect the basic blocks of ELF programs, libraries and objects, each once, in a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gonzo.lab.terminal import print_table


@dataclass(frozen=True)
class Options:
    """Options of gonzo-ithemal extract.

    Args:
        files: Programs, shared libraries or object files for x86-64.
        out: The table to write, .csv or .parquet, with the columns hex and application.
        limit: Take at most so many blocks of each file; 0 takes all.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path
    limit: int = 0


def command(options: Options) -> int:
    """Write the table and print what was found in each file, and why blocks were dropped."""
    from gonzo.ithemal.extraction import extract
    from gonzo.ithemal.tables import write_table

    if not options.files:
        raise ValueError("extract: expected at least one ELF file, got none")
    origin: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    rows = []
    for file in options.files:
        found = extract(file, limit=options.limit or None)
        before = len(origin)
        for block in found.blocks:
            origin.setdefault(block.hex, file.name)
        dropped.update(found.dropped)
        rows.append(
            (str(file), str(found.found), str(len(found.blocks)), str(len(origin) - before))
        )
    write_table(options.out, {"hex": list(origin), "application": list(origin.values())})
    print_table(("file", "found", "unique", "new"), rows)
    print_table(("dropped because", "blocks"), [(why, str(n)) for why, n in dropped.most_common()])
    print(f"{len(origin)} blocks in {options.out}")
    return 0 if origin else 1
