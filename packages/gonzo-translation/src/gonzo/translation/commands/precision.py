"""Word translation in numbers and tables, for the commands that judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from gonzo.translation.lexicon import LexiconRows
    from gonzo.translation.word_translation_scores import WordTranslation

Score = Literal["csls", "nn", "isf"]
NAMES: dict[Score, str] = {
    "nn": "nearest neighbour",
    "isf": "inverted softmax",
    "csls": "CSLS",
}
HEADER = ("retrieval", "P@1", "95 % interval", "P@5", "P@10", "words")


def judge(
    source: Tensor, target: Tensor, rows: LexiconRows, methods: Sequence[Score]
) -> dict[Score, WordTranslation]:
    """Translate the words of a lexicon by each method.

    Args:
        source: (n, d) mapped vectors of the whole vocabulary.
        target: (m, d)
        rows: the lexicon in both vocabularies.
        methods: scores.
    """
    from gonzo.translation.word_translation_scores import word_translation

    return {method: word_translation(source, target, rows, method=method) for method in methods}


def table(results: dict[Score, WordTranslation]) -> list[tuple[str, ...]]:
    """Return a row of text for each method, below `HEADER`."""
    rows = []
    for method, result in results.items():
        low, high = result.interval(1)
        first, *others = (f"{result.precision[k]:.1%}" for k in (1, 5, 10))
        interval = f"{low:.1%} to {high:.1%}"
        rows.append((NAMES[method], first, interval, *others, f"{len(result):,}"))
    return rows
