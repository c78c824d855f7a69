"""How numbers, devices and rows are written in the generated tables."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

NOT_MEASURED = "not measured"
NOTHING = "–"

_SCALES = {"s": [(1, "s"), (1e-3, "ms"), (1e-6, "µs")], "B": [(2**20, "MiB"), (2**10, "KiB")]}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar inside a cell does not end it."""
    lines = [head, ["---"] * len(head), *rows]
    written = [[str(cell).replace("|", r"\|") for cell in cells] for cells in lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in written)


def figure(value: float | None, unit: str) -> str:
    """Return a measured number in the unit that makes it short to read."""
    if value is None:
        return NOTHING
    for scale, name in _SCALES.get(unit, []):
        if abs(value) >= scale:
            return f"{rounded(value / scale)} {name}"
    return f"{rounded(value)} {unit}".rstrip()


def rounded(value: float) -> str:
    """Three digits, without an exponent where the number can be read without one."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def unbroken(text: str) -> str:
    """Return a text that no line end divides: a figure stays with its unit."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def duration(seconds: float) -> str:
    """Return a wall-clock time in seconds or minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def threads(number: int) -> str:
    """Return `1 thread`, `2 threads`."""
    return "1 thread" if number == 1 else f"{number} threads"


def short_device(name: str) -> str:
    """Return the name of a processor without trademarks and clock rates."""
    return " ".join(re.sub(r"\((R|TM)\)|@.*|\bCPU\b|\bProcessor\b", " ", name).split())


def short_commit(name: str) -> str:
    """Return a commit as twelve digits, saying so when the sources differed from it."""
    changed = name.endswith(("-dirty", " with changes"))
    return f"{name[:12]} with changes" if changed else name[:12]


def benchmark_bar(row: dict[str, Any]) -> str:
    """Return a benchmark's bar and whether it was met."""
    met = {True: ", met", False: ", **missed**", None: ""}[row["met"]]
    return f"{row['bar']}{met}" if row["bar"] else NOTHING
