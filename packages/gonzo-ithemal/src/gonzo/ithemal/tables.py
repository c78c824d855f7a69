"""Tables of strings in files: CSV, CSV packed by xz (read only) or parquet, by the file's suffix.

The first row of a CSV file names the columns. Lines that begin with `#` before it are comments.
"""

from __future__ import annotations

import csv
import lzma
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gonzo.core import require

__all__ = ["column", "read_table", "write_table"]

_EXTRA = "gonzo-ithemal[parquet]"
_LONGEST = 1 << 24  # characters in one field; longer is no table of ours


def read_table(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Read a table: {name of a column: its values}, all columns equally long.

    Values of a parquet file come as strings too, a missing one as the empty string.

    Raises:
        ValueError: the suffix is unknown, or the file is not what its suffix says, or ragged.
        FileNotFoundError: there is no such file.
        MissingExtraError: a parquet file, and pyarrow is not installed.
    """
    path = Path(path)
    kind = _kind(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise FileNotFoundError(f"expected a table at {path}, there is {what}")
    return _read_parquet(path) if kind == "parquet" else _read_csv(path, packed=kind == "xz")


def write_table(path: str | os.PathLike[str], columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length; a reader never sees half a file.

    CSV holds `str` of each value; parquet keeps numbers as numbers.

    Raises:
        ValueError: the suffix is unknown or read only, or the columns are not equally long.
        FileNotFoundError: the folder does not exist.
        MissingExtraError: a parquet file, and pyarrow is not installed.
    """
    path = Path(path)
    check_writable(path)
    if not columns:
        raise ValueError(f"expected at least one column for {path.name}, got none")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"expected columns of one length for {path.name}, got {lengths}")
    write = _write_parquet if _kind(path) == "parquet" else _write_csv
    _replace(path, lambda temporary: write(temporary, columns))


def check_writable(path: Path) -> None:
    """Say now what would keep `write_table` from writing a table there.

    Raises:
        ValueError: the name does not end in .csv or .parquet, or is a folder's or a device's.
        FileNotFoundError: there is no such folder.
        MissingExtraError: a parquet file, and pyarrow is not installed.
    """
    kind = _kind(path)
    if kind == "xz":
        raise ValueError(f"packed tables are read only, got {path.name}; write .csv or .parquet")
    if path.exists() and not path.is_file():
        raise ValueError(f"expected a file to write at {path}; it is there and is none")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"expected a folder at {path.parent}, there is none; make it first")
    if kind == "parquet":
        require("pyarrow", extra=_EXTRA)


def column(
    table: Mapping[str, list[str]], name: str, path: str | os.PathLike[str] = "the table"
) -> list[str]:
    """Return one column of a table that was read from `path`.

    Raises:
        ValueError: it has no such column; the message names those it has.
    """
    try:
        return table[name]
    except KeyError:
        has = ", ".join(table) or "none"
        raise ValueError(f"expected a column {name!r} in {path}; its columns are: {has}") from None


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".csv"]:
        return "csv"
    if suffixes[-2:] == [".csv", ".xz"]:
        return "xz"
    if suffixes[-1:] == [".parquet"]:
        return "parquet"
    raise ValueError(f"expected a table ending in .csv, .csv.xz or .parquet, got {path.name}")


def _read_csv(path: Path, *, packed: bool) -> dict[str, list[str]]:
    before = csv.field_size_limit(_LONGEST)
    try:
        with (
            lzma.open(path, "rt", encoding="utf-8-sig", newline="")
            if packed
            else open(path, encoding="utf-8-sig", newline="")
        ) as file:
            rows = csv.reader(file, strict=True)
            names = next((row for row in rows if row and not row[0].startswith("#")), None)
            if names is None:
                raise ValueError(f"expected names of columns in the first line of {path}, got none")
            if len(set(names)) < len(names):
                raise ValueError(f"expected different names of columns in {path}, got {names}")
            values: list[list[str]] = [[] for _ in names]
            for row in rows:
                if not row:
                    continue
                if len(row) != len(names):
                    raise ValueError(
                        f"expected {len(names)} values in line {rows.line_num} of {path}, "
                        f"got {len(row)}"
                    )
                for into, value in zip(values, row, strict=True):
                    into.append(value)
    except (csv.Error, UnicodeDecodeError, lzma.LZMAError, EOFError) as error:
        kind = "CSV packed by xz" if packed else "CSV"
        raise ValueError(f"expected {kind} in UTF-8 in {path}: {error}") from None
    finally:
        csv.field_size_limit(before)
    return dict(zip(names, values, strict=True))


def _write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    # A bare carriage return ends a row for the reader, and the writer does not know that.
    odd = any(isinstance(v, str) and "\r" in v for values in columns.values() for v in values)
    quoting = csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=quoting)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _read_parquet(path: Path) -> dict[str, list[str]]:
    pyarrow = require("pyarrow", extra=_EXTRA)
    parquet = require("pyarrow.parquet", extra=_EXTRA)
    try:
        table = parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"expected a parquet file in {path}: {error}") from None
    return {
        name: ["" if value is None else str(value) for value in table.column(name).to_pylist()]
        for name in table.column_names
    }


def _write_parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    pyarrow = require("pyarrow", extra=_EXTRA)
    parquet = require("pyarrow.parquet", extra=_EXTRA)
    table = pyarrow.table({name: list(values) for name, values in columns.items()})
    parquet.write_table(table, path, compression="zstd")


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the file, then take its place in one step."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes it private
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
