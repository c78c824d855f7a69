"""From the largest cosines of a row to its best scores, with proof that no other word beats them.

A score is ``(a c_ij - b_j) - r_i``: of CSLS a = 2 and b_j = r_j, of the inverted softmax a = T, b_j
the logarithm of the sum and r = 0. A word that is not among the candidates of row i has a cosine of
at most the least of theirs, so it can reach the k-th best score of the candidates only if its b_j
is small enough: such words are the first ones in the order of b, and where there are any, the row
is scored against all of these. Rounded products and differences are monotone, so the argument
holds to the last bit of the cosines that were computed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel, run_rows

from .cpu_nearest import Nearest

_LANES = 64  # scores compared at once


def best_scores(
    nearest: Nearest,
    rows: np.ndarray,
    k: int,
    factor: float,
    bias: np.ndarray,
    own: np.ndarray,
    source: Tensor,
    target: Tensor,
    block: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """The k best scores and their words for each of `rows`.

    Args:
        nearest: candidates of every source word, sorted.
        rows: (q,) source words.
        k: at most the number of candidates.
        factor: a.
        bias: (m,) b.
        own: (n,) r.
        source: (n, d) of length one.
        target: (m, d) of length one.
        block: rows and columns of a product.
    """
    dtype = bias.dtype
    scores = torch.empty(len(rows), k, dtype=source.dtype)
    indices = torch.empty(len(rows), k, dtype=torch.int64)
    order = np.argsort(bias, kind="stable")
    reach = np.empty(len(rows), np.int64)
    run_rows(
        len(rows), _score_candidates, rows, dtype.type(factor), bias, own, bias[order],
        nearest.values, nearest.indices, nearest.first, nearest.count,
        scores.numpy(), indices.numpy(), reach,
    )  # fmt: skip
    open_rows = np.flatnonzero(reach)
    open_rows = open_rows[np.argsort(reach[open_rows], kind="stable")]
    buffer = source.new_empty(block[0] * block[1] if len(open_rows) else 0)
    for start in range(0, len(open_rows), block[0]):
        some = open_rows[start : start + block[0]]
        vectors = source[torch.from_numpy(rows[some])]
        for column in range(0, reach[some[-1]], block[1]):
            words = order[column : min(column + block[1], reach[some[-1]])]
            product = buffer[: len(some) * len(words)].view(len(some), len(words))
            torch.mm(vectors, target[torch.from_numpy(words)].mT, out=product)
            run_rows(
                len(some), _score_all, product.numpy(), some, words, dtype.type(factor),
                bias[words], own[rows[some]], scores.numpy(), indices.numpy(),
            )  # fmt: skip
    return scores, indices


@kernel(allocates=False)
def _score_candidates(
    start, stop, rows, factor, bias, own, sorted_bias, values, candidates, first, count,
    scores, indices, reach,
):  # fmt: skip
    k, words = scores.shape[1], len(bias)
    for q in range(start, stop):
        row = rows[q]
        base, size = first[row], count[row]
        for i in range(k):
            scores[q, i], indices[q, i] = -np.inf, words
        for i in range(base, base + size):
            word = np.int64(candidates[i])
            score = (factor * values[i] - bias[word]) - own[row]
            if score >= scores[q, k - 1]:
                _insert(score, word, q, scores, indices)
        reach[q] = 0
        if size < words:
            # How many words, by ascending bias, could reach the k-th score with the least cosine.
            low, high, most = 0, words, factor * values[base + size - 1]
            while low < high:
                middle = (low + high) // 2
                if (most - sorted_bias[middle]) - own[row] >= scores[q, k - 1]:
                    low = middle + 1
                else:
                    high = middle
            reach[q] = low


@kernel(allocates=False)
def _score_all(start, stop, product, some, words, factor, bias, own, scores, indices):
    columns, k = product.shape[1], scores.shape[1]
    for r in range(start, stop):
        q, mine = some[r], own[r]
        for j in range(0, columns, _LANES):
            least = scores[q, k - 1]
            wide = min(_LANES, columns - j)
            hit = wide < _LANES
            if not hit:
                for lane in range(_LANES):
                    hit |= (factor * product[r, j + lane] - bias[j + lane]) - mine >= least
            if hit:
                for lane in range(wide):
                    score = (factor * product[r, j + lane] - bias[j + lane]) - mine
                    if score >= scores[q, k - 1] and not _has(indices, q, words[j + lane]):
                        _insert(score, words[j + lane], q, scores, indices)


@kernel(allocates=False)
def _has(indices, q, word):
    found = False
    for i in range(indices.shape[1]):
        found |= indices[q, i] == word
    return found


@kernel(allocates=False)
def _insert(score, word, q, scores, indices):
    """Put a word in its place among the best of query q; the last falls out."""
    at = scores.shape[1] - 1
    if score == scores[q, at] and word > indices[q, at]:
        return
    while at and (
        score > scores[q, at - 1] or (score == scores[q, at - 1] and word < indices[q, at - 1])
    ):
        scores[q, at], indices[q, at] = scores[q, at - 1], indices[q, at - 1]
        at -= 1
    scores[q, at], indices[q, at] = score, word
