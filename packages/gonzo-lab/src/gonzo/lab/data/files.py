"""Files of known content: found on this machine, or downloaded, and checked either way."""

import gzip
import hashlib
import lzma
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from gonzo.lab import console
from gonzo.lab.atomic import write_bytes
from gonzo.lab.errors import LabError

DATA_DIR_VARIABLE = "GONZO_DATA_DIR"

_CHUNK_BYTES = 1 << 16


# How a compressed file starts, what it is called, and what decompresses it.
_COMPRESSIONS: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", "gzip", gzip.decompress),
    (b"\xfd7zXZ\x00", "xz", lzma.decompress),
)


@dataclass(frozen=True)
class DataFile:
    """One file of a data set, compressed with gzip or xz.

    Args:
        name: its file name, ending in `.gz` or `.xz`.
        sha256: of the decompressed content, because every mirror compresses in its own way.
        size: of the decompressed content, in bytes.
    """

    name: str
    sha256: str
    size: int

    def unpack(self, content: bytes) -> bytes:
        """Decompress `content` if it is gzip or xz, and check it.

        Raises:
            ValueError: it is damaged, or something else.
        """
        for start, kind, decompress in _COMPRESSIONS:
            if content.startswith(start):
                try:
                    content = decompress(content)
                except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                    raise ValueError(f"the {kind} file is damaged: {error}") from error
                break
        if len(content) != self.size:
            raise ValueError(f"expected {self.size:,} bytes of content, got {len(content):,}")
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise ValueError(f"expected content of SHA-256 {self.sha256}, got {digest}")
        return content

    @property
    def plain_name(self) -> str:
        """The file name of its decompressed content."""
        return self.name.removesuffix(".gz").removesuffix(".xz")

    def read(self, path: Path) -> bytes:
        """Return the checked, decompressed content of a file on this machine.

        Raises:
            LabError: the file is damaged; it is left as it is.
        """
        try:
            return self.unpack(path.read_bytes())
        except (OSError, ValueError) as error:
            raise LabError(
                f"{path} is damaged ({error}). Remove it and start again, or put a good copy there."
            ) from error


def cache_dir() -> Path:
    """Return where downloads are kept."""
    return user_cache_path("gonzo", appauthor=False) / "data"


def search_path(data_set: str, data_dir: Path | None) -> list[Path]:
    """Return the folders where `data_set` may lie, the first choice first.

    These are `--data-dir`, then `GONZO_DATA_DIR`, then the cache; in the first two, a folder
    named after the data set comes before the folder itself.

    Raises:
        LabError: `data_dir` or `GONZO_DATA_DIR` is not a folder.
    """
    variable = os.environ.get(DATA_DIR_VARIABLE)
    folders = []
    for said_by, folder in (("--data-dir", data_dir), (DATA_DIR_VARIABLE, variable)):
        if folder:
            if not Path(folder).is_dir():
                raise LabError(f"{said_by}: {folder} is not a folder.")
            folders += [Path(folder) / data_set, Path(folder)]
    return [*folders, cache_dir() / data_set]


def find(file: DataFile, folders: list[Path]) -> Path | None:
    """Return the first of `folders`' copies of `file`, compressed or not; None without one."""
    for folder in folders:
        for name in (file.name, file.plain_name):
            if (folder / name).is_file():
                return folder / name
    return None


def download(
    file: DataFile, mirrors: tuple[str, ...], target: Path, *, timeout: float = 20.0
) -> bytes:
    """Fetch `file` from the first mirror that has it, keep it at `target`, return its content.

    Nothing is written before the content was checked.

    Args:
        file: what to fetch.
        mirrors: addresses of folders that hold it, each ending in `/`.
        target: where to keep it, as it came.
        timeout: seconds a mirror may stay silent.

    Raises:
        LabError: no mirror had it; the message says what each did, and how to do without.
    """
    failures = []
    for mirror in mirrors:
        address = mirror + file.name
        console.remarks().print(f"Downloading {address}", soft_wrap=True)
        try:
            compressed = _fetch(address, timeout, limit=2 * file.size)
            content = file.unpack(compressed)
        except (OSError, ValueError, EOFError) as error:
            failures.append(f"  {address}: {error}")
            continue
        write_bytes(target, compressed)
        return content
    raise LabError(
        f"{file.name} could not be downloaded:\n" + "\n".join(failures) + "\n"
        f"To do without the network, put the file at {target}, or into a folder that you name "
        f"with --data-dir or {DATA_DIR_VARIABLE}."
    )


def _fetch(address: str, timeout: float, *, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    with urllib.request.urlopen(address, timeout=timeout) as response:
        expected = response.headers.get("Content-Length")
        while chunk := response.read(_CHUNK_BYTES):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise ValueError(f"the answer is longer than {limit:,} bytes")
    if expected is not None and size != int(expected):
        raise ValueError(f"the connection ended after {size:,} of {int(expected):,} bytes")
    return b"".join(parts)
