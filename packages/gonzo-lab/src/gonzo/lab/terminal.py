"""What a package's commands write: tables to standard output, all else to standard error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from gonzo.lab import console


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> None:
    """Print a table whose first `left` columns are text and whose others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(header):
        table.add_column(escape(name), justify="left" if position < left else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    console.output().print(table)


def remark(text: str) -> None:
    """Print a line that is no result."""
    console.remarks().print(text, markup=False, soft_wrap=True)


@contextmanager
def remarks_instead_of_warnings() -> Generator[None]:
    """Print the warnings of the library as remarks, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(one.message) for one in caught):
        remark(f"warning: {text}")


@contextmanager
def progress(what: str) -> Generator[Callable[[int, int], None]]:
    """Give a function of (done, total) that shows how far it is; silent outside a terminal."""
    where = console.remarks()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=where, transient=True, disable=not where.is_terminal) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
