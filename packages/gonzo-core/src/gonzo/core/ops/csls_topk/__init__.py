"""The nearest words of another vocabulary by cosine, CSLS or inverted softmax, found exactly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import register  # noqa: F401  (registers the ops)
from .arguments import check_count, check_k, check_rows, check_temperature, check_vocabularies


class Retrieved(NamedTuple):
    """The best words of each row asked for, best first; of equal scores the lower index first.

    Attributes:
        scores: (rows, k) in the dtype of the vectors.
        indices: (rows, k) int64, rows of the other vocabulary.
    """

    scores: Tensor
    indices: Tensor


def csls_topk(
    source: Tensor,
    target: Tensor,
    k: int,
    *,
    neighbours: int = 10,
    rows: Tensor | None = None,
    backend: str | None = None,
) -> Retrieved:
    """Find the k target words with the largest ``2 cos(x, y) - r(y) - r(x)`` for source words x.

    r(x) is the mean cosine of x with its `neighbours` nearest target words, r(y) that of y with its
    nearest source words, each over the whole vocabulary whatever the `rows`. It takes the score of
    hubs, which are near to everything, down. The matrix of all cosines is never stored: memory
    grows with n + m. Nothing is approximated. There is no gradient.

    Args:
        source: (n, d) float32 or float64, of any length; a row of zeros has cosine 0 with all.
        target: (m, d) of the same dtype.
        k: how many target words to find for each row, at most m.
        neighbours: of the means; cut to the size of the vocabulary.
        rows: (rows,) int64, the source words to find translations for; all where it is None.
        backend: see `gonzo.core.backend`.

    Returns:
        Scores and indices, (rows, k) each, best first.

    Raises:
        ValueError: wrong shapes, k or neighbours; NaN or infinite values; a row that is not there.
        TypeError: wrong dtypes, or tensors on several devices.

    Source:
        Conneau, Lample, Ranzato, Denoyer, Jégou: Word Translation Without Parallel Data (2018),
        section 2.3. https://arxiv.org/abs/1710.04087
    """
    op = "csls_topk"
    check_vocabularies(op, source, target)
    check_k(op, k, target.shape[0], "target")
    check_count(op, "neighbours", neighbours)
    check_rows(op, "rows", rows, source)
    source, target = source.detach(), target.detach()
    ops = torch.ops.gonzo
    return Retrieved(*ops.csls_topk(source, target, k, neighbours, rows, backend or ""))


def csls_topk_both(
    source: Tensor,
    target: Tensor,
    k: int,
    *,
    neighbours: int = 10,
    source_rows: Tensor | None = None,
    target_rows: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Retrieved, Retrieved]:
    """Do `csls_topk` in both directions with one pass over the product of the vocabularies.

    Args:
        source: (n, d) float32 or float64.
        target: (m, d) of the same dtype.
        k: how many words to find for each row, at most n and at most m.
        neighbours: of the means; cut to the size of the vocabulary.
        source_rows: (rows,) int64, the source words to find translations for; None for all.
        target_rows: the same of target words.
        backend: see `gonzo.core.backend`.

    Returns:
        ``csls_topk(source, target, k, rows=source_rows)`` and
        ``csls_topk(target, source, k, rows=target_rows)``.

    Raises:
        ValueError: wrong shapes, k or neighbours; NaN or infinite values; a row that is not there.
        TypeError: wrong dtypes, or tensors on several devices.
    """
    op = "csls_topk_both"
    check_vocabularies(op, source, target)
    check_k(op, k, target.shape[0], "target")
    check_k(op, k, source.shape[0], "source")
    check_count(op, "neighbours", neighbours)
    check_rows(op, "source_rows", source_rows, source)
    check_rows(op, "target_rows", target_rows, target)
    source, target = source.detach(), target.detach()
    forth_scores, forth, back_scores, back = torch.ops.gonzo.csls_topk_both(
        source, target, k, neighbours, source_rows, target_rows, backend or ""
    )
    return Retrieved(forth_scores, forth), Retrieved(back_scores, back)


def cosine_topk(
    source: Tensor,
    target: Tensor,
    k: int,
    *,
    rows: Tensor | None = None,
    backend: str | None = None,
) -> Retrieved:
    """Find the k target words with the largest cosine for source words: nearest neighbours.

    Args:
        source: (n, d) float32 or float64, of any length; a row of zeros has cosine 0 with all.
        target: (m, d) of the same dtype.
        k: how many target words to find for each row, at most m.
        rows: (rows,) int64, the source words to look for; all where it is None.
        backend: see `gonzo.core.backend`.

    Returns:
        Cosines and indices, (rows, k) each, best first.

    Raises:
        ValueError: wrong shapes or k; NaN or infinite values; a row that is not there.
        TypeError: wrong dtypes, or tensors on several devices.
    """
    op = "cosine_topk"
    check_vocabularies(op, source, target)
    check_k(op, k, target.shape[0], "target")
    check_rows(op, "rows", rows, source)
    source, target = source.detach(), target.detach()
    return Retrieved(*torch.ops.gonzo.cosine_topk(source, target, k, rows, backend or ""))


def inverted_softmax_topk(
    source: Tensor,
    target: Tensor,
    k: int,
    *,
    temperature: float = 30.0,
    rows: Tensor | None = None,
    backend: str | None = None,
) -> Retrieved:
    """Find the k target words with the largest inverted softmax for source words.

    The score is the logarithm of how much of the attention of target word y goes to x when a
    softmax runs over all n source words: ``T cos(x, y) - log Σ_x' exp(T cos(x', y))``.

    Args:
        source: (n, d) float32 or float64, of any length; a row of zeros has cosine 0 with all.
        target: (m, d) of the same dtype.
        k: how many target words to find for each row, at most m.
        temperature: T, positive.
        rows: (rows,) int64, the source words to look for; all where it is None. The softmax runs
            over all source words in any case.
        backend: see `gonzo.core.backend`.

    Returns:
        Scores and indices, (rows, k) each, best first.

    Raises:
        ValueError: wrong shapes, k or temperature; NaN or infinite values; a row that is not there.
        TypeError: wrong dtypes, or tensors on several devices.

    Source:
        Smith, Turban, Hamblin, Hammerla: Offline Bilingual Word Vectors, Orthogonal
        Transformations and the Inverted Softmax (2017). https://arxiv.org/abs/1702.03859
    """
    op = "inverted_softmax_topk"
    check_vocabularies(op, source, target)
    check_k(op, k, target.shape[0], "target")
    check_temperature(op, temperature)
    check_rows(op, "rows", rows, source)
    source, target = source.detach(), target.detach()
    ops = torch.ops.gonzo
    scores = ops.inverted_softmax_topk(source, target, k, float(temperature), rows, backend or "")
    return Retrieved(*scores)


def neighbourhood_means(
    source: Tensor, target: Tensor, neighbours: int = 10, *, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Mean cosine of each word with its nearest words of the other vocabulary: r of CSLS.

    Args:
        source: (n, d) float32 or float64.
        target: (m, d) of the same dtype.
        neighbours: how many to take the mean of; cut to the size of the vocabulary.
        backend: see `gonzo.core.backend`.

    Returns:
        (n,) of source words among targets, and (m,) of target words among sources.

    Raises:
        ValueError: wrong shapes or neighbours; NaN or infinite values.
        TypeError: wrong dtypes, or tensors on several devices.
    """
    check_vocabularies("neighbourhood_means", source, target)
    check_count("neighbourhood_means", "neighbours", neighbours)
    source, target = source.detach(), target.detach()
    return torch.ops.gonzo.neighbourhood_means(source, target, neighbours, backend or "")
