"""Translations by one of three scores: cosine, CSLS, or inverted softmax.

With x a mapped source word, y a target word, both of length 1:

    nn    cos(x, y)
    csls  2 cos(x, y) - r(x) - r(y), r the mean cosine with the 10 nearest of the other side
    isf   exp(T cos(x, y)) / Σ over source words x' of exp(T cos(x', y)), here its logarithm

Sources:
    Conneau, Lample, Ranzato, Denoyer and Jégou: Word Translation Without Parallel Data (2018),
    section 2.3: CSLS.
    Smith, Turban, Hamblin and Hammerla: Offline Bilingual Word Vectors, Orthogonal Transformations
    and the Inverted Softmax (2017), equation 5.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from gonzo.core.ops.csls_topk import (
    Retrieved,
    cosine_topk,
    csls_topk,
    inverted_softmax_topk,
)

__all__ = ["Method", "retrieve"]

Method = Literal["csls", "nn", "isf"]


def retrieve(
    source: Tensor,
    target: Tensor,
    k: int,
    *,
    method: Method = "csls",
    neighbours: int = 10,
    temperature: float = 30.0,
    rows: Tensor | None = None,
) -> Retrieved:
    """Find the k best target rows of source rows.

    Args:
        source: (n, d) mapped vectors of the whole source vocabulary: CSLS and the inverted softmax
            compare each target with all of it, whatever `rows`.
        target: (m, d)
        k: how many, 1 … m.
        method: the score, "csls", "nn" or "isf".
        neighbours: of CSLS; the others ignore it.
        temperature: of the inverted softmax; the others ignore it.
        rows: (q,) int64 source rows; None is all of them.

    Returns:
        Scores and target rows, (q, k) each, the best first; of equal scores the lower row first.

    Raises:
        ValueError: another method, k larger than the target vocabulary, or wrong shapes.
    """
    if method == "csls":
        return csls_topk(source, target, k, neighbours=neighbours, rows=rows)
    if method == "nn":
        return cosine_topk(source, target, k, rows=rows)
    if method == "isf":
        return inverted_softmax_topk(source, target, k, temperature=temperature, rows=rows)
    raise ValueError(f"expected a method of {', '.join(get_args(Method))}, got {method!r}")
