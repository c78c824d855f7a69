"""A few genomes as they travel to another process: only live genes, in the smallest integers.

A genome of the XOR problem takes some 60 bytes, where its padded tensors take hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .phenotypes import Networks
from .population import CONNECTION_FIELDS, NODE_FIELDS, PAD, Population
from .problem import Problem, checked_fitness
from .seeds import Episodes

_MASKS = ("node_mask", "connection_mask")
_PAD_KEYS = ("node_key", "innovation", "source", "target")


@dataclass(frozen=True)
class Parcel:
    """Genomes and the episodes to evaluate them in; `pack` makes it.

    Attributes:
        inputs: of each genome.
        outputs: of each genome.
        nodes: (P,) live nodes of each genome.
        connections: (P,) live connections of each genome.
        genes: by name, the live genes of all genomes one after the other, and their own dtype.
        episodes: of these genomes.
    """

    inputs: int
    outputs: int
    nodes: NDArray[np.integer]
    connections: NDArray[np.integer]
    genes: dict[str, tuple[NDArray, str]]
    episodes: Episodes

    @property
    def nbytes(self) -> int:
        """Bytes of the genes and their counts."""
        arrays = [self.nodes, self.connections, *(array for array, _ in self.genes.values())]
        return sum(array.nbytes for array in arrays)

    def population(self) -> Population:
        """The genomes again, padded to the largest of them."""
        arrays: dict[str, NDArray] = {}
        for mask, counts in zip(_MASKS, (self.nodes, self.connections), strict=True):
            width = int(counts.max(initial=0))
            arrays[mask] = np.arange(width) < counts[:, None]
        for name, (genes, dtype) in self.genes.items():
            mask = arrays[_mask_of(name)]
            padded = np.full(mask.shape, PAD if name in _PAD_KEYS else 0, dtype=dtype)
            padded[mask] = genes
            arrays[name] = padded
        return Population.from_arrays(self.inputs, self.outputs, arrays)

    def evaluate(self, problem: Problem, nets: Networks) -> NDArray[np.float64]:
        """The fitness (P,) of its genomes, whose networks these are."""
        return checked_fitness(problem.evaluate(nets, self.episodes), self.episodes).cpu().numpy()


def warm_up(nets: Networks) -> None:
    """Evaluate once, so that compiling kernels is on nobody's time."""
    with torch.no_grad():
        nets(nets.weight.new_zeros(1, nets.inputs))


def pack(population: Population, episodes: Episodes) -> Parcel:
    """Make a parcel of P genomes and their episodes."""
    arrays = population.arrays()
    masks = {name: arrays.pop(name) for name in _MASKS}
    return Parcel(
        inputs=population.inputs,
        outputs=population.outputs,
        nodes=_smallest(masks["node_mask"].sum(1)),
        connections=_smallest(masks["connection_mask"].sum(1)),
        genes={
            name: (_smallest(array[masks[_mask_of(name)]]), array.dtype.str)
            for name, array in arrays.items()
        },
        episodes=episodes,
    )


def rows_of(population: Population, rows: range) -> Population:
    """Some neighbours of a population."""
    return population.select(slice(rows.start, rows.stop))


def _mask_of(name: str) -> str:
    assert name in NODE_FIELDS + CONNECTION_FIELDS
    return "node_mask" if name in NODE_FIELDS else "connection_mask"


def _smallest(array: NDArray) -> NDArray:
    if array.dtype.kind not in "iu" or not array.size:
        return array
    low, high = int(array.min()), int(array.max())
    return array.astype(np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high)))
