"""One run of NEAT inside a recipe: it stops when its problem is solved, and it resumes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gonzo.lab import Run
from gonzo.neuroevo.evaluators import InProcess
from gonzo.neuroevo.evolution import advance
from gonzo.neuroevo.export.json import from_json, to_json
from gonzo.neuroevo.genome import Genome
from gonzo.neuroevo.neat import NEAT
from gonzo.neuroevo.problem import Problem


class Trial:
    """A run of NEAT on a problem, a generation at a time.

    Args:
        neat: the run.
        problem: what gives the fitness.
        target: at which it stops, when its champion holds.

    Attributes:
        solved: in which generation, counted from 1; None before.
        genome: the champion that solved it.
    """

    def __init__(self, neat: NEAT, problem: Problem, target: float) -> None:
        self.neat = neat
        self.solved: int | None = None
        self.genome: Genome | None = None
        self._problem = problem
        self._target = target

    def evolve(self, run: Run, generations: int) -> Genome:
        """Evolve inside a run; returns what solved it, else the best."""
        for step in run.steps(generations, name="evolve", trial=self):
            if self.solved is not None:
                continue
            found = advance(self.neat, self._problem, target=self._target, evaluator=InProcess())
            run.log(step, best=self.neat.history[-1].best, mean=self.neat.history[-1].mean)
            if found is not None:
                self.solved, self.genome = self.neat.generation, found.genome
        return self.genome or self.neat.best_genome

    @property
    def evaluations(self) -> int:
        """Genomes evaluated, all that were before it was solved among them."""
        return self.neat.generation * self.neat.config.population

    def state_dict(self) -> dict[str, Any]:
        """The run, and whether it is solved."""
        genome = to_json(self.genome) if self.genome else None
        return {"neat": self.neat.state_dict(), "solved": self.solved, "genome": genome}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state over."""
        self.neat.load_state_dict(state["neat"])
        self.solved = state["solved"]
        self.genome = from_json(state["genome"]) if state["genome"] else None


def interquartile_mean(values: list[float]) -> float:
    """The mean of the middle half; values on its edge count in part."""
    ordered = torch.tensor(sorted(values), dtype=torch.float64)
    n = len(values)
    edges = torch.arange(n + 1, dtype=torch.float64)
    inside: Tensor = edges.clamp(n / 4, 3 * n / 4)
    share = inside[1:] - inside[:-1]
    return float((share * ordered).sum() / share.sum())
