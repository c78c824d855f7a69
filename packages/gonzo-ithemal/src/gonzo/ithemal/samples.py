"""Real basic blocks that come with the package: some to measure at once, some measured elsewhere.

The blocks are from BHive (Chen et al., IISWC 2019) and from samples of the data that Ithemal was
trained on (Mendis et al., ICML 2019); see `shipped/SOURCE.md`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .block import BasicBlock

__all__ = ["COUNT", "Measured", "Sample", "haswell_blocks", "sample_blocks"]

COUNT = 30_000
"""How many blocks `sample_blocks` has."""

_FOLDER = Path(__file__).parent / "shipped"
_SHA256 = {
    "blocks.csv.xz": "18337af0885eb288f5489bea7def915bea8dd1bd39b25183736568866b0ed423",
    "haswell.csv.xz": "87f7b82a0c94272827e105540dd8158dd58e56b2d2ece346825d4a63c65e2e4e",
}


class Sample(NamedTuple):
    """A block and where it is from."""

    block: BasicBlock
    application: str


class Measured(NamedTuple):
    """A block and its cycles per repetition on some machine."""

    block: BasicBlock
    cycles: float
    machine: str


def sample_blocks(limit: int = COUNT) -> list[Sample]:
    """Return the first `limit` of 30,000 blocks of ten programs and libraries, canonical, admitted.

    Their order is random, so the first n are a sample too.

    Raises:
        ValueError: `limit` is not between 1 and 30,000, or the file is damaged.
    """
    if not 1 <= limit <= COUNT:
        raise ValueError(f"sample_blocks: expected a limit between 1 and {COUNT}, got {limit}")
    rows = zip(_rows("blocks.csv.xz"), range(limit), strict=False)
    return [Sample(_block(row), row["application"]) for row, _ in rows]


def haswell_blocks() -> list[Measured]:
    """Return 2,900 blocks with cycles from Ithemal's data, 968 of them measured on Haswell.

    The machine of the other 1,932 is not stated where they are from; Haswell fits best.

    Raises:
        ValueError: the file is damaged.
    """
    return [
        Measured(_block(row), float(row["cycles"]), row["machine"])
        for row in _rows("haswell.csv.xz")
    ]


def _block(row: dict[str, str]) -> BasicBlock:
    return BasicBlock(bytes.fromhex(row["hex"]))


def _rows(name: str) -> Iterator[dict[str, str]]:
    path = _FOLDER / name
    try:
        content = lzma.decompress(path.read_bytes())
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); install the package again") from error
    if hashlib.sha256(content).hexdigest() != _SHA256[name]:
        raise ValueError(f"{path} is not what the package was made with; install it again")
    return csv.DictReader(io.StringIO(content.decode("ascii")))
