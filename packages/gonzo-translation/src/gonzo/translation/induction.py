"""Word pairs that a mapping proposes: each word's best translation by CSLS, the clearest first.

The induced dictionary of Conneau et al. 2018, section 3.2, with the limits of MUSE's code.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gonzo.core.ops.csls_topk import Retrieved, csls_topk, csls_topk_both

__all__ = ["Direction", "Proposal", "check_vectors", "induce_lexicon", "propose"]

Direction = Literal["source-to-target", "target-to-source", "union", "intersection"]


class Proposal(NamedTuple):
    """What one look at a mapping gives.

    Attributes:
        pairs: (p, 2) int64 as of `induce_lexicon`, which may be none.
        best: (words,) int64, the best target row of each of the first source words.
    """

    pairs: Tensor
    best: Tensor


def induce_lexicon(
    mapped: Tensor,
    target: Tensor,
    *,
    direction: Direction = "source-to-target",
    max_rank: int | tuple[int, int] | None = 15_000,
    max_pairs: int = 0,
    min_pairs: int = 0,
    threshold: float = 0.0,
    neighbours: int = 10,
) -> Tensor:
    """Return the word pairs that CSLS proposes, those with the largest margin first.

    A margin is the difference between a word's best and second best CSLS. The neighbourhood means
    are taken over the whole vocabularies, whatever `max_rank` is.

    Args:
        mapped: (n, d) source vectors after the mapping, the most frequent word first.
        target: (m, d).
        direction: this and what follows are explained in `RefinementConfig`.
        max_rank: see there.
        max_pairs: see there.
        min_pairs: see there.
        threshold: see there.
        neighbours: see there.

    Returns:
        (p, 2) int64: source row, target row; without repetition. A union lists the pairs found
        from the source first.

    Raises:
        ValueError: a limit is out of range, or no pair is left.
    """
    pairs = propose(
        mapped,
        target,
        direction=direction,
        max_rank=max_rank,
        max_pairs=max_pairs,
        min_pairs=min_pairs,
        threshold=threshold,
        neighbours=neighbours,
    ).pairs
    if not len(pairs):
        raise ValueError(f"induce_lexicon: {no_pair(direction, max_rank, threshold)}")
    return pairs


def propose(
    mapped: Tensor,
    target: Tensor,
    *,
    direction: Direction,
    max_rank: int | tuple[int, int] | None,
    max_pairs: int,
    min_pairs: int,
    threshold: float,
    neighbours: int,
    words: int = 0,
) -> Proposal:
    """Return pairs, as `induce_lexicon` does, and the best target of the first `words` words.

    Both come from one pass over the product of the vocabularies.
    """
    limits = _ranks(max_rank, len(mapped), len(target))
    for name, value in (("max_pairs", max_pairs), ("min_pairs", min_pairs)):
        if value < 0:
            raise ValueError(f"induce_lexicon: expected {name} of at least 0, got {value}")
    words = min(words, len(mapped))
    forward, backward = _best_two(mapped, target, direction, limits, neighbours, words)

    def chosen(found: Retrieved, swap: bool) -> Tensor:
        return _choose(found, limits, swap, max_pairs, min_pairs, threshold)

    there = back = None
    best = torch.empty(0, dtype=torch.int64, device=mapped.device)
    if forward is not None:
        best = forward.indices[:words, 0]
        if direction != "target-to-source":
            there = chosen(Retrieved(*(part[: limits[0]] for part in forward)), False)
    if backward is not None:
        back = chosen(backward, True)
    return Proposal(_combine(there, back, len(target), direction), best)


def no_pair(direction: str, max_rank: object, threshold: float) -> str:
    """Say that nothing was proposed, and what to do."""
    return (
        f"no pair is left ({direction}, max_rank {max_rank}, threshold {threshold}); raise "
        "max_rank or lower threshold"
    )


def check_vectors(name: str, source: Tensor, target: Tensor) -> None:
    """Raise ValueError unless the two are vocabularies of one dimension and dtype."""
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise ValueError(
            f"{name}: expected vectors (n, d) and (m, d) of one dimension d, got "
            f"{tuple(source.shape)} and {tuple(target.shape)}"
        )
    if source.dtype != target.dtype or source.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{name}: expected both in float32 or both in float64, got {source.dtype} and "
            f"{target.dtype}"
        )
    if not len(source) or not len(target):
        raise ValueError(f"{name}: expected words on both sides, got an empty vocabulary")


def _ranks(max_rank: int | tuple[int, int] | None, n: int, m: int) -> tuple[int, int]:
    if max_rank is None:
        return n, m
    asked = (max_rank, max_rank) if isinstance(max_rank, int) else max_rank
    if min(asked) < 1:
        raise ValueError(f"induce_lexicon: expected max_rank of at least 1, got {max_rank}")
    return min(asked[0], n), min(asked[1], m)


def _best_two(
    mapped: Tensor,
    target: Tensor,
    direction: Direction,
    limits: tuple[int, int],
    neighbours: int,
    words: int,
) -> tuple[Retrieved | None, Retrieved | None]:
    asked = (max(limits[0], words), limits[1])
    rows = [torch.arange(limit, device=mapped.device) for limit in asked]
    there, back = min(2, len(target)), min(2, len(mapped))
    if direction == "source-to-target":
        return csls_topk(mapped, target, there, neighbours=neighbours, rows=rows[0]), None
    if direction == "target-to-source" and not words:
        return None, csls_topk(target, mapped, back, neighbours=neighbours, rows=rows[1])
    if direction not in ("target-to-source", "union", "intersection"):
        raise ValueError(
            "induce_lexicon: expected direction 'source-to-target', 'target-to-source', 'union' "
            f"or 'intersection', got {direction!r}"
        )
    return csls_topk_both(
        mapped,
        target,
        min(there, back),
        neighbours=neighbours,
        source_rows=rows[0],
        target_rows=rows[1],
    )


def _choose(
    found: Retrieved,
    limits: tuple[int, int],
    swap: bool,
    max_pairs: int,
    min_pairs: int,
    threshold: float,
) -> Tensor:
    scores, indices = found
    if scores.shape[1] == 2:
        margin = scores[:, 0] - scores[:, 1]
    else:  # one word to choose from, so nothing is beside it
        margin = torch.full_like(scores[:, 0], torch.inf)
    order = margin.argsort(descending=True, stable=True)
    best = indices[order, 0]
    pairs = torch.stack((best, order) if swap else (order, best), 1)
    kept = (pairs[:, 0] < limits[0]) & (pairs[:, 1] < limits[1])
    pairs, margin = pairs[kept], margin[order][kept]
    if max_pairs:
        pairs, margin = pairs[:max_pairs], margin[:max_pairs]
    if threshold > 0:
        enough = margin > threshold
        enough[:min_pairs] = True
        pairs = pairs[enough]
    return pairs


def _combine(there: Tensor | None, back: Tensor | None, m: int, direction: Direction) -> Tensor:
    if there is None or back is None:
        one = there if there is not None else back
        assert one is not None
        return one
    keys, others = (pairs[:, 0] * m + pairs[:, 1] for pairs in (there, back))
    if direction == "intersection":
        return there[torch.isin(keys, others)]
    return torch.cat((there, back[~torch.isin(others, keys)]))
