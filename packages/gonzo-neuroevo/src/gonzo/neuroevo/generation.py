"""What is kept about each generation of a run, for plots, tables and logs."""

from __future__ import annotations

from typing import NamedTuple


class Generation(NamedTuple):
    """One generation.

    Attributes:
        number: 0, 1, …
        best: largest fitness.
        mean: mean fitness.
        nodes: mean number of hidden and output nodes.
        connections: mean number of enabled connections.
        species: members of each species, by its key.
        threshold: distance below which two genomes are of one species.
        refused: mutations and crossovers of its parents that had no room in its genomes.
    """

    number: int
    best: float
    mean: float
    nodes: float
    connections: float
    species: dict[int, int]
    threshold: float
    refused: int


class Champion(NamedTuple):
    """The best genome so far, by the fitness it was selected with.

    Attributes:
        fitness: then.
        id: the genome's.
        generation: when it first had this fitness.
    """

    fitness: float
    id: int
    generation: int
