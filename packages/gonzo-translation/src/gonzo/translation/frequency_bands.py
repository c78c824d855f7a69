"""Parts of a word translation result: by how frequent the words are, and without equal strings.

Both matter when a number is read: rare words have worse vectors, and a word that is its own
translation (a name, a number, a loanword) can be found from its letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch

from gonzo.translation.word_translation_scores import WordTranslation

__all__ = ["Band", "by_frequency", "only_identical", "without_identical"]


class Band(NamedTuple):
    """Words of similar frequency: ranks first … stop - 1, from 0; of the last band stop is None."""

    first: int
    stop: int | None
    scores: WordTranslation

    def __str__(self) -> str:
        """Ranks as people count them, from 1: "501–2000", "2001–"."""
        return f"{self.first + 1}–{'' if self.stop is None else self.stop}"


def by_frequency(
    result: WordTranslation, *, edges: Sequence[int] = (500, 2_000, 5_000, 10_000)
) -> tuple[Band, ...]:
    """Split a result by the frequency rank of the source word, which is its row.

    Args:
        result: of `word_translation` on vocabularies with the most frequent word first.
        edges: ranks at which a new band starts, ascending, above 0.

    Returns:
        One band more than edges, from the most frequent; a band can be empty.

    Raises:
        ValueError: edges that do not ascend from at least 1.
    """
    bounds = [0, *edges]
    if any(a >= b for a, b in pairwise(bounds)):
        raise ValueError(f"expected edges that ascend from at least 1, got {tuple(edges)}")
    bands = []
    for first, stop in zip(bounds, [*edges, None], strict=True):
        inside = result.words >= first
        if stop is not None:
            inside &= result.words < stop
        bands.append(Band(first, stop, result.subset(inside)))
    return tuple(bands)


def without_identical(
    result: WordTranslation, source_words: Sequence[str], target_words: Sequence[str]
) -> WordTranslation:
    """Keep the words that are not their own translation in the dictionary.

    A word with several translations goes if one of them is itself.

    Args:
        result: of `word_translation`.
        source_words: of the vocabulary, by row.
        target_words: of the vocabulary, by row.

    Raises:
        ValueError: fewer words than the rows of the result.
    """
    return result.subset(~_identical(result, source_words, target_words))


def only_identical(
    result: WordTranslation, source_words: Sequence[str], target_words: Sequence[str]
) -> WordTranslation:
    """Keep the words that `without_identical` drops; same arguments, same errors."""
    return result.subset(_identical(result, source_words, target_words))


def _identical(
    result: WordTranslation, source_words: Sequence[str], target_words: Sequence[str]
) -> torch.Tensor:
    for column, (name, words) in enumerate((("source", source_words), ("target", target_words))):
        needed = 1 + int(result.gold[:, column].max()) if len(result.gold) else 0
        if len(words) < needed:
            raise ValueError(
                f"expected the {name} vocabulary of the result, at least {needed} words, got "
                f"{len(words)}"
            )
    own = [
        source
        for source, target in result.gold.tolist()
        if source_words[source] == target_words[target]
    ]
    return torch.isin(result.words, result.words.new_tensor(own))
