"""Word similarity: do cosines order pairs of words as people do?

The pairs are of one language, or of two for mapped vectors. The score is Spearman's rank
correlation of the cosines with the judgements, over the pairs whose words are both known.

Sources:
    Camacho-Collados, Pilehvar, Collier and Navigli: SemEval-2017 Task 2 (2017).
    Conneau, Lample, Ranzato, Denoyer and Jégou: Word Translation Without Parallel Data (2018),
    section 3.2, table 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from gonzo.translation.rank_correlation import spearman

__all__ = ["Judgement", "WordSimilarity", "read_judgements", "word_similarity"]

_EXAMPLES = 10


class Judgement(NamedTuple):
    """Two words and how similar people find them, on any scale."""

    first: str
    second: str
    score: float


@dataclass(frozen=True)
class WordSimilarity:
    """How well cosines agree with judgements.

    Args:
        correlation: Spearman's, -1 … 1; NaN where all judgements, or all cosines, are equal.
        pairs: judged pairs whose words are both known.
        missing: pairs with an unknown word.
        examples: a few of the unknown words.
    """

    correlation: float
    pairs: int
    missing: int
    examples: tuple[str, ...]


def read_judgements(path: str | Path) -> list[Judgement]:
    """Read lines of two words and a score.

    If a line has a tab, tabs separate, and a "word" can be a phrase; otherwise any white space
    does. Fields after the third are ignored, as are empty lines and lines that start with #. The
    first line can be a heading.

    Args:
        path: a text file in UTF-8.

    Raises:
        ValueError: a line is something else, or there is no pair.
    """
    judgements = []
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            fields = text.split("\t") if "\t" in text else text.split()
            score = _number(fields[2]) if len(fields) >= 3 else None
            if score is not None:
                judgements.append(Judgement(fields[0].strip(), fields[1].strip(), score))
            elif number > 1 or len(fields) < 3:
                raise ValueError(
                    f"{path}, line {number}: expected two words and a number, separated by tabs or "
                    f"spaces, got {text[:60]!r}"
                )
    if not judgements:
        raise ValueError(f"{path}: expected lines of two words and a number, got none")
    return judgements


def word_similarity(
    judgements: list[Judgement],
    first_index: Mapping[str, int],
    first_vectors: Tensor,
    second_index: Mapping[str, int] | None = None,
    second_vectors: Tensor | None = None,
) -> WordSimilarity:
    """Correlate cosines with judgements.

    A word is looked up as it is written, then in lower case.

    Args:
        judgements: of `read_judgements`.
        first_index: row of each word, `Embeddings.index`, of the language of the first words.
        first_vectors: (n, d); for two languages mapped into one space.
        second_index: of the second words, if they are of another language.
        second_vectors: (m, d)

    Raises:
        ValueError: fewer than two pairs have both words, one of the second pair of arguments
            without the other, or widths that differ.
    """
    if (second_index is None) != (second_vectors is None):
        raise ValueError(
            "word_similarity: expected second_index and second_vectors, or neither (the second "
            "words are then of the language of the first)"
        )
    if second_index is None or second_vectors is None:
        second_index, second_vectors = first_index, first_vectors
    if first_vectors.shape[1] != second_vectors.shape[1]:
        raise ValueError(
            f"word_similarity: expected vectors of one width, got {first_vectors.shape[1]} and "
            f"{second_vectors.shape[1]}"
        )
    rows: list[tuple[int, int]] = []
    scores: list[float] = []
    unknown: dict[str, None] = {}
    for judgement in judgements:
        x, y = _row(judgement.first, first_index), _row(judgement.second, second_index)
        if x is not None and y is not None:
            rows.append((x, y))
            scores.append(judgement.score)
            continue
        sides = ((judgement.first, x), (judgement.second, y))
        unknown |= dict.fromkeys(word for word, row in sides if row is None)
    examples = tuple(unknown)[:_EXAMPLES]
    if len(rows) < 2:
        raise ValueError(
            f"word_similarity: expected at least 2 pairs of known words, got {len(rows)} of "
            f"{len(judgements)}; unknown are, for example, {', '.join(examples)}"
        )
    found = torch.tensor(rows, device=first_vectors.device)
    cosines = cosine_similarity(
        first_vectors[found[:, 0]].double(), second_vectors[found[:, 1]].double()
    )
    correlation = spearman(cosines.cpu(), torch.tensor(scores, dtype=torch.float64))
    return WordSimilarity(correlation, len(rows), len(judgements) - len(rows), examples)


def _row(word: str, index: Mapping[str, int]) -> int | None:
    row = index.get(word)
    return index.get(word.lower()) if row is None else row


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
