"""Procrustes on the pairs that a mapping finds itself, again and again (Conneau et al. 2018, 3.2).

pairs  <-  words that are each other's best translation by CSLS, frequent ones only
W      <-  procrustes(source[pairs], target[pairs])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gonzo.translation.criterion import CriterionRule, similarity_of
from gonzo.translation.induction import Direction, Proposal, check_vectors, no_pair, propose
from gonzo.translation.loops import Loops, PlainLoops
from gonzo.translation.orthogonal import procrustes

__all__ = ["Refined", "RefinementConfig", "Refiner", "refine"]


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


class Refiner:
    """Refinement one step at a time, for who wants to watch it or to save it.

    Args:
        source: (n, d) vectors, the most frequent word first. Their lengths weigh the pairs.
        target: (m, d) likewise.
        mapping: (d, d) to start from.
        config: see `RefinementConfig`; the paper's by default.

    Raises:
        ValueError: shapes that do not fit.
    """

    def __init__(
        self,
        source: Tensor,
        target: Tensor,
        mapping: Tensor,
        config: RefinementConfig | None = None,
    ) -> None:
        check_vectors("refine", source, target)
        if mapping.shape != (target.shape[1], source.shape[1]):
            raise ValueError(
                f"refine: expected a mapping of shape ({target.shape[1]}, {source.shape[1]}), "
                f"got {tuple(mapping.shape)}"
            )
        self.config = config or RefinementConfig()
        if self.config.criterion_words < 1:
            raise ValueError(
                f"refine: expected criterion_words of at least 1, got {self.config.criterion_words}"
            )
        self._source, self._target = source, target
        self._mapping = self._best = mapping
        self._criteria: list[float] = []
        self._pairs = torch.empty(0, 2, dtype=torch.int64)
        self._proposed = self._pairs

    def step(self) -> float:
        """Solve for W on the pairs that it proposes and return its criterion then.

        Raises:
            ValueError: it proposes none.
        """
        self._look_first()
        if not len(self._proposed):
            config = self.config
            raise ValueError(
                f"refine: {no_pair(config.direction, config.max_rank, config.threshold)}"
            )
        self._pairs = self._proposed
        rows, columns = self._pairs.unbind(1)
        self._mapping = procrustes(self._source[rows], self._target[columns])
        return self._look()

    def result(self) -> Refined:
        """Return the mapping with the best criterion so far."""
        self._look_first()
        criteria = self._criteria
        return Refined(self._best, tuple(criteria), self._pairs, criteria.index(max(criteria)))

    def state_dict(self) -> dict[str, Tensor]:
        """Return what `load_state_dict` needs to go on from here, all tensors."""
        return {
            "mapping": self._mapping,
            "best": self._best,
            "criteria": torch.tensor(self._criteria, dtype=torch.float64),
            "pairs": self._pairs,
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state that was saved with the same arguments."""
        self._mapping, self._best = (state[name].to(self._source) for name in ("mapping", "best"))
        self._criteria = state["criteria"].tolist()
        device = self._source.device
        self._pairs, self._proposed = (state[name].to(device) for name in ("pairs", "proposed"))

    def _look_first(self) -> None:
        if not self._criteria:
            self._look()

    def _look(self) -> float:
        """Take the criterion of W and the pairs that it proposes, in one pass."""
        config = self.config
        mapped = self._source @ self._mapping.T
        found: Proposal = propose(
            mapped,
            self._target,
            direction=config.direction,
            max_rank=config.max_rank,
            max_pairs=config.max_pairs,
            min_pairs=config.min_pairs,
            threshold=config.threshold,
            neighbours=config.neighbours,
            words=config.criterion_words,
        )
        value = similarity_of(
            mapped, self._target, found.best, config.criterion_words, config.criterion_rule
        )
        if not self._criteria or value > max(self._criteria):
            self._best = self._mapping
        self._criteria.append(value)
        self._proposed = found.pairs
        return value


def refine(
    source: Tensor,
    target: Tensor,
    mapping: Tensor,
    config: RefinementConfig | None = None,
    *,
    loops: Loops | None = None,
    name: str = "refinement",
) -> Refined:
    """Improve `mapping` with the pairs that it finds itself; no translation is needed.

    The mapping with the best unsupervised criterion is returned, which may be the start.

    Args:
        source: (n, d) vectors, the most frequent word first. Their lengths weigh the pairs.
        target: (m, d) likewise.
        mapping: (d, d) to start from.
        config: see `RefinementConfig`; the paper's by default.
        loops: runs the loop and takes down the criterion; `gonzo.lab.Run` makes it resumable.
        name: of the loop.

    Raises:
        ValueError: shapes that do not fit, or no pair is left.
    """
    loops = loops or PlainLoops()
    refiner = Refiner(source, target, mapping, config)
    for step in loops.steps(refiner.config.steps, name=name, refiner=refiner):
        loops.log(step, criterion=refiner.step())
    return refiner.result()
