"""Self-learning: a dictionary gives a mapping, which gives a better dictionary, and so on.

Artetxe, Labaka and Agirre, A Robust Self-Learning Method for Fully Unsupervised Cross-Lingual
Mappings of Word Embeddings, ACL 2018 (the method of vecmap). https://arxiv.org/abs/1805.06297
With X and Z the vocabularies, p the probability of keeping a similarity and M a random 0/1 mask,

    W = U Vᵀ of Zᵀ D X = U S Vᵀ,       D_i = argmax_j CSLS(W x_i, z_j) over the j with M_ij = 1,

and the same from target to source; p grows from 0.1 to 1 as the objective stops growing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from gonzo.core.ops.csls_topk import csls_topk_both
from gonzo.translation.orthogonal import procrustes
from gonzo.translation.similarity_start import similarity_pairs
from gonzo.translation.whitening import reweighted_maps

_DEEPEST = 3.2
"""Times 1 / p: how many neighbours of a word are known, and so how deep a drawn one can be."""

_GAIN = 1e-6


class SelfLearned(NamedTuple):
    """What self-learning found.

    Attributes:
        source_map: (d, d), applied as ``x @ source_map.T``.
        target_map: (d, d), applied as ``z @ target_map.T``: both sides move.
        pairs: (p, 2) source and target rows of the last dictionary.
        objective: Mean cosine of the best pairs after each iteration.
    """

    source_map: Tensor
    target_map: Tensor
    pairs: Tensor
    objective: tuple[float, ...]


class SelfLearner:
    """Self-learning one iteration at a time, for who wants to watch it or to save it.

    The vectors should be normalised: length one, centred, length one again; this is the caller's
    to do, since the same must be done to every vector that is mapped later.

    The paper keeps each similarity with probability p and takes the best of those kept. The best
    one kept is number r of all, from 0, with probability p (1 - p)^r, so that r is drawn here for
    each word instead of a mask for each pair of words: the same law from 40,000 numbers and not
    from 800 million.

    Deviation: r stays under 3.2 / p; deeper ones, 3 % of them at p = 0.1, are drawn again.

    Deviation: similarities that are not kept are left out; the paper sets them to 0, which with
    CSLS, where scores can be negative, can make them the best.

    Deviation: the objective is the mean cosine of the best pairs by CSLS, the ones that the mapping
    would be fitted to at p = 1; the authors' code takes the mean of each word's largest cosine.

    Deviation: p grows after 10 iterations without gain; the authors' code waits for 50.

    Args:
        source: (n, d) vectors, most frequent word first.
        target: (m, d) vectors of the same dtype.
        start_pairs: (p, 2) int64 source and target rows to begin with; without, the words whose
            similarities to all others are distributed alike: no pair is needed.
        vocabulary: How many of the most frequent words of each side take part in dictionaries;
            pairs to begin with may be of rarer words.
        start_vocabulary: How many of them take part in the beginning without pairs.
        neighbours: k of CSLS.
        keep: p of the first iterations.
        growth: What p is multiplied by.
        patience: How many iterations in a row the objective gains less than 1e-6 before p grows,
            or, when p is 1, before the end.
        seed: Of the draws.

    Attributes:
        mapping: (d, d) orthogonal, of the last dictionary; ``source @ mapping.T``.
        pairs: (p, 2) the last dictionary.
        objective: One number for each iteration.
        keep: p now.
        finished: Whether p is 1 and nothing was gained for as long as `patience` says.

    Raises:
        ValueError: Shapes that do not fit, fewer words than 2, numbers out of range, or pairs of
            rows that are not there.
        TypeError: Dtypes that do not fit.
    """

    def __init__(
        self,
        source: Tensor,
        target: Tensor,
        *,
        start_pairs: Tensor | None = None,
        vocabulary: int = 20_000,
        start_vocabulary: int = 4000,
        neighbours: int = 10,
        keep: float = 0.1,
        growth: float = 2.0,
        patience: int = 10,
        seed: int = 0,
    ) -> None:
        _check_vectors(source, target)
        for name, value, least in (
            ("vocabulary", vocabulary, 2),
            ("start_vocabulary", start_vocabulary, 2),
            ("neighbours", neighbours, 1),
            ("patience", patience, 1),
        ):
            if value < least:
                raise ValueError(f"SelfLearner: expected {name} of at least {least}, got {value}")
        if not 0 < keep <= 1:
            raise ValueError(f"SelfLearner: expected keep above 0 and at most 1, got {keep}")
        if not growth > 1:
            raise ValueError(f"SelfLearner: expected growth above 1, got {growth}")
        source, target = source.detach(), target.detach()
        self.source, self.target, self.vocabulary = source, target, vocabulary
        self.neighbours, self.growth, self.patience = neighbours, growth, patience
        self.keep = keep
        self.objective: list[float] = []
        self.finished = False
        self._best, self._since_best = -float("inf"), 0
        self._generator = torch.Generator().manual_seed(seed)
        if start_pairs is None:
            most = min(vocabulary, start_vocabulary)
            self.pairs = similarity_pairs(source, target, vocabulary=most, neighbours=neighbours)
        else:
            _check_pairs(start_pairs, source, target)
            self.pairs = start_pairs.clone()
        self.mapping = self._fit()

    def step(self) -> float:
        """Make one iteration: dictionary from mapping, then mapping from dictionary.

        Returns:
            The objective: the mean cosine of the best pairs of both directions.

        Raises:
            RuntimeError: It is finished.
        """
        if self.finished:
            raise RuntimeError("SelfLearner: the learning is finished; call result()")
        mapped = self.source[: self.vocabulary] @ self.mapping.mT
        target = self.target[: self.vocabulary]
        depth = 1 if self.keep == 1 else math.ceil(_DEEPEST / self.keep)
        depth = min(depth, len(mapped), len(target))
        found = csls_topk_both(mapped, target, depth, neighbours=self.neighbours)
        forth, back = (side.indices for side in found)
        best = self._paired(forth[:, 0], back[:, 0])
        objective = float(cosine_similarity(mapped[best[:, 0]], target[best[:, 1]]).mean())
        self.objective.append(objective)
        self.pairs = best if depth == 1 else self._paired(self._drawn(forth), self._drawn(back))
        self.mapping = self._fit()
        self._schedule(objective)
        return objective

    def fit(self, on_step: Callable[[SelfLearner], None] | None = None) -> SelfLearned:
        """Step until finished.

        Args:
            on_step: Called after each iteration, to show or to save what there is.

        Returns:
            The same as `result`.
        """
        while not self.finished:
            self.step()
            if on_step is not None:
                on_step(self)
        return self.result()

    def result(self) -> SelfLearned:
        """Fit the re-weighted maps of both sides to the dictionary that there is now."""
        x, z = self.source[self.pairs[:, 0]], self.target[self.pairs[:, 1]]
        return SelfLearned(*reweighted_maps(x, z), self.pairs, tuple(self.objective))

    def state_dict(self) -> dict[str, Tensor]:
        """Return what `load_state_dict` needs to go on from here, all tensors."""
        return {
            "pairs": self.pairs,
            "mapping": self.mapping,
            "objective": torch.tensor(self.objective, dtype=torch.float64),
            "schedule": torch.tensor(
                [self.keep, self._best, self._since_best, self.finished], dtype=torch.float64
            ),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state that was saved of a learner with the same arguments."""
        self.pairs = state["pairs"].to(self.source.device, copy=True)
        self.mapping = state["mapping"].to(self.source, copy=True)
        self.objective = state["objective"].tolist()
        self.keep, self._best, since, finished = state["schedule"].tolist()
        self._since_best, self.finished = int(since), bool(finished)
        self._generator.set_state(state["generator"])

    def _schedule(self, objective: float) -> None:
        self._since_best += 1
        if objective > self._best + _GAIN:
            self._best, self._since_best = objective, 0
        if self._since_best >= self.patience:
            self.finished = self.keep == 1
            self.keep, self._since_best = min(1.0, self.growth * self.keep), 0

    def _fit(self) -> Tensor:
        x, z = self.source[self.pairs[:, 0]], self.target[self.pairs[:, 1]]
        return procrustes(x, z)

    def _drawn(self, indices: Tensor) -> Tensor:
        """For each row the best of its neighbours (rows, depth) that a mask of p keeps: (rows,)."""
        depth = indices.shape[1]
        # The inverse of the distribution function of a geometric law that is cut at the depth.
        rest = 1 - self.keep
        uniform = torch.rand(len(indices), dtype=torch.float64, generator=self._generator)
        rank = torch.log1p(-uniform * (1 - rest**depth)) / math.log(rest)
        rank = rank.long().clamp(max=depth - 1).to(indices.device)
        return indices.gather(1, rank[:, None])[:, 0]

    def _paired(self, forth: Tensor, back: Tensor) -> Tensor:
        """Pairs (n + m, 2) of source and target rows, of both directions."""
        rows, columns = (torch.arange(len(side), device=side.device) for side in (forth, back))
        return torch.cat([torch.stack([rows, forth], 1), torch.stack([back, columns], 1)])


