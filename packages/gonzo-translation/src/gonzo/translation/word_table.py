"""Words and vectors as they come out of a file: kept once, counted, within a memory limit.

Every format's reader feeds its entries to one `WordTable`, so that a repeated word, a vector of
zeros or an infinity is treated the same way whatever file it came in.

Deviation: MUSE writes 0.01 into the first coordinate of a vector of zeros; here it stays zero and
is counted, and its similarity to everything is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["RawEmbeddings", "ReadReport", "ReadRules", "WordTable"]


class ReadReport(NamedTuple):
    """What a reader of embeddings saw, and what it left out.

    ``entries == words + repeated + undecodable + unnamed``: nothing is dropped uncounted.
    """

    format: str
    """``"text"``, ``"word2vec"``, ``"fasttext"``, ``"npz"`` or ``"safetensors"``."""
    claimed: int | None
    """Words that the file says it holds; None in a text file without a first line of counts."""
    entries: int
    """Entries read, which ``max_words`` may have ended early."""
    words: int
    """Entries kept."""
    repeated: int
    """Entries whose word (lower-cased, if that was asked) came before; the first is kept."""
    zeros: int
    """Kept vectors that are all zeros; their similarity to everything is 0."""
    undecodable: int
    """Entries left out because their word is not UTF-8."""
    unnamed: int
    """Entries left out because their word is empty."""
    truncated: bool
    """The file ends before it is complete, and ``allow_truncated`` kept what there was."""

    @property
    def troubled(self) -> bool:
        """Whether anything was left out or is odd enough to tell the user."""
        return self.truncated or any((self.repeated, self.zeros, self.undecodable, self.unnamed))

    def __str__(self) -> str:
        notes = [
            f"{count:,} {what}"
            for count, what in (
                (self.repeated, "repeated words left out"),
                (self.undecodable, "words left out that are not UTF-8"),
                (self.unnamed, "entries left out without a word"),
                (self.zeros, "vectors of zeros kept"),
            )
            if count
        ]
        if self.truncated:
            promised = "" if self.claimed is None else f" before the {self.claimed:,} it promises"
            notes.append(f"the file ends{promised}")
        return "; ".join([f"{self.words:,} words kept of {self.entries:,} read", *notes])


@dataclass(frozen=True)
class ReadRules:
    """How much of a file to keep, and in which form.

    Args:
        max_words: Words to keep, the first ones; None for all.
        lowercase: Lower-case the words; of several spellings the first is kept.
        dtype: numpy's float32 or float64.
        max_bytes: The most the vectors may take in memory.
        allow_truncated: Keep what an incomplete file has instead of raising.
    """

    max_words: int | None
    lowercase: bool
    dtype: np.dtype
    max_bytes: int
    allow_truncated: bool


class RawEmbeddings(NamedTuple):
    """Words, their vectors (n, d) and the report."""

    words: tuple[str, ...]
    vectors: NDArray
    report: ReadReport


class WordTable:
    """Collects entries in file order; room is made for ``claimed`` words, or grows without it.

    Args:
        path: The file, for messages.
        kind: The format's name in the report.
        dimension: Numbers per word.
        claimed: Words the file says it holds, or None.
        rules: What to keep.

    Raises:
        ValueError: The vectors would take more than ``rules.max_bytes``; raised before they do.
    """

    def __init__(
        self, path: Path, kind: str, dimension: int, claimed: int | None, rules: ReadRules
    ) -> None:
        self._path, self._kind, self._claimed, self._rules = path, kind, claimed, rules
        self.dimension = dimension
        self._index: dict[str, None] = {}
        self._entries = self._repeated = self._zeros = self._undecodable = self._unnamed = 0
        limit = rules.max_words
        wanted = 1024 if claimed is None else claimed
        self._vectors = self._room(wanted if limit is None else min(wanted, limit))

    def _room(self, rows: int) -> NDArray:
        self._check_size(rows)
        return np.empty((rows, self.dimension), self._rules.dtype)

    def _check_size(self, rows: int) -> None:
        needed = rows * self.dimension * self._rules.dtype.itemsize
        if needed > self._rules.max_bytes:
            raise ValueError(
                f"{self._path}: {rows:,} words of {self.dimension:,} numbers take "
                f"{needed / 2**20:,.0f} MiB, more than max_bytes = "
                f"{self._rules.max_bytes / 2**20:,.0f} MiB; keep fewer with max_words=, or allow "
                "more with max_bytes="
            )

    @property
    def full(self) -> bool:
        """Whether ``max_words`` words are kept, so that reading can end."""
        return self._rules.max_words is not None and len(self._index) >= self._rules.max_words

    @property
    def entries(self) -> int:
        """Entries seen so far, kept or not."""
        return self._entries

    def add(
        self, words: Sequence[bytes | str], vectors: NDArray, *, place: str, numbers: Sequence[int]
    ) -> None:
        """Take the next entries of the file.

        Args:
            words: b words, as bytes in UTF-8 or decoded.
            vectors: (b, d), any floating dtype.
            place: What the numbers count, for messages: ``"line"`` or ``"entry"``.
            numbers: b of them: where each entry stands in the file.

        Raises:
            ValueError: A vector that is to be kept has a NaN or an infinity.
        """
        rows = self._choose(words)
        if len(rows) < len(words):
            vectors = vectors[rows]
        start = len(self._index) - len(rows)
        self._grow(len(self._index))
        kept = self._vectors[start : len(self._index)]
        with np.errstate(over="ignore"):  # too large for float32 is reported below as infinite
            kept[:] = vectors
        bad = ~np.isfinite(kept).all(axis=1)
        if bad.any():
            row = rows[int(bad.argmax())]
            number = next(x for x in kept[int(bad.argmax())].tolist() if not np.isfinite(x))
            raise ValueError(
                f"{self._path}, {place} {numbers[row]:,}: the vector of {show(words[row])} holds "
                f"{number}, expected finite numbers of {self._rules.dtype}; the training that "
                "wrote the file diverged, or the file is damaged"
            )
        self._zeros += int((~kept.any(axis=1)).sum())

    def _choose(self, words: Sequence[bytes | str]) -> list[int]:
        rows: list[int] = []
        index, lowercase = self._index, self._rules.lowercase
        for row, raw in enumerate(words):
            if self.full:
                break
            self._entries += 1
            try:
                word = raw.decode() if isinstance(raw, bytes) else raw
            except UnicodeDecodeError:
                self._undecodable += 1
                continue
            if lowercase:
                word = word.lower()
            if not word:
                self._unnamed += 1
            elif word in index:
                self._repeated += 1
            else:
                index[word] = None
                rows.append(row)
        return rows

    def _grow(self, rows: int) -> None:
        if rows <= len(self._vectors):
            return
        room = max(rows, 2 * len(self._vectors))
        if self._rules.max_words is not None:
            room = min(room, self._rules.max_words)
        most = self._rules.max_bytes // (self.dimension * self._rules.dtype.itemsize)
        room = max(rows, min(room, most))
        self._check_size(room)
        self._vectors.resize((room, self.dimension), refcheck=False)

    def finish(self, *, truncated: bool = False) -> RawEmbeddings:
        """The words and vectors kept, and the report.

        Args:
            truncated: The file ended early, which is an error unless the rules allow it.

        Raises:
            ValueError: The file is incomplete and that is not allowed, or no word was kept.
        """
        if truncated and not self._rules.allow_truncated:
            of = f" of {self._claimed:,}" if self._claimed is not None else ""
            raise ValueError(
                f"{self._path}: the file ends after {self._entries:,}{of} words: an interrupted "
                "download? Fetch it again, or keep what is there with allow_truncated=True"
            )
        if not self._index:
            unread = (
                f": all {self._undecodable:,} words are in another encoding than UTF-8; convert "
                "the file, with iconv say"
                if self._undecodable
                else ""
            )
            raise ValueError(
                f"{self._path}: expected at least one word with a vector, found none{unread}"
            )
        self._vectors.resize((len(self._index), self.dimension), refcheck=False)
        report = ReadReport(
            self._kind,
            self._claimed,
            self._entries,
            len(self._index),
            self._repeated,
            self._zeros,
            self._undecodable,
            self._unnamed,
            truncated,
        )
        return RawEmbeddings(tuple(self._index), self._vectors, report)


def show(word: bytes | str) -> str:
    """A word as a message shows it: quoted, decoded as far as it goes, not too long."""
    text = word.decode(errors="backslashreplace") if isinstance(word, bytes) else word
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
