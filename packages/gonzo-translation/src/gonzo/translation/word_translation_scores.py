"""Word translation judged by a dictionary: precision at 1, 5 and 10.

A source word counts once, however many translations the dictionary gives, and is a hit at k if any
of them is among the k words found. The search is over the whole target vocabulary.

Source: Conneau, Lample, Ranzato, Denoyer and Jégou: Word Translation Without Parallel Data (2018),
section 3.2, table 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gonzo.translation.hit_ranks import Interval, check_ks, hit_ranks, wilson_interval
from gonzo.translation.retrieval import Method, retrieve

if TYPE_CHECKING:
    from gonzo.translation.lexicon import LexiconRows

__all__ = ["MissingPairs", "WordTranslation", "word_translation"]


class MissingPairs(NamedTuple):
    """How many pairs of a dictionary could not be judged, by the side whose word is unknown."""

    source: int
    target: int
    both: int


@dataclass(frozen=True, eq=False)
class WordTranslation:
    """The outcome, word by word, from which every figure is computed; its tensors are on the CPU.

    Args:
        method: the score that ranked the targets.
        ks: ascending.
        words: (q,) int64 source rows that were judged, ascending, each once.
        found: (q, largest k) int64 target rows, the best first.
        ranks: (q,) int64, where the first right one stands in `found`, from 0; a word without one
            has the width of `found`.
        gold: (p, 2) int64, the pairs that judged them.
        gold_words: distinct source words of the whole dictionary, those that no pair of `gold` has
            among them; None if not told.
        missing: pairs of the dictionary that are not in `gold`; None if not told.
    """

    method: Method
    ks: tuple[int, ...]
    words: Tensor
    found: Tensor
    ranks: Tensor
    gold: Tensor
    gold_words: int | None = None
    missing: MissingPairs | None = None

    def __len__(self) -> int:
        """Words judged."""
        return len(self.words)

    def hits(self, k: int) -> Tensor:
        """Return (q,) bool, the words that have a right translation among the first k.

        Raises:
            ValueError: k is larger than the largest of `ks`.
        """
        if not 1 <= k <= self.ks[-1]:
            raise ValueError(f"expected k in 1 … {self.ks[-1]}, what was searched for, got {k}")
        return self.ranks < min(k, self.found.shape[1])

    @property
    def precision(self) -> dict[int, float]:
        """Share of the judged words that are hits, by k; NaN of no words."""
        return {k: self._share(k, len(self)) for k in self.ks}

    @property
    def covered_precision(self) -> dict[int, float]:
        """Share of all source words of the dictionary that are hits: an unknown word is a miss.

        Raises:
            ValueError: the result does not know how many words the dictionary has.
        """
        if self.gold_words is None:
            raise ValueError(
                "covered_precision needs the number of source words in the whole dictionary: give "
                "word_translation(…, gold_words=len(lexicon.translations))"
            )
        return {k: self._share(k, self.gold_words) for k in self.ks}

    @property
    def coverage(self) -> float | None:
        """Share of the dictionary's source words that were judged; None if not told."""
        return len(self) / self.gold_words if self.gold_words else None

    def interval(self, k: int = 1, *, confidence: float = 0.95) -> Interval:
        """Give Wilson's interval of the precision at k."""
        return wilson_interval(int(self.hits(k).sum()), len(self), confidence=confidence)

    def subset(self, keep: Tensor) -> WordTranslation:
        """Return the result of some of the words.

        What the dictionary has beyond the judged words belongs to no subset, so `gold_words` and
        `missing` of the subset are None.

        Args:
            keep: (q,) bool.

        Raises:
            ValueError: another shape or dtype.
        """
        if keep.shape != self.words.shape or keep.dtype != torch.bool:
            raise ValueError(
                f"expected a bool of shape ({len(self)},), one for each judged word, got "
                f"{keep.dtype} of shape {tuple(keep.shape)}"
            )
        words = self.words[keep]
        return replace(
            self,
            words=words,
            found=self.found[keep],
            ranks=self.ranks[keep],
            gold=self.gold[torch.isin(self.gold[:, 0], words)],
            gold_words=None,
            missing=None,
        )

    def _share(self, k: int, of: int) -> float:
        return int(self.hits(k).sum()) / of if of else float("nan")


def word_translation(
    source: Tensor,
    target: Tensor,
    gold: Tensor | LexiconRows,
    *,
    method: Method = "csls",
    ks: Iterable[int] = (1, 5, 10),
    neighbours: int = 10,
    temperature: float = 30.0,
    gold_words: int | None = None,
) -> WordTranslation:
    """Translate the source words of a dictionary and count how often it agrees.

    Args:
        source: (n, d) mapped vectors of the whole source vocabulary, not only of the dictionary's
            words: CSLS and the inverted softmax need it.
        target: (m, d) vectors of the whole target vocabulary, which is what is searched.
        gold: (p, 2) int64 pairs of a source and a target row, or `Lexicon.rows`, whose counts of
            unknown words go into the result.
        method: "csls", "nn" (cosine) or "isf" (inverted softmax).
        ks: at which precision is told. One beyond the target vocabulary means all of it.
        neighbours: of CSLS.
        temperature: of the inverted softmax.
        gold_words: distinct source words of the dictionary before words outside the vocabularies
            were dropped; needed by `covered_precision` and `coverage` alone.

    Raises:
        ValueError: no pair, a pair out of range, or wrong shapes.
    """
    pairs, missing = gold, None
    if not isinstance(pairs, Tensor):
        missing = MissingPairs(pairs.missing_source, pairs.missing_target, pairs.missing_both)
        pairs = pairs.pairs
    pairs = _checked(pairs, len(source), len(target), missing).cpu()
    numbers = check_ks(ks)
    words = pairs[:, 0].unique()
    if gold_words is not None and gold_words < len(words):
        raise ValueError(
            f"expected gold_words of at least {len(words)}, the words that are judged, got "
            f"{gold_words}"
        )
    found = retrieve(
        source,
        target,
        min(numbers[-1], len(target)),
        method=method,
        neighbours=neighbours,
        temperature=temperature,
        rows=words.to(source.device),
    ).indices.cpu()
    ranks = hit_ranks(words, found, pairs)
    return WordTranslation(method, numbers, words, found, ranks, pairs, gold_words, missing)


def _checked(pairs: Tensor, n: int, m: int, missing: MissingPairs | None) -> Tensor:
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype != torch.int64:
        raise ValueError(
            "word_translation: expected gold pairs as int64 of shape (p, 2), source row and target "
            f"row, got {pairs.dtype} of shape {tuple(pairs.shape)}"
        )
    if len(pairs) == 0:
        why = ""
        if missing is not None:
            why = (
                f" ({missing.source} have an unknown source word, {missing.target} an unknown "
                f"target word, {missing.both} both)"
            )
        raise ValueError(
            f"word_translation: expected pairs of words in both vocabularies, got none{why}; are "
            "languages and letter case those of the dictionary?"
        )
    for column, (name, size) in enumerate((("source", n), ("target", m))):
        low, high = int(pairs[:, column].min()), int(pairs[:, column].max())
        if low < 0 or high >= size:
            raise ValueError(
                f"word_translation: expected {name} rows in 0 … {size - 1}, got {low} … {high}; "
                "were the pairs looked up in other vocabularies?"
            )
    return pairs
