"""Embeddings as the binary file of the original word2vec: counts as text, then word and floats.

After the line ``n d`` come n times a word in UTF-8, a space, d little-endian float32 and, from
some writers, a newline.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gonzo.translation.compressed import opened
from gonzo.translation.word_table import RawEmbeddings, ReadRules, WordTable, show

__all__ = ["read_word2vec", "write_word2vec"]

_BLOCK = 1 << 22
_LONGEST_WORD = 1 << 16


def read_word2vec(path: Path, rules: ReadRules) -> RawEmbeddings:
    """Read a binary word2vec file, compressed or not.

    Raises:
        ValueError: The first line is not the two counts, the file is cut off or goes on after its
            last word, or an entry is no word.
    """
    with opened(path) as reader:
        head, _, buffer = reader.read(_BLOCK).partition(b"\n")
        fields = head.split()
        if len(fields) != 2 or not all(f.isdigit() and len(f) < 19 and int(f) for f in fields):
            raise ValueError(
                f'{path}: expected a binary file that begins with "words dimension", got '
                f"{show(head[:60])}; is this a file of word vectors?"
            )
        claimed, d = int(fields[0]), int(fields[1])
        table = WordTable(path, "word2vec", d, claimed, rules)
        while table.entries < claimed:
            words, vectors, buffer = _entries(buffer, d, claimed - table.entries, path, table)
            if words:
                start = table.entries + 1
                numbers = range(start, start + len(words))
                table.add(words, vectors, place="entry", numbers=numbers)
                if table.full:
                    return table.finish()
                continue
            piece = reader.read(max(_BLOCK, 4 * d))
            if not piece:
                return table.finish(truncated=True)
            buffer += piece
        if (buffer + reader.read(1024)).strip(b"\n"):
            raise ValueError(
                f"{path}: the first line says {claimed:,} words, but the file goes on after them; "
                f"it is damaged, or take the first ones with max_words={claimed}"
            )
        return table.finish()


def write_word2vec(file: BinaryIO, words: Sequence[str], vectors: NDArray) -> None:
    """Write counts, words and vectors, with the newlines of the original program.

    Args:
        file: Opened for writing bytes.
        words: n words without spaces and line ends.
        vectors: (n, d); written as float32.

    Raises:
        ValueError: A word could not be read back.
    """
    for word in words:
        if not word or " " in word or "\n" in word:
            raise ValueError(
                f"the word2vec format cannot hold the word {show(word)}: expected words without "
                "spaces and line ends; write .vec, .npz or .safetensors"
            )
    file.write(f"{len(words)} {vectors.shape[1]}\n".encode())
    for word, vector in zip(words, vectors.astype("<f4"), strict=True):
        file.write(word.encode() + b" " + vector.tobytes() + b"\n")


def _entries(
    buffer: bytes, d: int, most: int, path: Path, table: WordTable
) -> tuple[list[bytes], NDArray, bytes]:
    """The whole entries at the start of the buffer, and what is left of it."""
    words: list[bytes] = []
    vectors: list[bytes] = []
    at, size = 0, 4 * d
    while len(words) < most:
        space = buffer.find(b" ", at)
        if space < 0:
            if len(buffer) - at > _LONGEST_WORD:
                raise ValueError(
                    f"{path}, entry {table.entries + len(words) + 1:,}: expected a word and a "
                    f"space, found {len(buffer) - at:,} bytes without one; the file is damaged, or "
                    "not in word2vec's binary format"
                )
            break
        if space + 1 + size > len(buffer):
            break
        words.append(buffer[at:space].lstrip(b"\n"))
        vectors.append(buffer[space + 1 : space + 1 + size])
        at = space + 1 + size
    rows = np.frombuffer(b"".join(vectors), "<f4").reshape(-1, d)
    return words, rows, buffer[at:]
