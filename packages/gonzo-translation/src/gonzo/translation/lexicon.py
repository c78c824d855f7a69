"""A bilingual word list: pairs of words, and the rows of two vocabularies they stand for."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gonzo.translation.atomic_file import replacing
from gonzo.translation.compressed import inner_suffix, opened
from gonzo.translation.dictd_format import read_dictd
from gonzo.translation.embeddings import Embeddings
from gonzo.translation.tei_format import read_tei
from gonzo.translation.word_list_format import read_word_list

__all__ = [
    "Lexicon",
    "LexiconReport",
    "LexiconRows",
    "identical_words",
    "read_lexicon",
    "read_lexicon_with_report",
    "write_lexicon",
]

_EXAMPLES = 8
_log = logging.getLogger("gonzo.translation")


class LexiconRows(NamedTuple):
    """A lexicon's pairs as rows of two vocabularies, and what became of all the others.

    ``found + missing_source + missing_target + missing_both`` is the lexicon's length.
    """

    pairs: Tensor
    """(found, 2) int64: source row, target row; in the lexicon's order."""
    found: int
    """Pairs with both words known."""
    missing_source: int
    """Pairs of which only the source word is unknown."""
    missing_target: int
    """Pairs of which only the target word is unknown."""
    missing_both: int
    """Pairs of which neither word is known."""
    examples: tuple[str, ...]
    """A few of the unknown words, in the lexicon's order."""

    def __str__(self) -> str:
        total = self.found + self.missing_source + self.missing_target + self.missing_both
        text = f"{self.found:,} of {total:,} pairs lie in both vocabularies"
        if self.found == total:
            return text
        return (
            f"{text}; unknown: the source word in {self.missing_source:,}, the target word in "
            f"{self.missing_target:,}, both in {self.missing_both:,}, such as "
            f"{', '.join(repr(word) for word in self.examples)}"
        )


class LexiconReport(NamedTuple):
    """What a reader of a lexicon saw: ``entries == pairs + several_words + repeated``."""

    format: str
    """``"list"``, ``"dictd"`` or ``"tei"``."""
    entries: int
    """Pairs in the file."""
    pairs: int
    """Pairs kept."""
    several_words: int
    """Pairs left out because a side is several words, which have no vector."""
    repeated: int
    """Pairs left out because they came before."""

    def __str__(self) -> str:
        return (
            f"{self.pairs:,} pairs kept of {self.entries:,}; left out: {self.several_words:,} of "
            f"several words, {self.repeated:,} repeated"
        )


@dataclass(frozen=True)
class Lexicon:
    """Pairs of a source word and a target word, each pair once, in the order they came in.

    A word may stand in several pairs. `Lexicon.of` drops repeated pairs.

    Raises:
        ValueError: A pair is not two words, or occurs twice.
    """

    pairs: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        for number, pair in enumerate(self.pairs):
            if len(pair) != 2 or not all(isinstance(word, str) and word for word in pair):
                raise ValueError(
                    f"Lexicon: expected pairs of a source word and a target word, got {pair!r} as "
                    f"pair {number}"
                )
        if len(set(self.pairs)) != len(self.pairs):
            twice = Counter(self.pairs).most_common(1)[0][0]
            raise ValueError(
                f"Lexicon: the pair {twice!r} occurs twice; Lexicon.of(pairs) keeps the first"
            )

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Lexicon:
        """Make a lexicon of pairs that may repeat; the first of each is kept."""
        return cls(tuple(dict.fromkeys((source, target) for source, target in pairs)))

    def __len__(self) -> int:
        return len(self.pairs)

    def __str__(self) -> str:
        return f"{len(self):,} pairs of {len(self.translations):,} source words"

    def swapped(self) -> Lexicon:
        """The same pairs for the other direction: target words become source words."""
        return Lexicon(tuple((target, source) for source, target in self.pairs))

    @cached_property
    def translations(self) -> Mapping[str, tuple[str, ...]]:
        """Every source word with all its translations, both in the order of the pairs."""
        found: dict[str, list[str]] = {}
        for source, target in self.pairs:
            found.setdefault(source, []).append(target)
        return {source: tuple(targets) for source, targets in found.items()}

    def rows(
        self, source: Embeddings | Sequence[str], target: Embeddings | Sequence[str]
    ) -> LexiconRows:
        """Look every pair up in two vocabularies.

        Args:
            source: Embeddings or words, whose positions are the rows.
            target: The same for the second words of the pairs.

        Returns:
            The pairs found, and counts and examples of those that were not.

        Raises:
            TypeError: A vocabulary is a single string.
        """
        from_rows, to_rows = _index(source, "source"), _index(target, "target")
        found: list[tuple[int, int]] = []
        missing = [0, 0, 0]  # source, target, both
        examples: dict[str, None] = {}
        for pair in self.pairs:
            i, j = from_rows.get(pair[0]), to_rows.get(pair[1])
            if i is not None and j is not None:
                found.append((i, j))
                continue
            missing[2 if i is None and j is None else 0 if i is None else 1] += 1
            if len(examples) < _EXAMPLES:
                examples.setdefault(pair[0] if i is None else pair[1])
        pairs = torch.tensor(found, dtype=torch.int64).reshape(-1, 2)
        return LexiconRows(pairs, len(found), *missing, tuple(examples))


