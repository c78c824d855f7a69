"""Text, of any size, as a file of tokenized lines: what the engines that train embeddings read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gonzo.translation.compressed import opened
from gonzo.translation.tokenizing import Tokenizer

__all__ = ["Corpus", "Text", "write_corpus"]

Text = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""The path of a file, or several paths (`Path`), or lines of text (`str`)."""

_CHUNK_BYTES = 1 << 20
_LONGEST_RUN = 1 << 26  # bytes without a space or a line end
_LINE_WORDS = 1_000  # fastText cuts lines at 1,024 words and gensim at 10,000; so both see the same


@dataclass(frozen=True)
class Corpus:
    """A file of words, separated by spaces, in lines of at most 1,000.

    Attributes:
        path: the file, UTF-8.
        counts: how often each word occurs in it.
        lines: how many lines of text were read, with or without words.
    """

    path: Path
    counts: Counter[str] = field(default_factory=Counter)
    lines: int = 0

    def words(self, min_count: int) -> list[str]:
        """The words that occur `min_count` times or more, most frequent first, then by spelling."""
        kept = [(-count, word) for word, count in self.counts.items() if count >= min_count]
        return [word for _, word in sorted(kept)]


def write_corpus(text: Text, path: Path, tokenizer: Tokenizer) -> Corpus:
    """Tokenize text into the file `path`, a line at a time.

    Memory holds the different words, not the text.

    Args:
        text: a path, paths or lines; files are UTF-8, and may be compressed (gzip, xz, bzip2).
        path: the file to write.
        tokenizer: what a word is.

    Raises:
        OSError: A file cannot be read.
        TypeError: `text` is none of these.
        ValueError: A file is not UTF-8, or damaged; or `text` is text where a path is meant.
    """
    counts: Counter[str] = Counter()
    lines = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for line in _lines(text):
            lines += 1
            words = tokenizer(line)
            counts.update(words)
            for start in range(0, len(words), _LINE_WORDS):
                file.write(" ".join(words[start : start + _LINE_WORDS]) + "\n")
    return Corpus(path, counts, lines)


def _lines(text: Text) -> Iterator[str]:
    if isinstance(text, str) and "\n" in text:
        raise ValueError(
            "train_embeddings: expected the path of a file, or lines of text, got one string of "
            f"several lines ({text[:30]!r}…); pass text.splitlines()"
        )
    if isinstance(text, str | os.PathLike):
        yield from _file_lines(Path(text))
        return
    if isinstance(text, bytes) or not isinstance(text, Iterable):
        raise TypeError(
            f"train_embeddings: expected a path, paths, or lines of text, got {type(text).__name__}"
        )
    for item in text:
        if isinstance(item, str):
            yield item
        elif isinstance(item, os.PathLike):
            yield from _file_lines(Path(item))
        else:
            raise TypeError(
                "train_embeddings: expected lines of text (str) or paths (pathlib.Path), got "
                f"{type(item).__name__}"
            )


def _file_lines(path: Path) -> Iterator[str]:
    number = 0
    with opened(path) as reader:
        rest = b""
        while chunk := reader.read(_CHUNK_BYTES):
            whole, line_end, rest = (rest + chunk).rpartition(b"\n")
            # A file without line ends must not come into memory whole.
            if not line_end and len(rest) > _CHUNK_BYTES:
                whole, _, rest = rest.rpartition(b" ")
                if len(rest) > _LONGEST_RUN:
                    raise ValueError(
                        f"{path}: found {len(rest):,} bytes without a space or a line end, "
                        "expected text"
                    )
            for line in whole.split(b"\n") if whole else ():
                number += 1
                yield _decoded(line, path, number)
        if rest:
            yield _decoded(rest, path, number + 1)
        if reader.cut:
            raise ValueError(
                f"{path}: the compressed text ends early: an interrupted download? Fetch it again"
            )


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number:,}: expected text in UTF-8, found the byte "
            f"0x{line[error.start]:02x}; convert it, from Latin-1 say with: "
            f"iconv -f latin1 -t utf-8 {path.name}"
        ) from error