def self_learning(
    source: Tensor,
    target: Tensor,
    *,
    start_pairs: Tensor | None = None,
    vocabulary: int = 20_000,
    start_vocabulary: int = 4000,
    neighbours: int = 10,
    keep: float = 0.1,
    growth: float = 2.0,
    patience: int = 10,
    seed: int = 0,
    on_step: Callable[[SelfLearner], None] | None = None,
) -> SelfLearned:
    """Map two vocabularies into a common space without pairs, or from a few, to the end.

    Args:
        source: (n, d) vectors, most frequent word first; see `SelfLearner` for these and the rest.
        target: (m, d).
        start_pairs: (p, 2) rows to begin with, or None.
        vocabulary: Words of each side that take part.
        start_vocabulary: Words that take part in the beginning without pairs.
        neighbours: k of CSLS.
        keep: Probability of keeping a similarity at first.
        growth: What it is multiplied by.
        patience: Iterations without gain before it grows.
        seed: Of the draws.
        on_step: Called after each iteration with the learner.

    Returns:
        Maps of both sides, the last dictionary, and the objective of each iteration.

    Raises:
        ValueError: As `SelfLearner`.
        TypeError: As `SelfLearner`.
    """
    learner = SelfLearner(
        source,
        target,
        start_pairs=start_pairs,
        vocabulary=vocabulary,
        start_vocabulary=start_vocabulary,
        neighbours=neighbours,
        keep=keep,
        growth=growth,
        patience=patience,
        seed=seed,
    )
    return learner.fit(on_step)