def identical_words(
    source: Embeddings, target: Embeddings, *, min_length: int = 1, letters_only: bool = False
) -> Lexicon:
    """Pair every word that both vocabularies spell the same way with itself.

    Names, numbers and loans make this a usable start between languages of one script.

    Args:
        source: Embeddings; the pairs come in the order of these words.
        target: Embeddings.
        min_length: Characters a word must have.
        letters_only: Leave out words with digits, punctuation or other signs.

    Raises:
        ValueError: No word is left, which a mapping could not be learned from.
    """
    shared = [
        word
        for word in source.words
        if word in target.index and len(word) >= min_length and (not letters_only or word.isalpha())
    ]
    if not shared:
        raise ValueError(
            f"identical_words: the vocabularies ({len(source):,} and {len(target):,} words, such "
            f"as {source.words[0]!r} and {target.words[0]!r}) share no word of at least "
            f"{min_length} characters{' of letters alone' if letters_only else ''}; lower-case "
            "both with read_embeddings(..., lowercase=True), or start without a lexicon"
        )
    return Lexicon(tuple((word, word) for word in shared))


def read_lexicon(path: str | os.PathLike[str], *, lowercase: bool = False) -> Lexicon:
    """Read pairs of words; what was left out is logged, in one line.

    The format is found from the name and the content: two words a line with a space or tab between
    (MUSE's dictionaries), tables with tabs (further columns are ignored), and FreeDict's
    dictionaries, as TEI (``.tei``) or for dictd (``.index`` with ``.dict`` or ``.dict.dz``). All
    may be compressed with gzip, xz or bzip2. Pairs with several words on a side are left out.

    Args:
        path: The file; of a dictd pair, either.
        lowercase: Lower-case the words, to fit embeddings read so.

    Raises:
        ValueError: A line is not two words, the file is damaged or not UTF-8, or no pair is left.
        FileNotFoundError: There is no such file.
    """
    lexicon, report = read_lexicon_with_report(path, lowercase=lowercase)
    if report.pairs < report.entries:
        _log.info("%s: %s", path, report)
    return lexicon


def read_lexicon_with_report(
    path: str | os.PathLike[str], *, lowercase: bool = False
) -> tuple[Lexicon, LexiconReport]:
    """Read pairs of words as `read_lexicon` does, and say what was left out."""
    path = Path(path)
    kind = _kind(path)
    entries = several = 0
    kept: dict[tuple[str, str], None] = {}
    for pair in {"list": read_word_list, "dictd": read_dictd, "tei": read_tei}[kind](path):
        entries += 1
        if any(re.search(r"\s", word) for word in pair):
            several += 1
            continue
        kept[(pair[0].lower(), pair[1].lower()) if lowercase else pair] = None
    if not kept:
        raise ValueError(
            f"{path}: expected pairs of words, found none"
            + (f" among {entries:,} entries, all of several words" if entries else "")
        )
    report = LexiconReport(kind, entries, len(kept), several, entries - several - len(kept))
    return Lexicon(tuple(kept)), report


def write_lexicon(lexicon: Lexicon, path: str | os.PathLike[str]) -> None:
    """Write a pair a line with a tab between, which `read_lexicon` and MUSE read.

    Raises:
        ValueError: A word holds a tab or a line end.
    """
    for pair in lexicon.pairs:
        if any(re.search(r"[\t\r\n]", word) for word in pair):
            raise ValueError(f"write_lexicon: the pair {pair!r} holds a tab or a line end")
    with replacing(Path(path)) as file:
        file.write("".join(f"{source}\t{target}\n" for source, target in lexicon.pairs).encode())


def _kind(path: Path) -> str:
    if inner_suffix(path) in (".index", ".dict"):
        return "dictd"
    with opened(path) as reader:
        start = reader.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    return "tei" if start.startswith((b"<?xml", b"<TEI", b"<!DOCTYPE")) else "list"


def _index(vocabulary: Embeddings | Sequence[str], side: str) -> Mapping[str, int]:
    if isinstance(vocabulary, Embeddings):
        return vocabulary.index
    if isinstance(vocabulary, str):
        raise TypeError(
            f"Lexicon.rows: expected the {side} vocabulary as Embeddings or a sequence of words, "
            f"got the string {vocabulary!r}"
        )
    index: dict[str, int] = {}
    for row, word in enumerate(vocabulary):
        index.setdefault(word, row)
    return index
