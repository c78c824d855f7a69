"""What an alignment looks like: two clouds before and after, hubs, and the seeds of a game."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gonzo.lab.terminal import remark

if TYPE_CHECKING:
    from torch import Tensor

    from gonzo.lab.run import Run
    from gonzo.translation.aligning import Aligned
    from gonzo.translation.commands.folder import Opened
    from gonzo.translation.hubness import Hubness

HUB_WORDS = 10_000
"""Words of each side among which hubs are counted: all pairs of them are compared."""


def draw(run: Run, found: Opened, aligned: Aligned) -> dict[str, Hubness]:
    """Draw the figures of a run, and return the hubs that one of them shows, by retrieval.

    Args:
        run: keeps the figures.
        found: the alignment and its vocabularies.
        aligned: how it came about.
    """
    from gonzo.translation.clouds import plot_clouds
    from gonzo.translation.plots import plot_hubness, plot_stability

    source, target = found.mapped()
    before = found.alignment.source_normalization.apply(found.source.vectors)
    hubs = count_hubs(source, target)
    with _without_missing_letters():
        if before.shape == source.shape:
            clouds = plot_clouds(
                before,
                source,
                target,
                source_words=found.source.words,
                target_words=found.target.words,
                pairs=aligned.pairs,
                names=found.names,
            )
            run.figure("clouds", clouds)
        run.figure("hubness", plot_hubness(hubs))
        if aligned.stability is not None:
            reports = aligned.stability.seeds
            stability = plot_stability(
                {seed.seed: [epoch.criterion for epoch in seed.epochs] for seed in reports},
                failed=frozenset(aligned.stability.failed),
                chosen=aligned.stability.best.seed,
            )
            run.figure("stability", stability)
    return hubs


def count_hubs(source: Tensor, target: Tensor, *, k: int = 10) -> dict[str, Hubness]:
    """Measure hubness among the most frequent words, by nearest neighbours and by CSLS.

    Args:
        source: (n, d) mapped vectors.
        target: (m, d)
        k: how many translations of each word count.
    """
    from gonzo.translation.commands.precision import NAMES
    from gonzo.translation.hubness import measure_hubness

    source, target = source[:HUB_WORDS], target[:HUB_WORDS]
    k = min(k, len(target))
    return {
        "nearest neighbour": measure_hubness(source, target, k=k, method="nn"),
        NAMES["csls"]: measure_hubness(source, target, k=k, method="csls"),
    }


@contextmanager
def _without_missing_letters() -> Generator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if any("lyph" in str(one.message) for one in caught):
        remark("the font of the pictures lacks some of the letters; they are drawn as boxes")
    for text in dict.fromkeys(str(one.message) for one in caught):
        if "lyph" not in text:
            remark(f"warning: {text}")
