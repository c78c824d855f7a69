"""Files that are either the old one or the new one, whenever the process is killed."""

import json
import os
from pathlib import Path
from typing import Any

from gonzo.lab.errors import LabError


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`; a reader sees the whole old file or the whole new one.

    The temporary file lies in the same folder, because a rename is atomic only within one
    file system. It is synced first, so that a power cut cannot leave a named but empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, *, way_out: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        way_out: what the user can do when the file is damaged; it ends the error message.

    Raises:
        LabError: the file cannot be read or does not hold a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LabError(f"{path} is damaged ({error}). {way_out}") from error
    if not isinstance(value, dict):
        raise LabError(f"{path} is damaged (not a JSON object). {way_out}")
    return value
