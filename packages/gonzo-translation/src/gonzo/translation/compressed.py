"""Files opened as what is inside them: gzip, xz, bzip2 or a zip of one file, told by content."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO, cast

__all__ = ["Reader", "inner_suffix", "opened", "read_bytes", "read_utf8"]

_MOST = 1 << 30  # a lexicon is not larger; a bomb of compressed zeros is
_SUFFIXES = {".gz", ".dz", ".xz", ".bz2", ".zip"}


class Reader:
    """Reads on to the end of a stream, and remembers if that end came too early.

    Args:
        stream: An open file, compressed or not.
        path: Its name, for messages.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self.cut = False
        """The compressed data broke off: whatever could be decompressed was returned before."""

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end.

        Raises:
            ValueError: The compressed data are damaged, not merely cut off.
        """
        parts: list[bytes] = []
        while size > 0 and not self.cut:
            try:
                # One step of decompression a call: what came before a cut is not lost with it.
                part = self._stream.read1(size)  # ty: ignore[missing-attribute]
            except EOFError:
                self.cut = True
                break
            except (zlib.error, lzma.LZMAError, OSError, zipfile.BadZipFile) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # a disk's trouble, which says itself what it is
                raise ValueError(
                    f"{self._path}: the compressed data are damaged ({error}); fetch it again"
                ) from error
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


@contextlib.contextmanager
def opened(path: Path) -> Generator[Reader]:
    """Open a file for reading, decompressed if it is compressed.

    Raises:
        ValueError: It is a zip archive of several files, or a damaged one.
    """
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open(path, "rb"))
        magic = raw.read(6)
        raw.seek(0)
        stream: object = raw
        if magic.startswith(b"\x1f\x8b"):
            stream = stack.enter_context(gzip.GzipFile(fileobj=raw))
        elif magic == b"\xfd7zXZ\x00":
            stream = stack.enter_context(lzma.LZMAFile(raw))
        elif magic.startswith(b"BZh"):
            stream = stack.enter_context(bz2.BZ2File(raw))
        elif magic.startswith(b"PK\x03\x04"):
            stream = stack.enter_context(_only_member(raw, path))
        yield Reader(cast(BinaryIO, stream), path)


def read_bytes(path: Path) -> bytes:
    """All of a file, decompressed.

    Raises:
        ValueError: The compressed data are damaged, cut off or larger than 1 GiB.
    """
    with opened(path) as reader:
        content = reader.read(_MOST + 1)
        if reader.cut:
            raise ValueError(
                f"{path}: the compressed data end early: an interrupted download? Fetch it again"
            )
    if len(content) > _MOST:
        raise ValueError(f"{path}: expected a lexicon of at most {_MOST / 2**30:g} GiB of text")
    return content


def read_utf8(path: Path) -> str:
    """All of a file, decompressed and decoded, without a byte order mark.

    Raises:
        ValueError: As `read_bytes`; or the text is not UTF-8, with the line.
    """
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line:,}: expected UTF-8, found the byte 0x{content[error.start]:02x}; "
            f"convert it, from Latin-1 say with: iconv -f latin1 -t utf-8 {path.name}"
        ) from error


def inner_suffix(path: Path) -> str:
    """The suffix, in lower case, below that of a compressor: ``.vec`` of ``wiki.fr.vec.gz``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _only_member(raw: BinaryIO, path: Path) -> zipfile.ZipExtFile:
    try:
        archive = zipfile.ZipFile(raw)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path}: the zip archive is damaged or cut off ({error}); fetch it again"
        ) from error
    names = [name for name in archive.namelist() if not name.endswith("/")]
    if len(names) != 1:
        raise ValueError(
            f"{path}: expected a zip archive of one file, found {len(names)} "
            f"({', '.join(names[:5])}); unpack it and name the file you want"
        )
    try:
        return cast(zipfile.ZipExtFile, archive.open(names[0]))
    except (zipfile.BadZipFile, RuntimeError) as error:  # NotImplementedError is one of these
        raise ValueError(
            f"{path}: the zip archive cannot be read ({error}); unpack it and name the file"
        ) from error
