"""The same adversarial game from several seeds: which one to keep, and how many failed.

On some seeds the game ends nowhere (users of MUSE report it, with the same settings on the same
vectors). Without translations a failure shows in the unsupervised criterion: a mapping that found
nothing is refined to no more than what refinement makes of any mapping. So random rotations are
refined beside the seeds, and a seed counts as failed when its criterion is not clearly above what
they reach. With fewer than some fifty words chance can look like a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gonzo.translation.adversarial import (
    AdversarialAligner,
    AdversarialConfig,
    DivergedError,
    EpochReport,
)
from gonzo.translation.loops import Loops, PlainLoops
from gonzo.translation.orthogonal import nearest_orthogonal
from gonzo.translation.refinement import Refined, RefinementConfig, refine

__all__ = ["SeedReport", "StabilityReport", "least_criterion", "random_criteria", "restart"]

CLEARLY = 0.1
"""Of the way from what random rotations reach to 1."""


class SeedReport(NamedTuple):
    """One game and its refinement.

    Attributes:
        seed: of the game.
        epochs: of the game.
        refined: what refinement made of its best mapping.
        failed: whether the criterion is no higher than chance explains.
    """

    seed: int
    epochs: tuple[EpochReport, ...]
    refined: Refined
    failed: bool

    @property
    def criterion(self) -> float:
        """The unsupervised criterion after refinement."""
        return max(self.refined.criteria)


class StabilityReport(NamedTuple):
    """All seeds.

    Attributes:
        seeds: a report for each.
        random: criteria that refinement reached from random rotations.
    """

    seeds: tuple[SeedReport, ...]
    random: tuple[float, ...]

    @property
    def best(self) -> SeedReport:
        """The seed with the highest criterion."""
        return max(self.seeds, key=lambda report: report.criterion)

    @property
    def failed(self) -> tuple[int, ...]:
        """The seeds that failed."""
        return tuple(report.seed for report in self.seeds if report.failed)

    def __str__(self) -> str:
        found = f"{len(self.seeds) - len(self.failed)} of {len(self.seeds)} seeds found a mapping"
        chance = f"random rotations reach {max(self.random):.3f}"
        if len(self.failed) == len(self.seeds):
            return (
                f"no seed found a mapping (best criterion {self.best.criterion:.3f}, {chance}): "
                "the result is worthless. Try method='self-learning', more text or more seeds."
            )
        return (
            f"{found}; kept seed {self.best.seed} (criterion {self.best.criterion:.3f}, {chance})"
        )


def least_criterion(random: Sequence[float]) -> float:
    """Return the criterion below which a mapping counts as failed, given those of chance."""
    return max(random) + CLEARLY * (1 - max(random))


def random_criteria(
    source: Tensor,
    target: Tensor,
    config: RefinementConfig | None = None,
    *,
    count: int = 2,
    seed: int = 0,
    loops: Loops | None = None,
) -> tuple[float, ...]:
    """Return the best criteria that refinement reaches from random rotations.

    Args:
        source: (n, d) vectors, the most frequent word first.
        target: (m, d).
        config: of the refinement.
        count: how many rotations.
        seed: of the rotations.
        loops: runs the loops, named ``random-<number>``.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        noise = torch.randn(
            source.shape[1], source.shape[1], generator=generator, dtype=source.dtype
        )
        start = nearest_orthogonal(noise)
        refined = refine(source, target, start, config, loops=loops, name=f"random-{number}")
        found.append(max(refined.criteria))
    return tuple(found)


def restart(
    source: Tensor,
    target: Tensor,
    seeds: Sequence[int],
    config: AdversarialConfig | None = None,
    refinement: RefinementConfig | None = None,
    *,
    loops: Loops | None = None,
) -> StabilityReport:
    """Play the game from every seed, refine what it found, and judge.

    Args:
        source: (n, d) vectors, the most frequent word first.
        target: (m, d).
        seeds: at least one, all different.
        config: of the game.
        refinement: of the refinement.
        loops: runs the loops, named ``random-…``, ``adversarial-<seed>`` and
            ``refinement-<seed>``; `gonzo.lab.Run` makes them resumable.

    A seed whose mapping diverges counts as failed, with a criterion of minus infinity.

    Raises:
        ValueError: no seed, or one twice.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"restart: expected seeds that differ, at least one, got {list(seeds)}")
    loops = loops or PlainLoops()
    random = random_criteria(source, target, refinement, loops=loops)
    least = least_criterion(random)
    reports = []
    for seed in seeds:
        game = AdversarialAligner(source, target, config, seed=seed)
        try:
            _play(game, loops, f"adversarial-{seed}")
        except DivergedError:
            none = torch.empty(0, 2, dtype=torch.int64)
            found = game.best_mapping if game.history else torch.eye(source.shape[1]).to(source)
            refined = Refined(found, (float("-inf"),), none, 0)
            reports.append(SeedReport(seed, tuple(game.history), refined, True))
            continue
        refined = refine(
            source, target, game.best_mapping, refinement, loops=loops, name=f"refinement-{seed}"
        )
        failed = max(refined.criteria) < least
        reports.append(SeedReport(seed, tuple(game.history), refined, failed))
    return StabilityReport(tuple(reports), random)


def _play(game: AdversarialAligner, loops: Loops, name: str) -> None:
    epoch_steps = game.config.epoch_steps
    for step in loops.steps(game.config.epochs * epoch_steps, name=name, game=game):
        game.step()
        if (step + 1) % epoch_steps == 0:
            report = game.end_epoch()
            loops.log(
                step,
                criterion=report.criterion,
                discriminator_loss=report.discriminator_loss,
                mapping_rate=report.mapping_rate,
            )
