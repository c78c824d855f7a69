"""How good a mapping is, without a single known translation (Conneau et al. 2018, section 3.4).

    the mean, over frequent source words, of  cos(W x_i, y_j(i)),   j(i) the best target by CSLS

It goes along with accuracy, so epochs, restarts and hyper-parameters are chosen by it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from gonzo.core.ops.csls_topk import csls_topk

__all__ = ["CriterionRule", "mean_similarity", "similarity_of"]

CriterionRule = Literal["paper", "muse"]


def mean_similarity(
    mapped: Tensor,
    target: Tensor,
    *,
    words: int = 10_000,
    rule: CriterionRule = "paper",
    neighbours: int = 10,
) -> float:
    """Return the mean cosine of frequent words with their best translations by CSLS.

    Args:
        mapped: (n, d) source vectors after the mapping, the most frequent word first.
        target: (m, d).
        words: source words that count, fewer when the vocabulary is smaller.
        rule: "paper" averages over all of them; "muse", as MUSE's code does, over those whose
            translation is among the first `words` target words too.
        neighbours: k of CSLS, over the whole vocabularies.

    Raises:
        ValueError: an unknown rule, or fewer than one word.
    """
    if words < 1:
        raise ValueError(f"mean_similarity: expected at least 1 word, got {words}")
    rows = torch.arange(min(words, len(mapped)), device=mapped.device)
    best = csls_topk(mapped, target, 1, neighbours=neighbours, rows=rows).indices[:, 0]
    return similarity_of(mapped, target, best, words, rule)


def similarity_of(
    mapped: Tensor, target: Tensor, best: Tensor, words: int, rule: CriterionRule
) -> float:
    """Return the criterion where the best translations of the first words are known.

    Args:
        mapped: (n, d) source vectors after the mapping.
        target: (m, d).
        best: (q,) int64, target rows of the first q source words.
        words: how many frequent words count.
        rule: see `mean_similarity`.

    Raises:
        ValueError: an unknown rule.
    """
    if rule not in ("paper", "muse"):
        raise ValueError(f"mean_similarity: expected the rule 'paper' or 'muse', got {rule!r}")
    rows = torch.arange(len(best), device=mapped.device)
    if rule == "muse":
        # Its filter keeps a rank equal to the limit.
        kept = best <= words
        rows, best = rows[kept], best[kept]
    if not len(rows):
        return float("-inf")
    return float(cosine_similarity(mapped[rows], target[best]).mean())
