"""CSLS translations of a few words, without comparing every word of one language with every other.

    CSLS(x, y) = 2 cos(x, y) - r(x) - r(y)

is at most the same with r(y), the mean cosine of y with its 10 nearest source words, replaced by
that with its 10 nearest among any part of them. So targets are taken in the order of this bound,
their true r(y) computed, and the search ends when no bound is above the scores found. The part is
the source words nearest to x, among which the neighbours of its likely translations are.

Source: Conneau, Lample, Ranzato, Denoyer and Jégou: Word Translation Without Parallel Data (2018),
section 2.3: CSLS.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

_PART, _CHUNK = 128, 256
_ROUNDING = 1e-5  # of float32: a bound this little above a score is not above it


def csls_of_few(
    source: Tensor, target: Tensor, rows: list[int], k: int, *, neighbours: int = 10
) -> tuple[Tensor, Tensor]:
    """Return the scores and rows of the k best targets of some source words, best first.

    Args:
        source: (n, d) mapped vectors of the whole vocabulary.
        target: (m, d)
        rows: q of the source.
        k: 1 … m.
        neighbours: of CSLS.

    Returns:
        (q, k) scores and (q, k) int64 target rows, as `csls_topk` does.
    """
    x, y = normalize(source), normalize(target)
    near = min(neighbours, len(x))
    means = torch.full((len(y),), torch.nan, dtype=y.dtype)  # r(y) of those it was computed for
    answers = [_one(x, y, row, k, near, min(neighbours, len(y)), means) for row in rows]
    return torch.stack([scores for scores, _ in answers]), torch.stack([j for _, j in answers])


def _one(
    x: Tensor, y: Tensor, row: int, k: int, near: int, near_targets: int, means: Tensor
) -> tuple[Tensor, Tensor]:
    twice = 2 * (y @ x[row])
    above = twice - twice.topk(near_targets).values.mean() / 2  # 2 cos - r(x)
    part = x[(x @ x[row]).topk(min(max(_PART, near), len(x))).indices]
    bounds = above - (y @ part.T).topk(near, dim=1).values.mean(1)
    order = bounds.argsort(descending=True)
    done = 0
    while True:
        chunk = order[done : done + _CHUNK]
        fresh = chunk[means[chunk].isnan()]
        means[fresh] = (y[fresh] @ x.T).topk(near, dim=1).values.mean(1)
        done += len(chunk)
        seen = order[:done].sort().values  # of equal scores the lower row comes first
        scores, best = (above[seen] - means[seen]).sort(descending=True, stable=True)
        left = bounds[order[done]] + _ROUNDING if done < len(y) else -torch.inf
        if done >= k and scores[k - 1] > left:
            return scores[:k], seen[best[:k]]
