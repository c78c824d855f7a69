"""Embeddings as text: a line of counts, then a word and its numbers on every line.

The format of word2vec's text output and of fastText's ``.vec``; GloVe's files are the same without
the line of counts. Lines end at a newline alone and words at a space, because real vocabularies
hold Unicode's other spaces and line ends; a word may even hold plain spaces, since the last
``d`` fields of a line are its numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gonzo.translation.compressed import Reader, opened
from gonzo.translation.word_table import RawEmbeddings, ReadRules, WordTable, show

__all__ = ["read_text", "write_text"]

_BLOCK = 1 << 22  # bytes of text in memory at a time
_LONGEST_LINE = 1 << 26
_MOST_NUMBERS = 1 << 24  # that room is made for at a time; a block of real lines has fewer
_FIELD = re.compile(rb"[^ \t]+")
_COUNT = re.compile(rb"-?\d{1,18}")
_COMPONENT = re.compile(rb"[-+]?\d*\.\d+([eE][-+]?\d+)?|[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def read_text(path: Path, rules: ReadRules) -> RawEmbeddings:
    """Read a text file of vectors, compressed or not.

    Raises:
        ValueError: The first line is neither counts nor a vector, a line has another number of
            numbers, the counts are wrong, or the file is cut off; with the line and the way out.
    """
    with opened(path) as reader:
        lines = _Lines(reader, path)
        blocks = lines.blocks()
        first = next(blocks, None)
        head, more, body = (lines.rest if first is None else first).partition(b"\n")
        head = head.removeprefix(b"\xef\xbb\xbf")
        if first is None and not head:
            what = (
                "one cut off before its first line: fetch it again"
                if reader.cut
                else "an empty file"
            )
            raise ValueError(f"{path}: expected word vectors, found {what}")
        counts = _counts(head, path)
        claimed, dimension = counts or (None, _width(head, path))
        if first is None:
            lines.rest = b"" if counts else head
        elif not counts:
            blocks = chain([head + more + body], blocks)
        elif more:
            blocks = chain([body], blocks)
        table = WordTable(path, "text", dimension, claimed, rules)
        number = 2 if counts else 1
        for block in blocks:
            number += _add(table, block, number, path, rules.dtype)
            if table.full:
                return table.finish()
            _check_surplus(table, claimed, blocks, lines, path)
        cut = reader.cut
        rest, lines.rest = lines.rest, b""
        if rest.strip():
            # A line that no newline ends may be cut within a number, where nothing shows it.
            short = claimed is not None and table.entries + 1 < claimed
            if cut or short or not _whole(rest, dimension):
                cut = True
            else:
                _add(table, rest, number, path, rules.dtype)
                if table.full:
                    return table.finish()
                _check_surplus(table, claimed, blocks, lines, path)
        return table.finish(truncated=cut or (claimed is not None and table.entries < claimed))


def write_text(
    file: BinaryIO, words: Sequence[str], vectors: NDArray, *, digits: int | None
) -> None:
    """Write the line of counts and a line per word.

    Args:
        file: Opened for writing bytes.
        words: n words without line ends, and without spaces at their edges.
        vectors: (n, d) float32 or float64.
        digits: Digits after the point; None writes the fewest that read back as the same number.

    Raises:
        ValueError: A word could not be read back.
    """
    for word in words:
        if not word or "\n" in word or word != word.strip(" \t\r"):
            raise ValueError(
                f"the text format cannot hold the word {show(word)}: expected words without line "
                "ends and without spaces at their edges; write .npz or .safetensors"
            )
        if " " in word and _COMPONENT.fullmatch(word.rpartition(" ")[2].encode()):
            raise ValueError(
                f"the text format cannot hold the word {show(word)}: its end would be read as a "
                "number of the vector; write .npz or .safetensors"
            )
    file.write(f"{len(words)} {vectors.shape[1]}\n".encode())
    form = None if digits is None else " ".join([f"%.{digits}f"] * vectors.shape[1])
    for word, vector in zip(words, vectors, strict=True):
        numbers = (
            " ".join(vector.astype("U").tolist()) if form is None else form % tuple(vector.tolist())
        )
        file.write(f"{word} {numbers}\n".encode())


class _Lines:
    """A stream as blocks of whole lines; ``rest`` is what follows the last newline."""

    def __init__(self, reader: Reader, path: Path) -> None:
        self._reader, self._path = reader, path
        self.rest = b""

    def blocks(self) -> Iterator[bytes]:
        while piece := self._reader.read(_BLOCK):
            whole, newline, self.rest = (self.rest + piece).rpartition(b"\n")
            if newline:
                yield whole
            elif len(self.rest) > _LONGEST_LINE:
                raise ValueError(
                    f"{self._path}: found {len(self.rest):,} bytes without a line end, expected a "
                    "text file with a word and its vector on every line"
                )


def _counts(head: bytes, path: Path) -> tuple[int, int] | None:
    """The numbers of words and of dimensions, if the first line is that."""
    fields = head.split()
    if len(fields) != 2 or not all(_COUNT.fullmatch(field) for field in fields):
        return None
    words, dimension = int(fields[0]), int(fields[1])
    if words < 1 or dimension < 1:
        raise ValueError(
            f"{path}, line 1: expected how many words and how many numbers each, both at least 1, "
            f"got {show(head)}"
        )
    return words, dimension


def _width(head: bytes, path: Path) -> int:
    """How many numbers follow the word in the first line of a file without a line of counts."""
    fields = _FIELD.findall(head.rstrip(b"\r"))
    width = 0
    while width < len(fields) - 1 and _is_number(fields[-1 - width]):
        width += 1
    if not width:
        what = f"got {show(head)}" if fields else "got an empty line"
        raise ValueError(
            f'{path}, line 1: expected "words dimension" (as in "200000 300") or a word and its '
            f"numbers, {what}; is this a file of word vectors?"
        )
    return width


def _add(table: WordTable, block: bytes, number: int, path: Path, dtype: np.dtype) -> int:
    """Parse whole lines into the table; returns how many lines they were."""
    from gonzo.translation.text_numbers import parse_lines

    count = block.count(b"\n") + 1
    if count > 1 and count * table.dimension > _MOST_NUMBERS:  # many of the lines are blank
        cut = block.rfind(b"\n", 0, len(block) // 2)
        cut = block.find(b"\n") if cut < 0 else cut
        above = _add(table, block[:cut], number, path, dtype)
        return above + _add(table, block[cut + 1 :], number + above, path, dtype)
    numbers = np.empty((count, table.dimension), dtype)
    bounds = np.empty((count, 3), np.int64)
    good = np.empty(count, np.bool_)
    parse_lines(np.frombuffer(block, np.uint8), numbers, bounds, good)
    words: list[bytes] = []
    kept: list[int] = []
    for row, (start, word_end, end) in enumerate(bounds.tolist()):
        word = block[start:word_end]
        if not good[row]:
            line = block[start:end]
            if not line.strip():
                continue
            word, values = _slow(line, table.dimension, f"{path}, line {number + row:,}")
            with np.errstate(over="ignore"):  # an infinity is an error where it is counted
                numbers[row] = values
        words.append(word)
        kept.append(row)
    if len(kept) < count:
        numbers = numbers[kept]
    table.add(words, numbers, place="line", numbers=[number + row for row in kept])
    return count


def _slow(line: bytes, d: int, where: str) -> tuple[bytes, list[float]]:
    """One line of any shape, or the error that says what is wrong with it."""
    split = _split(line, d)
    tail = split[0].split(b" ")[1:] if split else []
    if split is None or (tail and _COMPONENT.fullmatch(tail[-1])):
        parts = _FIELD.findall(line)
        found = 0
        while found < len(parts) - 1 and _is_number(parts[-1 - found]):
            found += 1
        raise ValueError(
            f"{where}: expected {d:,} numbers after the word {show(parts[0])}, found "
            f"{found if found else len(parts) - 1:,}; the line is damaged, or the file was "
            "written by something else"
        )
    word, fields = split
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = None
    if values is None or any(b"_" in field for field in fields):
        odd = next(field for field in fields if not _is_number(field))
        raise ValueError(
            f"{where}: expected {d:,} numbers after the word {show(word)}, found {show(odd)} "
            "among them"
        )
    return word, values


def _split(line: bytes, d: int) -> tuple[bytes, list[bytes]] | None:
    """The word, which may be empty or hold spaces, and the last d fields, if there are so many."""
    spans = [match.span() for match in _FIELD.finditer(line.rstrip(b"\r"))]
    if len(spans) < d or (len(spans) == d and line[:1] not in (b" ", b"\t")):
        return None
    spans = spans[-d:]
    return line[: spans[0][0]].strip(b" \t"), [line[start:end] for start, end in spans]


def _whole(line: bytes, d: int) -> bool:
    split = _split(line, d)
    return split is not None and all(_is_number(field) for field in split[1])


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return b"_" not in field


def _check_surplus(
    table: WordTable, claimed: int | None, blocks: Iterator[bytes], lines: _Lines, path: Path
) -> None:
    if claimed is None or table.entries <= claimed:
        return
    found = table.entries + sum(
        1 for block in blocks for line in block.split(b"\n") if line.strip()
    )
    found += bool(lines.rest.strip())
    raise ValueError(
        f"{path}: the first line says {claimed:,} words, but {found:,} follow; correct the first "
        f"line, or take the first ones with max_words={claimed}"
    )
