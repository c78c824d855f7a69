"""Procrustes on the pairs that a mapping finds itself, again and again (Conneau et al. 2018, 3.2).

pairs  <-  words that are each other's best translation by CSLS, frequent ones only
W      <-  procrustes(source[pairs], target[pairs])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gonzo.core.ops.csls_topk import Retrieved, csls_topk, csls_topk_both
from gonzo.translation.criterion import CriterionRule, mean_similarity
from gonzo.translation.orthogonal import procrustes

__all__ = ["Direction", "Refined", "RefinementConfig", "induce_lexicon", "refine"]

Direction = Literal["source-to-target", "target-to-source", "union", "intersection"]


@dataclass(frozen=True)
class RefinementConfig:
    """How pairs are induced and how often.

    Args:
        steps: times that pairs are induced and W is solved for.
        direction: which pairs count: a source word and its best target word, the reverse, both,
            or those found both ways (mutual neighbours).
        max_rank: only the words before this rank in each vocabulary; two numbers for the source's
            and the target's; None for all.
        max_pairs: keep this many of the largest margins; 0 for all.
        min_pairs: keep at least this many whatever `threshold` says; 0 for no such floor.
        threshold: the least margin between the best and the second best CSLS of a pair.
        neighbours: k of CSLS.
        criterion_words: frequent words over which the unsupervised criterion is taken.
        criterion_rule: see `gonzo.translation.criterion`.
    """

    steps: int = 5
    direction: Direction = "intersection"
    max_rank: int | tuple[int, int] | None = 15_000
    max_pairs: int = 0
    min_pairs: int = 0
    threshold: float = 0.0
    neighbours: int = 10
    criterion_words: int = 10_000
    criterion_rule: CriterionRule = "paper"

    @classmethod
    def paper(cls) -> RefinementConfig:
        """Return the paper's: mutual neighbours among frequent words."""
        return cls()

    @classmethod
    def muse(cls) -> RefinementConfig:
        """Return what MUSE's code does by default: one direction, its own rank cut and criterion.

        Its cut takes source words before rank 15,000 and target words up to it.
        """
        return cls(direction="source-to-target", max_rank=(15_000, 15_001), criterion_rule="muse")


class Refined(NamedTuple):
    """What `refine` found.

    Attributes:
        mapping: (d, d) of the step with the best criterion, the start included.
        criteria: the unsupervised criterion of the start and after every step.
        pairs: (p, 2) int64 that the last step was solved with.
        best: index into `criteria`.
    """

    mapping: Tensor
    criteria: tuple[float, ...]
    pairs: Tensor
    best: int


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
    limits = _ranks(max_rank, len(mapped), len(target))
    for name, value in (("max_pairs", max_pairs), ("min_pairs", min_pairs)):
        if value < 0:
            raise ValueError(f"induce_lexicon: expected {name} of at least 0, got {value}")
    forward, backward = _best_two(mapped, target, direction, limits, neighbours)

    def chosen(found: Retrieved, swap: bool) -> Tensor:
        return _choose(found, limits, swap, max_pairs, min_pairs, threshold)

    there = chosen(forward, False) if forward else None
    back = chosen(backward, True) if backward else None
    pairs = _combine(there, back, len(target), direction)
    if not len(pairs):
        raise ValueError(
            f"induce_lexicon: no pair is left among words before ranks {limits[0]} and "
            f"{limits[1]} ({direction}, threshold {threshold}); raise max_rank or lower threshold"
        )
    return pairs


def refine(
    source: Tensor,
    target: Tensor,
    mapping: Tensor,
    config: RefinementConfig | None = None,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> Refined:
    """Improve `mapping` with the pairs that it finds itself; no translation is needed.

    The mapping with the best unsupervised criterion is returned, which may be the start.

    Args:
        source: (n, d) vectors, the most frequent word first. Their lengths weigh the pairs.
        target: (m, d) likewise.
        mapping: (d, d) to start from.
        config: see `RefinementConfig`; the paper's by default.
        progress: called after every step with its number, from 1, and the criterion.

    Raises:
        ValueError: shapes that do not fit, or no pair is left.
    """
    config = config or RefinementConfig()
    check_vectors("refine", source, target)
    if mapping.shape != (target.shape[1], source.shape[1]):
        raise ValueError(
            f"refine: expected a mapping of shape ({target.shape[1]}, {source.shape[1]}), "
            f"got {tuple(mapping.shape)}"
        )

    def judged(candidate: Tensor) -> float:
        return mean_similarity(
            source @ candidate.T,
            target,
            words=config.criterion_words,
            rule=config.criterion_rule,
            neighbours=config.neighbours,
        )

    best = mapping
    criteria = [judged(mapping)]
    pairs = torch.empty(0, 2, dtype=torch.int64)
    for step in range(1, config.steps + 1):
        pairs = induce_lexicon(
            source @ mapping.T,
            target,
            direction=config.direction,
            max_rank=config.max_rank,
            max_pairs=config.max_pairs,
            min_pairs=config.min_pairs,
            threshold=config.threshold,
            neighbours=config.neighbours,
        )
        mapping = procrustes(source[pairs[:, 0]], target[pairs[:, 1]])
        value = judged(mapping)
        if value > max(criteria):
            best = mapping
        criteria.append(value)
        if progress:
            progress(step, value)
    return Refined(best, tuple(criteria), pairs, criteria.index(max(criteria)))


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
    mapped: Tensor, target: Tensor, direction: Direction, limits: tuple[int, int], neighbours: int
) -> tuple[Retrieved | None, Retrieved | None]:
    rows = [torch.arange(limit, device=mapped.device) for limit in limits]
    there, back = min(2, len(target)), min(2, len(mapped))
    if direction == "source-to-target":
        return csls_topk(mapped, target, there, neighbours=neighbours, rows=rows[0]), None
    if direction == "target-to-source":
        return None, csls_topk(target, mapped, back, neighbours=neighbours, rows=rows[1])
    if direction not in ("union", "intersection"):
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
