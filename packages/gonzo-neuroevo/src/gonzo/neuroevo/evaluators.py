"""Who works out the fitness of a population: this process, others (`ProcessPool`), or a cluster."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from .phenotypes import Networks, Phenotype
from .population import Population
from .problem import Problem, checked_fitness
from .seeds import Episodes

FEED_FORWARD = Phenotype()


@runtime_checkable
class Evaluator(Protocol):
    """Works out fitness. All give the same numbers to the last bit."""

    def evaluate(
        self,
        problem: Problem,
        population: Population,
        episodes: Episodes,
        *,
        phenotype: Callable[[Population], Networks] = FEED_FORWARD,
    ) -> Tensor:
        """The fitness of every genome.

        Args:
            problem: gives the fitness.
            population: P genomes.
            episodes: their ids, and what their seeds depend on.
            phenotype: what networks genomes become: a `Phenotype`, a `HyperNEAT`, a function.

        Returns:
            (P,) float64 on the population's device, higher is better.
        """
        ...

    def close(self) -> None:
        """Let go of processes; nothing can be evaluated afterwards."""
        ...


def check_call(problem: Problem, nets: Networks) -> None:
    """Refuse networks that are not the problem's."""
    if (problem.inputs, problem.outputs) != (nets.inputs, nets.outputs):
        raise ValueError(
            f"the problem has {problem.inputs} inputs and {problem.outputs} outputs, and the "
            f"networks have {nets.inputs} and {nets.outputs}; expected the same"
        )


def check_ids(population: Population, episodes: Episodes) -> None:
    """Refuse episodes of another number of genomes."""
    if len(episodes) != len(population):
        raise ValueError(
            f"expected an id for each of {len(population)} genomes, got {len(episodes)}"
        )


class InProcess:
    """Evaluates here, in one call of the problem, or in several of `chunk` genomes.

    Args:
        chunk: most genomes in one call, where memory asks for it.
    """

    def __init__(self, *, chunk: int | None = None) -> None:
        if chunk is not None and chunk < 1:
            raise ValueError(f"InProcess: expected a chunk of 1 or more genomes, got {chunk}")
        self._chunk = chunk

    def evaluate(
        self,
        problem: Problem,
        population: Population,
        episodes: Episodes,
        *,
        phenotype: Callable[[Population], Networks] = FEED_FORWARD,
    ) -> Tensor:
        """See `Evaluator.evaluate`. What the problem raises passes through.

        Raises:
            ValueError: genomes, problem and episodes that do not fit; fitness that is not finite.
        """
        check_ids(population, episodes)
        size = self._chunk or max(1, len(population))
        parts = []
        for start in range(0, len(population), size):
            rows = range(start, min(start + size, len(population)))
            part = (
                population
                if len(rows) == len(population)
                else population.select(slice(rows.start, rows.stop))
            )
            nets = phenotype(part)
            check_call(problem, nets)
            ours = episodes if part is population else episodes.select(rows)
            parts.append(checked_fitness(problem.evaluate(nets, ours), ours).to(part.device))
        if not parts:
            return torch.zeros(0, dtype=torch.float64, device=population.device)
        return torch.cat(parts)

    def close(self) -> None:
        """Nothing to let go of."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
