"""Two vocabularies in, an alignment out, by whichever method the material allows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from torch import Tensor

from gonzo.translation.adversarial import AdversarialConfig
from gonzo.translation.criterion import mean_similarity
from gonzo.translation.embeddings import Embeddings
from gonzo.translation.lexicon import Lexicon, LexiconRows, identical_words
from gonzo.translation.loops import Loops, PlainLoops
from gonzo.translation.mapping import Alignment
from gonzo.translation.normalization import fit_normalization
from gonzo.translation.orthogonal import procrustes
from gonzo.translation.refinement import RefinementConfig, refine
from gonzo.translation.relaxed_csls import rcsls
from gonzo.translation.self_learner import SelfLearned, SelfLearner
from gonzo.translation.stability import StabilityReport, restart

__all__ = ["Aligned", "Method", "align"]

_log = logging.getLogger("gonzo.translation")

Method = Literal[
    "self-learning", "adversarial", "identical", "supervised", "semi-supervised", "rcsls"
]
NEEDS_LEXICON = ("supervised", "semi-supervised", "rcsls")
MOST_ITERATIONS = 500
"""Of self-learning, which by itself ends after 100 to 300."""


class Aligned(NamedTuple):
    """An alignment and how it came about.

    Attributes:
        alignment: the maps.
        criterion: the unsupervised criterion: mean cosine of frequent words with their best
            translations.
        lexicon_rows: where the pairs to start from lie and how many were unknown; None without.
        stability: of the adversarial seeds; None for other methods.
        pairs: (p, 2) int64 rows that the last fit was made with.
    """

    alignment: Alignment
    criterion: float
    lexicon_rows: LexiconRows | None
    stability: StabilityReport | None
    pairs: Tensor


def align(
    source: Embeddings,
    target: Embeddings,
    *,
    method: Method = "self-learning",
    lexicon: Lexicon | None = None,
    normalize: Sequence[str] = ("unit", "center", "unit"),
    adversarial: AdversarialConfig | None = None,
    refinement: RefinementConfig | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    vocabulary: int = 20_000,
    loops: Loops | None = None,
) -> Aligned:
    """Find maps of two languages into one space, with or without known translations.

    Args:
        source: words of one language, most frequent first.
        target: words of the other.
        method: without any translation, "self-learning" (Artetxe et al. 2018, the robust one) or
            "adversarial" (Conneau et al. 2018, several seeds, then refinement); "identical" starts
            from words spelt alike, and refines; with a lexicon, "supervised" is Procrustes, refined
            unless ``refinement.steps`` is 0, "rcsls" follows it by relaxed CSLS (Joulin et al.
            2018), and "semi-supervised" starts self-learning from it, for which 25 pairs can do.
        lexicon: known translations, for the last three.
        normalize: what is done to both vocabularies first; see `Normalization`.
        adversarial: rules of the game; `AdversarialConfig.small` by default. The paper's take hours
            a seed on a CPU.
        refinement: rules of refinement; the paper's by default.
        seeds: of the adversarial games; of self-learning the first counts.
        vocabulary: words of each side from which self-learning induces its pairs.
        loops: runs the long loops; `gonzo.lab.Run` makes them resumable.

    Raises:
        ValueError: an unknown method, a lexicon that is missing or has no pair in both
            vocabularies, or vectors of different dimension.
    """
    _check(source, target, method, lexicon, seeds)
    loops = loops or PlainLoops()
    norms = [fit_normalization(side.vectors, normalize) for side in (source, target)]
    x, y = (norm.apply(side.vectors) for norm, side in zip(norms, (source, target), strict=True))
    refinement = refinement or RefinementConfig()
    rows, stability = None, None
    if method == "identical":
        lexicon = identical_words(source, target)
    if lexicon is not None and method != "adversarial":
        rows = lexicon.rows(source, target)
        if not rows.found:
            raise ValueError(
                f"align: no pair of the lexicon lies in both vocabularies: {rows}; is it the right "
                "way round? lexicon.swapped() turns it"
            )
    target_map: Tensor | None = None
    if method in ("self-learning", "semi-supervised"):
        start = rows.pairs if rows is not None and method == "semi-supervised" else None
        learnt = _self_learn(x, y, start, vocabulary, seeds[0], loops)
        source_map, target_map, pairs = learnt.source_map, learnt.target_map, learnt.pairs
    elif method == "adversarial":
        rules = adversarial or AdversarialConfig.small()
        stability = restart(x, y, seeds, rules, refinement, loops=loops)
        source_map, pairs = stability.best.refined.mapping, stability.best.refined.pairs
    else:
        assert rows is not None
        pairs = rows.pairs
        source_map = procrustes(x[pairs[:, 0]], y[pairs[:, 1]])
        if method == "rcsls":
            source_map = rcsls(x[pairs[:, 0]], y[pairs[:, 1]], x, y, start=source_map).mapping
        elif refinement.steps:
            refined = refine(x, y, source_map, refinement, loops=loops)
            source_map, pairs = refined.mapping, refined.pairs
    alignment = Alignment.of(
        source_map, target_map, source=norms[0], target=norms[1], method=method
    )
    criterion = mean_similarity(
        alignment.map_source(source.vectors),
        alignment.map_target(target.vectors),
        words=refinement.criterion_words,
        rule=refinement.criterion_rule,
        neighbours=refinement.neighbours,
    )
    return Aligned(alignment, criterion, rows, stability, pairs)


def _self_learn(
    x: Tensor, y: Tensor, start: Tensor | None, vocabulary: int, seed: int, loops: Loops
) -> SelfLearned:
    learner = SelfLearner(x, y, start_pairs=start, vocabulary=vocabulary, seed=seed)
    for step in loops.steps(MOST_ITERATIONS, name="self-learning", learner=learner):
        if not learner.finished:
            loops.log(step, objective=learner.step(), keep=learner.keep)
    if not learner.finished:
        _log.warning(
            "self-learning was still improving after %d iterations; what it has is used",
            MOST_ITERATIONS,
        )
    return learner.result()


def _check(
    source: Embeddings,
    target: Embeddings,
    method: str,
    lexicon: Lexicon | None,
    seeds: Sequence[int],
) -> None:
    if method not in get_args(Method):
        raise ValueError(
            f"align: expected a method of {', '.join(get_args(Method))}, got {method!r}"
        )
    if source.dim != target.dim:
        raise ValueError(
            f"align: expected vectors of one dimension, got {source.dim} (source) and {target.dim} "
            "(target); train or choose embeddings of the same dimension"
        )
    if source.vectors.dtype != target.vectors.dtype:
        raise ValueError(
            f"align: expected vectors of one dtype, got {source.vectors.dtype} and "
            f"{target.vectors.dtype}; convert one with .to(torch.float32)"
        )
    if method in NEEDS_LEXICON and lexicon is None:
        raise ValueError(
            f"align: the method {method!r} needs a lexicon of known translations; without one, use "
            "'self-learning', 'adversarial' or 'identical'"
        )
    if lexicon is not None and method not in NEEDS_LEXICON:
        raise ValueError(
            f"align: the method {method!r} uses no lexicon; with one, use 'supervised', 'rcsls' or "
            "'semi-supervised'"
        )
    if not seeds:
        raise ValueError("align: expected at least one seed")
