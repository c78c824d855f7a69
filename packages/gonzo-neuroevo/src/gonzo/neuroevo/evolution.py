"""Evolve until a champion holds: the loop over generations around `NEAT`.

Success is not a lucky episode. A genome that reaches the target is judged on episodes whose seeds
never select anybody, and only if it reaches the target there too is the problem solved.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from .evaluators import Evaluator, InProcess
from .generation import Generation
from .genome import Genome
from .neat import NEAT
from .phenotypes import Networks
from .population import Population
from .problem import Problem
from .saving import save_run, saved_generation
from .seeds import Episodes


@runtime_checkable
class HeldOut(Protocol):
    """A problem that judges a champion by more than one more evaluation."""

    def held_out(
        self,
        genome: Genome,
        *,
        run_seed: int,
        phenotype: Callable[[Population], Networks],
    ) -> Tensor:
        """Scores (n,) of one genome on episodes or samples that never select."""
        ...


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        solved: whether a champion reached the target, when it was judged too.
        generations: evaluated, with those before the run was loaded.
        evaluations: of genomes, likewise.
        genome: the champion that solved it, else the best by its fitness.
        fitness: with which it was selected.
        judged: its mean score on what is held out; None where it was not judged.
    """

    solved: bool
    generations: int
    evaluations: int
    genome: Genome
    fitness: float
    judged: float | None


def evolve(
    neat: NEAT,
    problem: Problem,
    generations: int,
    *,
    target: float | None = None,
    candidates: int = 3,
    evaluator: Evaluator | None = None,
    watch: Callable[[NEAT, Generation], None] | None = None,
    checkpoint: str | Path | None = None,
) -> Outcome:
    """Evolve until the target is reached, or for so many generations.

    Args:
        neat: the run; one that was saved goes on.
        problem: what gives the fitness.
        generations: at most so many, with those before.
        target: of fitness and of the judged score; None: never stop early.
        candidates: how many genomes of a generation are judged at most.
        evaluator: who works out the fitness; by default this process.
        watch: called after each generation, before the next is evaluated.
        checkpoint: a file that holds the run after each generation; `load_run` reads it.

    Raises:
        ValueError: a problem of another number of inputs or outputs, no generation to do, or a
            checkpoint that holds a later generation.
        TypeError: no problem.
        FileNotFoundError: no folder for the checkpoint.
    """
    if generations < 1 or candidates < 1:
        raise ValueError(
            f"evolve: expected 1 or more generations and candidates, got {generations} and "
            f"{candidates}"
        )
    if not isinstance(problem, Problem):
        raise TypeError(
            f"evolve: expected a problem with inputs, outputs and evaluate, got {problem!r}; "
            "NetworkFitness(function, inputs, outputs) or GenomeFitness make one of a function"
        )
    if checkpoint is not None:
        _check_checkpoint(Path(checkpoint), neat)
    evaluator = evaluator or InProcess()
    size = neat.config.population
    while neat.generation < generations:
        found = advance(neat, problem, target=target, candidates=candidates, evaluator=evaluator)
        if checkpoint is not None:
            save_run(neat, checkpoint)
        if watch is not None:
            watch(neat, neat.history[-1])
        if found is not None:
            return Outcome(True, neat.generation, neat.generation * size, *found)
    if neat.champion is None:
        raise ValueError(f"evolve: there is no generation to do: {neat.generation} are done")
    genome, fitness = neat.best_genome, neat.champion.fitness
    judged = judge(problem, genome, neat) if target is not None else None
    # A run that was interrupted right after it was solved is loaded as one that was solved.
    solved = target is not None and judged is not None and min(fitness, judged) >= target
    return Outcome(solved, neat.generation, neat.generation * size, genome, fitness, judged)


def _check_checkpoint(path: Path, neat: NEAT) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"evolve: there is no folder {path.parent} for the checkpoint")
    if path.exists() and (there := saved_generation(path)) > neat.generation:
        raise ValueError(
            f"evolve: {path} holds a run at generation {there}, this one is at {neat.generation}; "
            "go on with evolve(load_run(path), …), or delete the file"
        )


class Found(NamedTuple):
    """A champion that reached the target.

    Attributes:
        genome: it.
        fitness: with which it was selected.
        judged: its mean score on what is held out.
    """

    genome: Genome
    fitness: float
    judged: float


def advance(
    neat: NEAT,
    problem: Problem,
    *,
    target: float | None = None,
    candidates: int = 3,
    evaluator: Evaluator,
) -> Found | None:
    """Evaluate one generation and make the next; `evolve` does this in a loop.

    Returns:
        A champion of the evaluated generation that reached the target, also when it was judged.
    """
    episodes = Episodes(neat.seed, neat.generation, tuple(neat.ids.tolist()))
    fitness = evaluator.evaluate(problem, neat.population, episodes, phenotype=neat.phenotype)
    found = None
    if target is not None:
        found = _judged_champion(neat, problem, fitness, target, candidates)
    neat.tell(fitness)
    return found


def _judged_champion(
    neat: NEAT, problem: Problem, fitness: Tensor, target: float, candidates: int
) -> Found | None:
    best = fitness.argsort(descending=True, stable=True)[:candidates]
    for row in best.tolist():
        if float(fitness[row]) < target:
            return None
        genome = neat.population.genome(row)
        score = judge(problem, genome, neat)
        if score >= target:
            return Found(genome, float(fitness[row]), score)
    return None


def judge(problem: Problem, genome: Genome, neat: NEAT) -> float:
    """Mean score of a genome on what is held out, which depends on the run's seed alone."""
    if isinstance(problem, HeldOut):
        scores = problem.held_out(genome, run_seed=neat.seed, phenotype=neat.phenotype)
        return float(scores.double().mean())
    dtype = neat.population.weight.dtype
    one = Population.from_genomes([genome], dtype=dtype, device=neat.population.device)
    with torch.no_grad():
        fitness = problem.evaluate(neat.phenotype(one), Episodes(neat.seed, 0, (0,), held_out=True))
    return float(fitness[0])
