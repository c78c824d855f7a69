"""JSON from anywhere, read with limits and without guessing; errors say what is wrong and where."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["LARGEST_TEXT", "MOST_GENES", "Fields", "kind_of", "parse", "read_text"]

LARGEST_TEXT = 16 * 2**20
"""Bytes of a text that is still read."""

MOST_GENES = 100_000
"""Genes in one list that is still read."""


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """Return the text of a file, after a look at its size.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is larger than `LARGEST_TEXT`, or no UTF-8; the message opens with ``what``.
    """
    # One byte more than is allowed is enough to know, whatever kind of file this is.
    with Path(path).open("rb") as file:
        data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        raise ValueError(f"{what}: {path} is larger than {LARGEST_TEXT} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what}: {path} is no UTF-8 text: {error}") from None


def parse(text: str, what: str) -> Fields:
    """Parse a JSON object.

    Raises:
        TypeError: ``text`` is no string.
        ValueError: it is too large or too deep, is no JSON, repeats a key, holds NaN or a number
            beyond float64, or is no object. Messages open with ``what``.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what}: expected text, got {type(text).__name__}")
    if len(text) > LARGEST_TEXT:
        raise ValueError(f"{what}: the text is larger than {LARGEST_TEXT} bytes")

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no number here")

    def number(digits: str) -> float:
        return value if math.isfinite(value := float(digits)) else refuse(digits[:40])

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"the key {twice!r} comes more than once in one object")
        return found

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=number, object_pairs_hook=once)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    except RecursionError:
        raise ValueError(f"{what}: nested too deep") from None
    return Fields(value, what)


class Fields:
    """An object from JSON whose fields are asked for by name and type.

    Args:
        value: what the text held at this place.
        where: the place, for messages.
    """

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected an object, got {kind_of(value)}")
        self.value = value
        self.where = where

    def only(self, known: Collection[str]) -> None:
        """Raise ValueError if there is any other key."""
        if unknown := sorted(set(self.value) - set(known)):
            raise ValueError(
                f"{self.where}: unknown key{'s' if len(unknown) > 1 else ''} "
                f"{', '.join(map(repr, unknown[:5]))}; expected {', '.join(known)}"
            )

    def whole(self, key: str) -> int:
        """Return an integer of at most 63 bits; True is none."""
        value = self._get(key)
        if type(value) is not int or not -(2**63) <= value < 2**63:
            self._refuse(key, "a whole number of at most 63 bits", value)
        return value

    def size(self, key: str) -> int:
        """Return an integer from 0 to `MOST_GENES`."""
        value = self._get(key)
        if type(value) is not int or not 0 <= value <= MOST_GENES:
            self._refuse(key, f"a whole number from 0 to {MOST_GENES}", value)
        return value

    def number(self, key: str) -> float:
        """Return a finite number."""
        value = self._get(key)
        if type(value) is int and abs(value) < 2**1023:
            return float(value)
        if type(value) is not float:
            self._refuse(key, "a number", value)
        return value

    def truth(self, key: str) -> bool:
        """Return true or false."""
        value = self._get(key)
        if type(value) is not bool:
            self._refuse(key, "true or false", value)
        return value

    def word(self, key: str) -> str:
        """Return a string."""
        value = self._get(key)
        if type(value) is not str:
            self._refuse(key, "a string", value)
        return value

    def part(self, key: str) -> Fields:
        """Return an object."""
        return Fields(self._get(key), f"{self.where}, {key}")

    def items(self, key: str) -> list[Any]:
        """Return a list of at most `MOST_GENES` values."""
        value = self._get(key)
        if type(value) is not list:
            self._refuse(key, "a list", value)
        if len(value) > MOST_GENES:
            raise ValueError(
                f"{self.where}: {key} has {len(value)} entries, expected at most {MOST_GENES}"
            )
        return value

    def parts(self, key: str) -> list[Fields]:
        """Return a list of objects."""
        values = self.items(key)
        return [Fields(value, f"{self.where}, {key}[{i}]") for i, value in enumerate(values)]

    def _get(self, key: str) -> Any:
        if key not in self.value:
            raise ValueError(f"{self.where}: the key {key!r} is missing")
        return self.value[key]

    def _refuse(self, key: str, expected: str, value: Any) -> NoReturn:
        raise ValueError(f"{self.where}: expected {key} to be {expected}, got {kind_of(value)}")


def kind_of(value: Any) -> str:
    """Name a value from JSON in a message, in a few words."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"
