"""Measure the cycles of every block of a table on this machine.

Without a table it measures the 30,000 blocks that come with the package. It goes on where it was
interrupted.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gonzo.lab.terminal import print_table, progress


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of gonzo-ithemal measure.

    Args:
        table: A table with a column hex: .csv, .csv.xz or .parquet. Without one: real blocks of
            ten programs and libraries, in random order.
        out: The table to write, .csv or .parquet: the columns of the other, and what was measured.
        passes: How often each block is measured; the second smallest value counts.
        workers: How many cores measure at the same time. Other load makes blocks look slower.
        limit: Measure the first so many blocks of the table; 0 measures all.
    """

    table: Annotated[Path | None, tyro.conf.Positional] = None
    out: Path
    passes: int = 5
    workers: int = 1
    limit: int = 0


def command(options: Options) -> int:
    """Measure, write the table, and print how many blocks have a value."""
    from gonzo.ithemal.block import BasicBlock
    from gonzo.ithemal.harness import HarnessError
    from gonzo.ithemal.measurement import Measurement, cpu_model, measure
    from gonzo.ithemal.tables import check_writable, write_table

    if options.limit < 0:
        raise ValueError(f"expected --limit of at least 0, got {options.limit}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    check_writable(options.out)
    table, codes = _blocks(options)
    blocks: dict[str, BasicBlock] = {}
    for code in dict.fromkeys(codes):
        try:
            blocks[code] = BasicBlock.from_hex(code)
        except ValueError:
            continue  # its row gets the status "invalid"
    if not blocks:
        raise ValueError(f"expected blocks in the column hex of {options.table}, found none")
    journal = options.out.with_name(options.out.name + ".journal")
    unique = list({block.code: block for block in blocks.values()}.values())
    began = time.perf_counter()
    try:
        with progress("measuring") as shown:
            measured = measure(
                unique,
                passes=options.passes,
                workers=options.workers,
                journal=journal,
                progress=shown,
            )
    except HarnessError as error:
        raise ValueError(str(error)) from None
    seconds = time.perf_counter() - began
    found = {one.hex: one for one in measured}
    nan = float("nan")
    nothing = Measurement("", nan, "invalid", nan, 0, False, nan, 0, 0, cpu_model())
    rows = [found[blocks[code].hex] if code in blocks else nothing for code in codes]
    columns = {name: values[: len(codes)] for name, values in table.items()}
    columns["hex"] = [row.hex or code for row, code in zip(rows, codes, strict=True)]
    for name in Measurement._fields[1:]:
        columns[name] = [getattr(row, name) for row in rows]
    write_table(options.out, columns)
    journal.unlink(missing_ok=True)
    statuses = Counter(row.status for row in rows)
    shares = [(name, str(n), f"{n / len(rows):.1%}") for name, n in statuses.most_common()]
    print_table(("status", "blocks", "share"), shares)
    print(
        f"{len(rows)} blocks in {options.out}, measured in {seconds:.1f} s "
        f"({len(unique) * options.passes / max(seconds, 1e-9):.0f} block passes a second) "
        f"on {cpu_model()}"
    )
    return 0 if statuses["ok"] else 1


def _blocks(options: Options) -> tuple[dict[str, list[str]], list[str]]:
    """The table, and the first so many of its blocks."""
    from gonzo.ithemal.samples import sample_blocks
    from gonzo.ithemal.tables import column, read_table

    if options.table is None:
        drawn = sample_blocks()
        table = {
            "hex": [sample.block.hex for sample in drawn],
            "application": [sample.application for sample in drawn],
        }
        return table, table["hex"][: options.limit or None]
    table = read_table(options.table)
    return table, column(table, "hex", options.table)[: options.limit or None]
