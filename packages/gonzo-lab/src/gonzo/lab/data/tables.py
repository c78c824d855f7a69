"""Tables that were cut from larger collections: found on this machine, checked, split at tabs.

Nobody mirrors such a cut, so that nothing is downloaded: without a copy the error says where the
originals come from and which folder to put the file into.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from gonzo.lab.data.files import DATA_DIR_VARIABLE, DataFile, find, search_path
from gonzo.lab.errors import LabError, did_you_mean

Value = TypeVar("Value")


def pick(data_set: str, what: str, options: dict[str, Value], wanted: str) -> Value:
    """Return `options[wanted]`.

    Raises:
        ValueError: there is no such option; the message lists them.
    """
    if wanted not in options:
        listed = ", ".join(map(repr, options))
        raise ValueError(
            f"{data_set}: expected the {what} to be one of {listed}, got {wanted!r}."
            f"{did_you_mean(str(wanted), options)}"
        )
    return options[wanted]


def read_table(
    data_set: str, file: DataFile, columns: Sequence[str], origin: str, data_dir: Path | None
) -> list[list[str]]:
    """Return the rows of a table of UTF-8 text, without a header.

    Args:
        data_set: its name, and that of the folder it lies in.
        file: the table.
        columns: what the columns are.
        origin: where the originals come from and how the file is cut from them, a sentence.
        data_dir: where to look first, usually `run.data_dir`; the file may lie in it or in its
            folder named after the data set, compressed or not.

    Raises:
        LabError: there is no copy, it is damaged, or `data_dir` is not a folder.
    """
    folders = search_path(data_set, data_dir)
    path = find(file, folders)
    if path is None:
        looked = "".join(f"\n  {folder}" for folder in folders)
        raise LabError(
            f"{data_set}: {file.name} is not on this machine; it was looked for in{looked}\n"
            f"Put it into the folder {data_set} of a folder that you name with --data-dir or "
            f"{DATA_DIR_VARIABLE}, compressed or as {file.plain_name}: lines of "
            f"{' TAB '.join(columns)}, {file.size:,} bytes of SHA-256 {file.sha256}. {origin}"
        )
    # Not splitlines: it also splits at characters that are part of a sentence.
    lines = file.read(path).decode("utf-8").removesuffix("\n").split("\n")
    rows = [line.split("\t") for line in lines]
    assert all(len(row) == len(columns) for row in rows)
    return rows
