"""A file that is either the old one or the whole new one, whenever the process is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a new file that takes the place of ``path`` when the block ends without an error.

    The temporary file lies in the same folder, because a rename is atomic only within one file
    system. It is synced first, so that a power cut cannot leave a named but empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
