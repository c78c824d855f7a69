"""Debian packages (`.deb`) as archives: files read out of one, with nothing installed or executed.

A `.deb` is an ar archive of `debian-binary`, `control.tar.*` and `data.tar.*`: deb(5), ar(5).
"""

import io
import lzma
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gonzo.lab.errors import LabError

_AR_START = b"!<arch>\n"
_AR_HEADER_BYTES = 60
_AR_HEADER_END = b"`\n"
_TAR_MODES = {"data.tar": "r:", "data.tar.gz": "r:gz", "data.tar.xz": "r:xz"}


def read_deb(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each regular file of a package, in the archive's order.

    Args:
        path: the `.deb`; its data may be compressed with xz or gzip, or not, or with zstd, which
            needs the program dpkg-deb.
        wanted: which files, told by their names, such as `usr/share/doc/x/index.html`.

    Raises:
        LabError: the file is not a `.deb`, is damaged, or its compression cannot be read.
    """
    try:
        with open(path, "rb") as file:
            name, data = _data_member(file)
        if name in _TAR_MODES:
            # Whole in memory (52 MB is the largest here): an iterator would hold a file open.
            with tarfile.open(fileobj=io.BytesIO(data), mode=_TAR_MODES[name]) as archive:  # ty: ignore[no-matching-overload]
                yield from _files(archive, wanted)
        elif name == "data.tar.zst":
            del data
            with tarfile.open(fileobj=io.BytesIO(_through_dpkg(path)), mode="r:") as archive:
                yield from _files(archive, wanted)
        else:
            raise ValueError(f"expected data.tar, compressed with xz, gzip or zstd, got {name}")
    except (OSError, EOFError, ValueError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        if isinstance(error, LabError):
            raise
        raise LabError(
            f"{path} is not a readable Debian package ({error}). Remove it and start again, or put "
            "a good copy there."
        ) from error


def _data_member(file: BinaryIO) -> tuple[str, bytes]:
    if file.read(len(_AR_START)) != _AR_START:
        raise ValueError("it does not start as an ar archive")
    while header := file.read(_AR_HEADER_BYTES):
        if len(header) < _AR_HEADER_BYTES or not header.endswith(_AR_HEADER_END):
            raise ValueError("an ar header is damaged")
        name = header[:16].decode("ascii", "replace").rstrip(" ").removesuffix("/")
        digits = header[48:58].strip()
        if not digits.isdigit():
            raise ValueError(f"the size of {name} is damaged")
        size = int(digits)
        if name.startswith("data.tar"):
            data = file.read(size)
            if len(data) < size:
                raise ValueError(f"{name} ends after {len(data):,} of {size:,} bytes")
            return name, data
        file.seek(size + size % 2, io.SEEK_CUR)  # members start at even offsets
    raise ValueError("it ends before its data.tar")


def _through_dpkg(path: Path) -> bytes:
    program = shutil.which("dpkg-deb")
    if program is None:
        raise LabError(
            f"{path} is compressed with zstd, which is read through the program dpkg-deb, and that "
            "is not on this machine. Install dpkg, or put the package of another release there, "
            "compressed with xz."
        )
    done = subprocess.run([program, "--fsys-tarfile", str(path)], capture_output=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace").strip())
    return done.stdout


def _files(archive: tarfile.TarFile, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        name = member.name.removeprefix("./")
        if member.isreg() and wanted(name):
            content = archive.extractfile(member)
            assert content is not None
            yield name, content.read()
