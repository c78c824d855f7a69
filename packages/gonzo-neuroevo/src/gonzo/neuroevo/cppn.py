"""Compositional pattern-producing networks: a genome as a function of space.

    pattern       f(x, |x|, 1)               a value at every point: a picture, say
    connectivity  f(x_1, x_2[, |x_1 - x_2|], 1)   a value for every pair of points: the weight of a
                                             connection between them

Every network of a population is asked at every point in one call.

Sources:
    Stanley: Compositional pattern producing networks (2007);
    Secretan et al.: Picbreeder (2011), for pictures with the distance from the centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .config import Choice, NEATConfig
from .genome import Genome
from .phenotypes import Networks, networks
from .population import Population

__all__ = ["CPPN", "CPPN_ACTIVATIONS", "connection_inputs", "cppn_config", "point_inputs"]

CPPN_ACTIVATIONS = ("sin", "gauss", "tanh", "sigmoid", "abs", "identity")
"""What nodes of a CPPN choose from: repetition, symmetry, a step to either side, a fold, a line."""


def cppn_config(population: int = 150) -> NEATConfig:
    """NEAT's rules for CPPNs: neat-python's, with functions to choose from and about ten species.

    Nodes start with a random function of `CPPN_ACTIVATIONS` and change it at a rate of 0.1. The
    distance threshold moves, for functions count in the distance and CPPNs are far apart by it.
    """
    return NEATConfig(
        population=population,
        activation=Choice(CPPN_ACTIVATIONS, mutate=0.1),
        target_species=10,
        threshold_step=0.2,
    )


@dataclass(frozen=True)
class CPPN:
    """Genomes as patterns over space.

    Attributes:
        networks: P networks; `CPPN.of` makes them from genomes.
    """

    networks: Networks

    @classmethod
    def of(cls, genomes: Genome | Population) -> CPPN:
        """The patterns of one genome or of a population."""
        if isinstance(genomes, Genome):
            genomes = Population.from_genomes([genomes])
        return cls(networks(genomes))

    def pattern(self, points: Tensor) -> Tensor:
        """The values at points.

        Args:
            points: (n, d); the networks have d + 2 inputs, see `point_inputs`.

        Returns:
            (P, n, outputs)

        Raises:
            ValueError: points of another dimension.
        """
        return self._ask(point_inputs(points), f"d + 2 with points of d = {points.shape[1]}")

    def connectivity(self, source: Tensor, target: Tensor, *, distance: bool = False) -> Tensor:
        """The values of all pairs of points.

        Args:
            source: (n, d)
            target: (m, d)
            distance: whether the distance between the points is an input; see
                `connection_inputs`.

        Returns:
            (P, n, m, outputs)

        Raises:
            ValueError: points of another dimension.
        """
        n, m = len(source), len(target)
        inputs = connection_inputs(
            source.repeat_interleave(m, 0), target.repeat(n, 1), distance=distance
        )
        values = self._ask(
            inputs,
            f"2 d + {2 if distance else 1} with points of d = {source.shape[1]}"
            f"{' and their distance' if distance else ''}",
        )
        return values.unflatten(1, (n, m))

    def picture(self, height: int, width: int | None = None, *, mirror: bool = False) -> Tensor:
        """Paint the plane: -1 is black and 1 is white, in every channel.

        Args:
            height: rows of pixels; y runs from -1 to 1 down them.
            width: columns of pixels, `height` where not given; x runs from -1 to 1 along them.
            mirror: whether the left half is the right one's reflection.

        Returns:
            (P, height, width, outputs) in [0, 1]; the networks have 4 inputs.
        """
        width = height if width is None else width
        if height < 1 or width < 1:
            raise ValueError(f"picture: expected at least one pixel, got {height} × {width}")
        y, x = (_centres(size) for size in (height, width))
        points = torch.cartesian_prod(y, x.abs() if mirror else x).flip(1)
        return ((self.pattern(points) + 1) / 2).clamp(0, 1).unflatten(1, (height, width))

    def _ask(self, inputs: Tensor, expected: str) -> Tensor:
        if inputs.shape[1] != self.networks.inputs:
            raise ValueError(
                f"CPPN: expected networks with {inputs.shape[1]} inputs ({expected}), got "
                f"{self.networks.inputs}"
            )
        return self.networks(inputs.to(self.networks.bias))


def point_inputs(points: Tensor) -> Tensor:
    """What a pattern's network sees at points (n, d): (n, d + 2).

    The coordinates, √2 times the distance from the origin (so that a corner of the square has 2),
    and 1.
    """
    if points.ndim != 2:
        raise ValueError(f"CPPN: expected points of shape (n, d), got {tuple(points.shape)}")
    radius = points.norm(dim=1, keepdim=True) * 2**0.5
    return torch.cat([points, radius, torch.ones_like(radius)], 1)


def connection_inputs(source: Tensor, target: Tensor, *, distance: bool = False) -> Tensor:
    """What a connectivity's network sees between points (n, d) and (n, d): (n, 2 d + 1 or + 2).

    The source's coordinates, the target's, their distance if `distance`, and 1.
    """
    if source.ndim != 2 or source.shape != target.shape:
        raise ValueError(
            "CPPN: expected sources and targets as points of one dimension, got the shapes "
            f"{tuple(source.shape)} and {tuple(target.shape)}"
        )
    columns = [source, target]
    if distance:
        columns.append((source - target).norm(dim=1, keepdim=True))
    return torch.cat([*columns, torch.ones_like(source[:, :1])], 1)


def _centres(count: int) -> Tensor:
    """Centres of `count` equal cells of [-1, 1]."""
    return (torch.arange(count, dtype=torch.float64) * 2 + 1) / count - 1
