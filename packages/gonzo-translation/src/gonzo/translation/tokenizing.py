"""Text to words: the one tokenizer that training, evaluation and the recipes share.

A word is a run of letters and the marks on them (Unicode categories L and M). Digits, punctuation
and symbols end a word and are dropped. Text is composed first (Unicode NFC), so that one word has
one spelling, however its accents were typed.
"""

import functools
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

_APOSTROPHES = ("split", "left", "keep")
_HYPHENS = ("split", "keep")

# Typographic variants become the typed sign; a soft hyphen is not part of the spelling.
_VARIANTS = str.maketrans({"’": "'", "ʼ": "'", "\u2010": "-", "\u2011": "-", "\u00ad": None})

_LAST_BASIC = 0xFFFF
_LAST = 0x3FFFF  # the planes beyond it have no letters
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Tokenizer:
    """Splits text into words.

    Args:
        lowercase: whether to write every word in lower case.
        apostrophes: what one between two letters does: `"split"` ends the word and is dropped
            (l'eau: l, eau; don't: don, t), `"left"` ends the word and stays with it, as French
            and Italian elide (l'eau: l', eau), `"keep"` is part of the word (don't: don't).
        hyphens: what one between two letters does: `"split"` ends the word and is dropped,
            `"keep"` is part of the word (arc-en-ciel).

    Raises:
        ValueError: `apostrophes` or `hyphens` is none of these.

    Example:
        >>> Tokenizer()("L’eau coûte 3 €.")
        ['l', 'eau', 'coûte']
    """

    lowercase: bool = True
    apostrophes: Literal["split", "left", "keep"] = "split"
    hyphens: Literal["split", "keep"] = "split"

    def __post_init__(self) -> None:
        _check("apostrophes", self.apostrophes, _APOSTROPHES)
        _check("hyphens", self.hyphens, _HYPHENS)

    def __call__(self, text: str) -> list[str]:
        """Return the words of `text`, in order.

        Raises:
            TypeError: `text` is not a string.
        """
        if not isinstance(text, str):
            raise TypeError(f"Tokenizer: expected text (str), got {type(text).__name__}")
        if self.lowercase:
            text = text.lower()
        text = unicodedata.normalize("NFC", text.translate(_VARIANTS))
        last = _LAST if _ASTRAL.search(text) else _LAST_BASIC
        return _pattern(self.apostrophes, self.hyphens, last).findall(text)


def _check(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        listed = ", ".join(map(repr, choices[:-1]))
        raise ValueError(
            f"Tokenizer: expected {name} to be {listed} or {choices[-1]!r}, got {value!r}"
        )


@functools.cache
def _pattern(apostrophes: str, hyphens: str, last: int) -> re.Pattern[str]:
    letter = f"[{_ranges('L', last)}]"
    run = f"{letter}[{_ranges('LM', last)}]*"
    inside = ("'" if apostrophes == "keep" else "") + ("-" if hyphens == "keep" else "")
    word = f"{run}(?:[{inside}]{run})*" if inside else run
    return re.compile(f"{word}(?:'(?={letter}))?" if apostrophes == "left" else word)


@functools.cache
def _ranges(categories: str, last: int) -> str:
    # Up to U+FFFF the regular expression engine looks a character up in a bitmap, beyond it in a
    # list of ranges, ten times slower. So the long list is used only for text that needs it.
    ranges: list[list[int]] = []
    for code in range(last + 1):
        if unicodedata.category(chr(code))[0] in categories:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(end)}" for first, end in ranges)
