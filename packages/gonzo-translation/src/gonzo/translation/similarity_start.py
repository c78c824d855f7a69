"""A first dictionary without any pairs: words whose similarities to all others are alike.

Artetxe, Labaka and Agirre, A Robust Self-Learning Method for Fully Unsupervised Cross-Lingual
Mappings of Word Embeddings, ACL 2018, section 3.2. https://arxiv.org/abs/1805.06297 The similarity
matrix XXᵀ of a vocabulary does not change when its space is rotated, and its rows, sorted, do not
change when the words of the other language come in another order. With X = U S Vᵀ, the rows of
sorted((XXᵀ)^½) = sorted(U S Uᵀ) are compared across languages.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gonzo.core.ops.csls_topk import csls_topk_both


def similarity_pairs(
    source: Tensor, target: Tensor, *, vocabulary: int = 4000, neighbours: int = 10
) -> Tensor:
    """Pair words by the distributions of their similarities, in both directions.

    Needs memory of 3 × (vocabulary, vocabulary).

    Args:
        source: (n, d) vectors, most frequent word first, normalised as for the mapping.
        target: (m, d) of the same dtype.
        vocabulary: How many of the most frequent words take part; cut to the smaller side.
        neighbours: k of CSLS between the distributions.

    Returns:
        Pairs (2 v, 2) of source and target rows: the best target word of each of the first v source
        words, then the best source word of each target word.
    """
    words = min(vocabulary, len(source), len(target))
    profiles = [_profiles(vectors[:words]) for vectors in (source, target)]
    forth, back = csls_topk_both(*profiles, 1, neighbours=neighbours)
    every = torch.arange(words, device=source.device)
    return torch.cat(
        [torch.stack([every, forth.indices[:, 0]], 1), torch.stack([back.indices[:, 0], every], 1)]
    )


def _profiles(vectors: Tensor) -> Tensor:
    """Sorted similarities of each word, of length one, centred, of length one again: (v, v)."""
    left, values, _ = torch.linalg.svd(vectors, full_matrices=False)
    profiles = ((left * values) @ left.mT).sort(dim=1).values
    profiles = torch.nn.functional.normalize(profiles, dim=1)
    profiles -= profiles.mean(0)
    return torch.nn.functional.normalize(profiles, dim=1)