def _check_vectors(source: Tensor, target: Tensor) -> None:
    for name, vectors in (("source", source), ("target", target)):
        if vectors.ndim != 2 or vectors.shape[1] != target.shape[-1]:
            raise ValueError(
                f"SelfLearner: expected source and target of shapes (words, dimensions) with the "
                f"same dimensions, got {tuple(source.shape)} and {tuple(target.shape)}"
            )
        if len(vectors) < 2:
            raise ValueError(f"SelfLearner: {name} has {len(vectors)} words, expected at least 2")
        if not bool(vectors.isfinite().all()):
            raise ValueError(f"SelfLearner: {name} vectors hold NaN or infinity")
    if source.dtype != target.dtype or source.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"SelfLearner: expected source and target both in float32 or both in float64, got "
            f"{source.dtype} and {target.dtype}"
        )


def _check_pairs(pairs: Tensor, source: Tensor, target: Tensor) -> None:
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise ValueError(
            f"SelfLearner: expected start_pairs of shape (pairs, 2) with at least one pair, "
            f"got {tuple(pairs.shape)}"
        )
    if pairs.dtype != torch.int64:
        raise TypeError(f"SelfLearner: expected start_pairs in int64, got {pairs.dtype}")
    sizes = torch.tensor([len(source), len(target)], device=pairs.device)
    if (pairs < 0).any() or (pairs >= sizes).any():
        raise ValueError(
            f"SelfLearner: start_pairs holds rows that are not there: expected 0 … "
            f"{len(source) - 1} and 0 … {len(target) - 1}, got {pairs.min(0).values.tolist()} to "
            f"{pairs.max(0).values.tolist()}"
        )
