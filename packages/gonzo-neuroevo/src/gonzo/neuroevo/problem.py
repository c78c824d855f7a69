"""What evolution is asked to solve: anything that gives each network a fitness.

`Problem` is the protocol. `NetworkFitness` makes one of a function of all networks at once,
`GenomeFitness` of a plain Python function of one network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .phenotypes import Networks
from .seeds import Episodes


@runtime_checkable
class Problem(Protocol):
    """A fitness for networks of so many inputs and outputs.

    A class with two numbers and a method; nothing needs to be inherited. Where it has an attribute
    `episodes`, a time limit for an episode counts so many for each genome.
    """

    @property
    def inputs(self) -> int:
        """Numbers that each network takes."""
        ...

    @property
    def outputs(self) -> int:
        """Numbers that each network gives."""
        ...

    def evaluate(self, networks: Networks, episodes: Episodes) -> Tensor:
        """The fitness of each network, higher is better.

        A genome's fitness may depend on its network and on `episodes.seed(row, …)`, never on which
        other genomes share the call: evaluators cut a population as they like.

        Args:
            networks: of P genomes.
            episodes: their ids, and the seeds of whatever is random.

        Returns:
            (P,) float64 on the networks' device, finite.
        """
        ...


def checked_fitness(fitness: object, episodes: Episodes) -> Tensor:
    """A problem's answer as (P,) float64, or an error that names the first genome to blame.

    Args:
        fitness: a tensor, array or sequence of P numbers.
        episodes: the genomes that it was asked of.

    Raises:
        TypeError: not numbers.
        ValueError: another shape than (P,), or a number that is not finite.
    """
    if not isinstance(fitness, Tensor):
        fitness = _tensor(fitness)
    if fitness.dtype == torch.bool or fitness.is_complex():
        raise TypeError(f"fitness: expected real numbers, got a tensor of {fitness.dtype}")
    if fitness.shape != (len(episodes),):
        raise ValueError(
            f"fitness: expected one number for each of {len(episodes)} genomes, got the shape "
            f"{tuple(fitness.shape)}"
        )
    fitness = fitness.detach().to(torch.float64)
    bad = ~fitness.isfinite()
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(
            f"fitness: expected finite numbers, got {fitness[row].item()} for the genome with id "
            f"{episodes.ids[row]} in generation {episodes.generation}; return a low number such "
            "as -1e9 for a failure"
        )
    return fitness


def _tensor(fitness: object) -> Tensor:
    try:
        return torch.from_numpy(np.array(fitness, copy=True))
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"fitness: expected a tensor of numbers, got {type(fitness).__name__}: {fitness!r:.80}"
        ) from None


def _check_widths(name: str, inputs: int, outputs: int) -> None:
    if inputs < 0 or outputs < 1:
        raise ValueError(
            f"{name}: expected 0 or more inputs and 1 or more outputs, got {inputs} and {outputs}"
        )


@dataclass(frozen=True)
class NetworkFitness:
    """A problem made of a function of all networks at once: the fast form.

    ``NetworkFitness(lambda networks: -(networks(x) - y).square().sum((1, 2)), 2, 1)``. To be
    evaluated in other processes, the function must be importable: defined with ``def`` at the top
    of a module.

    Args:
        function: networks of P genomes → (P,) numbers, higher is better. What it gives a genome
            must not depend on the others, to the last bit where runs are to repeat on another
            number of workers.
        inputs: that each network takes.
        outputs: that each network gives.

    Raises:
        TypeError: from `evaluate`: what came back is not numbers.
        ValueError: from `evaluate`: not one number for each genome, or one that is not finite.
    """

    function: Callable[[Networks], Tensor]
    inputs: int
    outputs: int

    def __post_init__(self) -> None:
        _check_widths("NetworkFitness", self.inputs, self.outputs)

    def evaluate(self, networks: Networks, episodes: Episodes) -> Tensor:
        """See `Problem.evaluate`."""
        return checked_fitness(self.function(networks), episodes)


class Network:
    """One genome's network as a function of NumPy arrays.

    Args:
        networks: a selection of one genome.
    """

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self.inputs = networks.inputs
        self.outputs = networks.outputs
        self._like = networks.weight
        self._state: Tensor | None = None

    def __call__(self, x: ArrayLike) -> NDArray[np.floating]:
        """Outputs, from rest.

        Args:
            x: (inputs,) or (samples, inputs).

        Returns:
            (outputs,) or (samples, outputs).
        """
        rows, shape = self._rows(x)
        with torch.no_grad():
            y = self._networks(rows)
        return y[0].cpu().numpy().reshape(*shape[:-1], self.outputs)

    def step(self, x: ArrayLike) -> NDArray[np.floating]:
        """One tick: outputs, keeping the state of a recurrent network for the next call.

        Args:
            x: (inputs,)

        Returns:
            (outputs,)
        """
        rows, shape = self._rows(x)
        if len(shape) != 1:
            raise ValueError(f"Network.step: expected x of shape ({self.inputs},), got {shape}")
        with torch.no_grad():
            if self._state is None:
                self._state = self._networks.rest(1)
            y, self._state = self._networks.step(rows, self._state)
        return y[0, 0].cpu().numpy()

    def reset(self) -> None:
        """Back to rest."""
        self._state = None

    def _rows(self, x: ArrayLike) -> tuple[Tensor, tuple[int, ...]]:
        array = np.asarray(x)
        if array.ndim not in (1, 2) or array.shape[-1] != self.inputs:
            raise ValueError(
                f"Network: expected x of shape ({self.inputs},) or (samples, {self.inputs}), got "
                f"{array.shape}"
            )
        rows = torch.tensor(array, dtype=self._like.dtype, device=self._like.device)
        return rows.reshape(-1, self.inputs), array.shape


@dataclass(frozen=True)
class GenomeFitness:
    """A problem made of a plain Python function of one genome's network: the easy form.

    ``GenomeFitness(lambda network, seed: -abs(network([1.0])[0] - 0.3), 1, 1)``. The function may
    do anything: simulate, call another program, keep a recurrent network's state with
    `Network.step`. Genomes are evaluated one after the other. To be evaluated in other processes,
    the function must be importable: defined with ``def`` at the top of a module.

    Args:
        function: (network, seed) → fitness, higher is better. Whatever is random must come from
            the seed.
        inputs: that each network takes.
        outputs: that each network gives.
        episodes: calls for each genome, each with its own seed; their mean is the fitness.

    Raises:
        TypeError: from `evaluate`: what came back is not a number.
        ValueError: from `evaluate`: a number that is not finite.
    """

    function: Callable[[Network, int], float]
    inputs: int
    outputs: int
    episodes: int = 1

    def __post_init__(self) -> None:
        _check_widths("GenomeFitness", self.inputs, self.outputs)
        if self.episodes < 1:
            raise ValueError(f"GenomeFitness: expected 1 or more episodes, got {self.episodes}")

    def evaluate(self, networks: Networks, episodes: Episodes) -> Tensor:
        """See `Problem.evaluate`."""
        seeds = episodes.seeds(self.episodes).tolist()
        fitness = [
            self._one(networks.select(torch.tensor([row])), row_seeds, episodes.ids[row])
            for row, row_seeds in enumerate(seeds)
        ]
        device = networks.weight.device
        return checked_fitness(torch.tensor(fitness, dtype=torch.float64, device=device), episodes)

    def _one(self, networks: Networks, seeds: Sequence[int], genome_id: int) -> float:
        values = []
        for seed in seeds:
            value = self.function(Network(networks), seed)
            try:
                values.append(float(value))
            except (TypeError, ValueError):
                raise TypeError(
                    f"GenomeFitness: expected a number for the genome with id {genome_id}, got "
                    f"{type(value).__name__}: {value!r:.80}"
                ) from None
        broken = [value for value in values if not math.isfinite(value)]
        return broken[0] if broken else math.fsum(values) / len(values)
