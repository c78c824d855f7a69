"""Lexicons in the format of dictd: FreeDict's ``.index`` beside a ``.dict`` or ``.dict.dz``.

The index (https://datatracker.ietf.org/doc/html/rfc2229 is the protocol; the file format is in
dictd's manual) has lines of a key, the article's offset and its length in base 64. The
keys are folded for searching, so the words are taken from the articles, which FreeDict lays out as

    Hund /hˈʊnt/ <masc, n, sg>
     [zool.] dog <n>, hound <n>
       Synonym: {Köter}

with numbers before the senses where there are several, and with notes and examples indented.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from gonzo.translation.compressed import read_bytes, read_utf8

__all__ = ["read_dictd"]

_DIGITS = {
    letter: value
    for value, letter in enumerate(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    )
}
_ABOUT = ("00database", "00-database")
_BRACKETS = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|\([^()]*\)|\{[^{}]*\}")
_SOUND = re.compile(r"(^|\s)/[^/]*/")
_SENSE = re.compile(r"^\d+\.\s+")


def read_dictd(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the pairs of headword and translation, in the order of the articles.

    Args:
        path: Either file of the pair; the other lies beside it.

    Raises:
        FileNotFoundError: The other file is missing.
        ValueError: The index does not fit the articles, or a file is damaged or not UTF-8.
    """
    index, articles = _both(path)
    content = read_bytes(articles)
    for start, stop in _places(index, len(content), articles):
        try:
            text = content[start:stop].decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{articles}: the article at byte {start:,} is not UTF-8 ({error}); {index} may "
                "belong to another file"
            ) from error
        yield from _pairs(text)


def _both(path: Path) -> tuple[Path, Path]:
    name = path.name
    stem = name.removesuffix(".dz").removesuffix(".dict").removesuffix(".index")
    index = path.with_name(f"{stem}.index")
    if name == index.name:
        candidates = [path.with_name(f"{stem}{suffix}") for suffix in (".dict.dz", ".dict")]
        articles = next((c for c in candidates if c.exists()), candidates[0])
    else:
        articles = path
    for needed in (index, articles):
        if not needed.exists():
            raise FileNotFoundError(
                f"{needed}: a dictd dictionary is two files, {index.name} and {stem}.dict.dz (or "
                f"{stem}.dict), side by side; this one is missing"
            )
    return index, articles


def _places(index: Path, size: int, articles: Path) -> list[tuple[int, int]]:
    """Where each article starts and stops; several keys may lead to one."""
    found: set[tuple[int, int]] = set()
    for number, line in enumerate(read_utf8(index).split("\n"), start=1):
        if not line or line.startswith(_ABOUT):
            continue
        fields = line.rstrip("\r").split("\t")
        numbers = [_number(field) for field in fields[1:3]]
        if len(numbers) != 2 or None in numbers:
            raise ValueError(
                f"{index}, line {number:,}: expected a key, an offset and a length separated by "
                f"tabs, got {line[:80]!r}"
            )
        start, stop = numbers[0] or 0, (numbers[0] or 0) + (numbers[1] or 0)
        if stop > size:
            raise ValueError(
                f"{index}, line {number:,}: the article ends at byte {stop:,}, but {articles.name} "
                f"has {size:,}; it is cut off, or belongs to another index"
            )
        found.add((start, stop))
    return sorted(found)


def _number(text: str) -> int | None:
    """A number in dictd's base 64, most significant digit first."""
    value = 0
    for letter in text:
        if letter not in _DIGITS:
            return None
        value = value * 64 + _DIGITS[letter]
    return value if text else None


def _pairs(article: str) -> Iterator[tuple[str, str]]:
    head, _, body = article.partition("\n")
    head = _SOUND.sub(" ", _BRACKETS.sub("", head))
    headwords = [word.strip() for word in head.split(", ")]
    for line in body.split("\n"):
        indent = len(line) - len(line.lstrip())
        line = line.strip()
        if indent > 1 or not line or line.startswith("see: "):
            continue
        line = _SOUND.sub(" ", _BRACKETS.sub("", _SENSE.sub("", line)))
        for translation in re.split("[,;]", line):
            for headword in headwords:
                if headword and translation.strip():
                    yield headword, " ".join(translation.split())
