"""One process per run directory: a lock that the operating system drops with the process."""

import os
import sys
from pathlib import Path

from gonzo.lab.errors import LabError


class DirectoryLock:
    """An exclusive lock on a directory, held until `release` or the end of the process.

    Args:
        directory: an existing directory; the lock is a file `lock` in it.

    Raises:
        LabError: another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        self._file = open(directory / "lock", "a+b")  # noqa: SIM115  held as long as the lock
        try:
            _lock(self._file.fileno())
        except OSError as error:
            self._file.close()
            raise LabError(
                f"{directory} is in use by another process. Wait for it to end, stop it, "
                "or choose another directory with --run-dir."
            ) from error

    def release(self) -> None:
        """Give the directory back."""
        self._file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
