"""Embeddings as arrays: ``.npz`` and ``.safetensors``, whose vectors need no parsing.

Both hold ``vectors`` (n, d) in float16, float32 or float64, which reading widens to what was asked
for. In ``.npz`` the words are ``words``, an array of Unicode strings; in ``.safetensors``, which
has no strings, ``words`` is a uint8 tensor of the words in UTF-8 joined by newlines.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from gonzo.translation.word_table import RawEmbeddings, ReadRules, WordTable, show

__all__ = ["read_npz", "read_safetensors", "write_npz", "write_safetensors"]


def read_npz(path: Path, rules: ReadRules) -> RawEmbeddings:
    """Read an ``.npz`` with the arrays ``words`` and ``vectors``.

    Only the rows that ``max_words`` asks for are read. Arrays of Python objects, which would have
    to be unpickled, are refused.

    Raises:
        ValueError: An array is missing, has another shape or type, or the file is cut off.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if not {"words.npy", "vectors.npy"} <= names:
                raise ValueError(
                    f'{path}: expected the arrays "words" and "vectors", found '
                    f"{sorted(name.removesuffix('.npy') for name in names)}; "
                    "numpy.savez(path, words=np.array(words), vectors=vectors) makes such a file"
                )
            with archive.open("vectors.npy") as file:
                shape, dtype = _npy_header(file, path, "vectors")
                _check_arrays(path, shape, dtype.kind == "f", str(dtype))
                table = WordTable(path, "npz", shape[1], shape[0], rules)
                rows = _wanted(shape[0], rules)
                vectors = _rows(file, path, rows * shape[1], dtype).reshape(rows, shape[1])
            with archive.open("words.npy") as file:
                count, dtype = _npy_header(file, path, "words")
                if count != shape[:1] or dtype.kind != "U":
                    raise ValueError(
                        f"{path}: expected {shape[0]:,} words as Unicode strings for as many "
                        f"vectors, got an array of shape {count} and type {dtype}"
                    )
                if rows * dtype.itemsize > rules.max_bytes:
                    raise ValueError(
                        f"{path}: {rows:,} words of up to {dtype.itemsize // 4:,} characters take "
                        f"more than max_bytes = {rules.max_bytes:,}"
                    )
                words = _strings(_rows(file, path, rows, dtype), path)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"{path}: not a whole .npz file ({error}): an interrupted download? Fetch it again"
        ) from error
    table.add(words, vectors, place="row", numbers=range(1, len(words) + 1))
    return table.finish()


def read_safetensors(path: Path, rules: ReadRules) -> RawEmbeddings:
    """Read a ``.safetensors`` file with the tensors ``words`` and ``vectors``.

    Raises:
        ValueError: A tensor is missing, has another shape or type, or the file is cut off.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if not {"words", "vectors"} <= names:
                raise ValueError(
                    f'{path}: expected the tensors "words" (uint8, the words joined by newlines) '
                    f'and "vectors", found {sorted(names)}'
                )
            part = file.get_slice("vectors")
            shape, kind = tuple(part.get_shape()), part.get_dtype()
            _check_arrays(path, shape, kind in ("F16", "BF16", "F32", "F64"), kind)
            table = WordTable(path, "safetensors", shape[1], shape[0], rules)
            vectors = part[: _wanted(shape[0], rules)]
            text = file.get_tensor("words")
    except SafetensorError as error:
        raise ValueError(
            f"{path}: not a whole .safetensors file ({error}): an interrupted download? "
            "Fetch it again"
        ) from error
    words = text.numpy().tobytes().split(b"\n") if text.dtype == torch.uint8 else []
    if len(words) != shape[0]:
        raise ValueError(
            f"{path}: expected {shape[0]:,} words, joined by newlines in a uint8 tensor, for as "
            f"many vectors, got {len(words):,}"
        )
    words = words[: len(vectors)]
    wide = vectors if vectors.dtype == torch.float64 else vectors.float()
    table.add(words, wide.numpy(), place="row", numbers=range(1, len(words) + 1))
    return table.finish()


def write_npz(file: BinaryIO, words: Sequence[str], vectors: NDArray) -> None:
    """Write ``words`` and ``vectors`` (n, d), uncompressed.

    Raises:
        ValueError: A word ends in the character NUL, which numpy's strings lose.
    """
    for word in words:
        if word.endswith("\0"):
            raise ValueError(f"the npz format cannot hold the word {show(word)}: it ends in NUL")
    np.savez(file, words=np.array(words), vectors=vectors)


def write_safetensors(file: BinaryIO, words: Sequence[str], vectors: NDArray) -> None:
    """Write ``words`` (uint8) and ``vectors`` (n, d).

    Raises:
        ValueError: A word holds a newline.
    """
    from safetensors.numpy import save

    for word in words:
        if "\n" in word:
            raise ValueError(
                f"the safetensors format cannot hold the word {show(word)}: expected words "
                "without line ends; write .npz"
            )
    text = np.frombuffer("\n".join(words).encode(), np.uint8)
    file.write(save({"words": text, "vectors": np.ascontiguousarray(vectors)}))


def _wanted(rows: int, rules: ReadRules) -> int:
    return rows if rules.max_words is None else min(rows, rules.max_words)


def _check_arrays(path: Path, shape: tuple[int, ...], floating: bool, kind: str) -> None:
    if len(shape) != 2 or min(shape) < 1 or not floating:
        raise ValueError(
            f"{path}: expected vectors of shape (words, dimension) in float16, float32 or float64, "
            f"got shape {shape} and type {kind}"
        )


def _npy_header(file: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, struct.error) as error:
        raise ValueError(f"{path}: the array {name} has no readable header ({error})") from error
    if dtype.hasobject:
        raise ValueError(
            f"{path}: {name} is an array of Python objects, which is a pickle and could run code; "
            "save it as np.array(list_of_words), without dtype=object"
        )
    if fortran and len(shape) > 1:
        raise ValueError(
            f"{path}: {name} is stored by columns; save it as np.ascontiguousarray({name})"
        )
    return shape, dtype


def _strings(words: NDArray, path: Path) -> list[str]:
    try:
        return words.tolist()
    except (ValueError, SystemError) as error:  # a number that is no character
        raise ValueError(f"{path}: a word is not Unicode ({error}); the file is damaged") from error


def _rows(file: IO[bytes], path: Path, count: int, dtype: np.dtype) -> NDArray:
    size = count * dtype.itemsize
    content = file.read(size)
    if len(content) != size:
        raise ValueError(
            f"{path}: expected {size:,} bytes of {dtype}, found {len(content):,}; the file is "
            "damaged"
        )
    return np.frombuffer(content, dtype)
