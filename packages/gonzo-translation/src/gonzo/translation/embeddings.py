"""Word embeddings: the words of a language, most frequent first, with a vector each."""

from __future__ import annotations

import difflib
import itertools
import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from gonzo.translation.array_format import (
    read_npz,
    read_safetensors,
    write_npz,
    write_safetensors,
)
from gonzo.translation.atomic_file import replacing
from gonzo.translation.fasttext_format import read_fasttext
from gonzo.translation.file_kinds import embeddings_kind
from gonzo.translation.text_format import read_text, write_text
from gonzo.translation.word2vec_format import read_word2vec, write_word2vec
from gonzo.translation.word_table import ReadReport, ReadRules

__all__ = [
    "Embeddings",
    "ReadReport",
    "read_embeddings",
    "read_embeddings_with_report",
    "write_embeddings",
]

_log = logging.getLogger("gonzo.translation")
_ROWS = 4096  # checked at a time, so that the check takes no second copy of the vectors
_READERS = {
    "text": read_text,
    "word2vec": read_word2vec,
    "fasttext": read_fasttext,
    "npz": read_npz,
    "safetensors": read_safetensors,
}


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The words of one language with their vectors.

    Args:
        words: n different words, most frequent first: ranks are positions.
        vectors: (n, d) float32 or float64, finite. Rows of zeros are allowed; their similarity to
            everything is 0.

    Raises:
        ValueError: The numbers of words and vectors differ, a word occurs twice or is empty, a
            vector is not finite, or there is no word.
        TypeError: The vectors are not float32 or float64, or the words are one string.
    """

    words: tuple[str, ...]
    vectors: Tensor

    def __post_init__(self) -> None:
        if isinstance(self.words, str):
            raise TypeError(f"Embeddings: expected a sequence of words, got {self.words!r}")
        object.__setattr__(self, "words", tuple(self.words))
        vectors = self.vectors
        if not isinstance(vectors, Tensor) or vectors.dtype not in (torch.float32, torch.float64):
            got = vectors.dtype if isinstance(vectors, Tensor) else type(vectors).__name__
            raise TypeError(
                f"Embeddings: expected vectors as a float32 or float64 tensor, got {got}; "
                "convert them with torch.as_tensor(vectors).float()"
            )
        if vectors.ndim != 2 or len(vectors) != len(self.words) or not vectors.numel():
            raise ValueError(
                f"Embeddings: expected vectors of shape ({len(self.words)}, dimension) for "
                f"{len(self.words)} words, and at least one word, got {tuple(vectors.shape)}"
            )
        if not all(isinstance(word, str) and word for word in self.words):
            raise ValueError("Embeddings: expected words that are strings and not empty")
        if len(self.index) != len(self.words):
            twice = Counter(self.words).most_common(1)[0][0]
            raise ValueError(
                f"Embeddings: the word {twice!r} occurs more than once; keep one vector a word "
                "(read_embeddings keeps the first)"
            )
        for start in range(0, len(vectors), _ROWS):
            finite = torch.isfinite(vectors[start : start + _ROWS]).all(dim=1)
            if not finite.all():
                row = start + int((~finite).int().argmax())
                raise ValueError(
                    f"Embeddings: the vector of {self.words[row]!r} (row {row}) is not finite"
                )

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        shown = ", ".join(repr(word) for word in self.words[:3])
        return f"Embeddings({len(self):,} words of dimension {self.dim}: {shown}…)"

    @property
    def dim(self) -> int:
        """Numbers per vector."""
        return self.vectors.shape[1]

    @cached_property
    def index(self) -> Mapping[str, int]:
        """The row of every word."""
        return MappingProxyType({word: row for row, word in enumerate(self.words)})

    def row(self, word: str) -> int:
        """The row of one word.

        Raises:
            ValueError: The word is not in the vocabulary; the message names similar ones.
        """
        row = self.index.get(word)
        if row is not None:
            return row
        similar = self._similar(word)
        hint = f"; did you mean {' or '.join(repr(w) for w in similar)}?" if similar else ""
        raise ValueError(f"{word!r} is not among the {len(self):,} words{hint}")

    def _similar(self, word: str) -> list[str]:
        spellings = dict.fromkeys((word.lower(), word.capitalize(), word.upper(), word.strip()))
        found = [spelling for spelling in spellings if spelling in self.index]
        # Comparing with every word would take seconds in a large vocabulary.
        near = (w for w in self.words if w[:1] == word[:1] and abs(len(w) - len(word)) <= 2)
        close = difflib.get_close_matches(word, itertools.islice(near, 5000), n=3, cutoff=0.75)
        return list(dict.fromkeys([*found, *close]))[:3]

    def head(self, n: int) -> Embeddings:
        """The n most frequent words, or all if there are fewer; the vectors are a view.

        Raises:
            ValueError: n is below 1.
        """
        if n < 1:
            raise ValueError(f"Embeddings.head: expected at least 1 word, got {n}")
        return self if n >= len(self) else Embeddings(self.words[:n], self.vectors[:n])

    def to(self, dtype: torch.dtype) -> Embeddings:
        """The same words with vectors in another precision, float32 or float64.

        Raises:
            TypeError: The dtype is another one.
        """
        return (
            self if dtype == self.vectors.dtype else Embeddings(self.words, self.vectors.to(dtype))
        )


def read_embeddings(
    path: str | os.PathLike[str],
    *,
    max_words: int | None = 200_000,
    lowercase: bool = False,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = 4 * 2**30,
    allow_truncated: bool = False,
) -> Embeddings:
    """Read word embeddings; what was left out is logged, in one line.

    The format is found from the content and the name: text (``.vec``, ``.txt``, with or without a
    first line of counts), word2vec's binary ``.bin``, fastText's ``.bin`` and ``.ftz`` (with the
    extra ``[fasttext]``), ``.npz`` and ``.safetensors``. Text and word2vec files may be compressed
    with gzip, xz, bzip2 or as a zip of one file.

    Args:
        path: The file.
        max_words: Keep the first so many words; None keeps all.
        lowercase: Lower-case the words; of several spellings the first, most frequent, is kept.
        dtype: ``torch.float32`` or ``torch.float64``.
        max_bytes: The most the vectors may take in memory; a larger file is refused before.
        allow_truncated: Keep what an interrupted download has, instead of raising.

    Raises:
        ValueError: The file is damaged, incomplete, too large, or a pickle; with the place and the
            way out.
        FileNotFoundError: There is no such file.
    """
    embeddings, report = read_embeddings_with_report(
        path,
        max_words=max_words,
        lowercase=lowercase,
        dtype=dtype,
        max_bytes=max_bytes,
        allow_truncated=allow_truncated,
    )
    # Several spellings of a word are what lower-casing is for: worth a note, not a warning.
    only_spellings = lowercase and not report._replace(repeated=0).troubled
    if report.troubled:
        _log.log(logging.INFO if only_spellings else logging.WARNING, "%s: %s", path, report)
    return embeddings


def read_embeddings_with_report(
    path: str | os.PathLike[str],
    *,
    max_words: int | None = 200_000,
    lowercase: bool = False,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = 4 * 2**30,
    allow_truncated: bool = False,
) -> tuple[Embeddings, ReadReport]:
    """Read word embeddings as `read_embeddings` does, and say what was seen and left out."""
    if max_words is not None and max_words < 1:
        raise ValueError(
            f"read_embeddings: expected max_words of at least 1, or None for all, got {max_words}"
        )
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"read_embeddings: expected dtype torch.float32 or torch.float64, got {dtype}"
        )
    wide = np.dtype(np.float64 if dtype == torch.float64 else np.float32)
    rules = ReadRules(max_words, lowercase, wide, max_bytes, allow_truncated)
    path = Path(path)
    raw = _READERS[embeddings_kind(path)](path, rules)
    return Embeddings(raw.words, torch.from_numpy(raw.vectors)), raw.report


def write_embeddings(
    embeddings: Embeddings, path: str | os.PathLike[str], *, digits: int | None = None
) -> None:
    """Write embeddings in the format the suffix names; an older file is replaced only when done.

    ``.vec`` and ``.txt`` are text, ``.vec.gz`` compressed text, ``.bin`` word2vec's binary format
    (float32), ``.npz`` and ``.safetensors`` arrays.

    Args:
        embeddings: What to write.
        path: The file; missing folders are made.
        digits: Text only: digits after the point (MUSE's export has 5). None writes the fewest
            that read back as the same numbers.

    Raises:
        ValueError: The suffix names no format, a word does not fit the format (the message names
            one that holds it), or digits were given for a binary format.
    """
    path = Path(path)
    name = path.name.lower()
    words, vectors = embeddings.words, embeddings.vectors.detach().cpu().numpy()
    text = name.endswith((".vec", ".txt", ".vec.gz", ".txt.gz"))
    if not text and not name.endswith((".bin", ".npz", ".safetensors")):
        raise ValueError(
            f"write_embeddings: expected a name that ends in .vec, .vec.gz, .txt, .bin, .npz or "
            f".safetensors, got {path.name!r}"
        )
    if digits is not None and (not text or digits < 0):
        raise ValueError(
            f"write_embeddings: expected digits of at least 0 and for text alone, got {digits} "
            f"for {path.name!r}"
        )
    with replacing(path) as file:
        if name.endswith(".gz"):
            import gzip

            # No name and no time inside: the same embeddings give the same bytes.
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                write_text(packed, words, vectors, digits=digits)  # ty: ignore[invalid-argument-type]
        elif text:
            write_text(file, words, vectors, digits=digits)
        elif name.endswith(".bin"):
            write_word2vec(file, words, vectors)
        elif name.endswith(".npz"):
            write_npz(file, words, vectors)
        else:
            write_safetensors(file, words, vectors)
