"""Which blocks a model was trained on, as a list of hashes in its folder.

A block that a model was trained on says nothing about its errors, so comparisons leave it out.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gonzo.ithemal.block import BasicBlock

__all__ = ["remember", "seen"]

_FILE = "trained-on.npy"


def remember(folder: Path, blocks: Sequence[BasicBlock], *, also: Path | None = None) -> None:
    """Write down that the model in a folder was trained on blocks.

    Args:
        folder: of the model.
        blocks: what it was trained on.
        also: folder of the model that it started from, whose blocks it has seen too.
    """
    before = _known(also) if also is not None else np.empty(0, "<u8")
    content = io.BytesIO()
    np.save(content, np.union1d(_hashes(blocks), before), allow_pickle=False)
    (folder / _FILE).write_bytes(content.getvalue())


def seen(folder: Path, blocks: Sequence[BasicBlock]) -> NDArray[np.bool_]:
    """Return which blocks the model in a folder was trained on, (n,); none if that is not known.

    Raises:
        ValueError: the file that says so is damaged.
    """
    return np.isin(_hashes(blocks), _known(folder))


def _known(folder: Path) -> NDArray[np.uint64]:
    file = folder / _FILE
    if not file.is_file():
        return np.empty(0, "<u8")
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is damaged: {error}") from None


def _hashes(blocks: Sequence[BasicBlock]) -> NDArray[np.uint64]:
    digests = [hashlib.blake2b(block.code, digest_size=8).digest() for block in blocks]
    return np.frombuffer(b"".join(digests), dtype="<u8")
