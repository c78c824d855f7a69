"""What the control recipes share: champions of several runs, judged on episodes nobody has seen."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from gonzo.lab import Run
from gonzo.neuroevo.config import NEATConfig
from gonzo.neuroevo.export.picture import to_svg
from gonzo.neuroevo.genome import Genome
from gonzo.neuroevo.gym import GymnasiumProblem
from gonzo.neuroevo.neat import NEAT
from gonzo.neuroevo.plots import plot_species
from gonzo.neuroevo.recipes.trial import Trial
from gonzo.neuroevo.rollout import write_gif

# Champions are judged on the held-out episodes of the run's seed before a run ends; the numbers
# that are reported come from those of another seed, on which nothing was decided.
_REPORTED = 10_000_019


@dataclass(frozen=True)
class Champion:
    """What one run ended with."""

    genome: Genome
    solved: int | None
    evaluations: int
    score: float


def champions(
    run: Run,
    problem: GymnasiumProblem,
    config: NEATConfig,
    *,
    runs: int,
    generations: int,
    target: float,
    held_out: int,
    names: tuple[str, ...],
) -> list[Champion]:
    """Evolve `runs` times, and judge each champion on `held_out` more episodes.

    The inputs have `names` in the picture of the best.
    """
    torch.set_num_threads(1)
    found = []
    for index in range(runs):
        seed = 1000 * run.seed + index
        trial = Trial(NEAT(problem.inputs, problem.outputs, config, seed=seed), problem, target)
        with run.part(f"run-{index}"):
            genome = trial.evolve(run, generations)
            score = run.once(
                "held-out",
                lambda: float(
                    problem.held_out(
                        genome,
                        run_seed=seed + _REPORTED,
                        episodes=held_out,
                        phenotype=trial.neat.phenotype,
                    ).mean()
                ),
            )
        found.append(Champion(genome, trial.solved, trial.evaluations, score))
        if index == 0:
            run.figure("species", plot_species(trial.neat.history))
    best = max(found, key=lambda one: one.score)
    run.image("champion", to_svg(best.genome, {-1 - i: name for i, name in enumerate(names)}))
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pictures need no window; SDL looks for one
    run.image("rollout", write_gif(problem.record(best.genome, seed=1)), "gif")
    return found
