"""Lexicons as lines of two words: MUSE's dictionaries and tables with tabs.

A line with a tab is split at tabs, so that its words may hold spaces and further columns are
ignored; a line without is two words with spaces between them, as in MUSE's files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from gonzo.translation.compressed import read_utf8

__all__ = ["read_word_list"]


def read_word_list(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a file in its order; blank lines are skipped.

    Raises:
        ValueError: A line is not two words, with the line; or the file is not UTF-8 or cut off.
    """
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        line = line.strip(" \r")
        if not line.strip():
            continue
        fields = line.split("\t") if "\t" in line else re.split(" +", line)
        words = [field.strip(" \r") for field in fields[:2]]
        if len(fields) < 2 or not all(words) or ("\t" not in line and len(fields) > 2):
            raise ValueError(
                f"{path}, line {number:,}: expected a source word and a target word, separated by "
                f"a space or a tab, got {line[:80]!r}; words of several parts need a tab between"
            )
        yield words[0], words[1]
