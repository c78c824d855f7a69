"""The visual discrimination task: two squares in a field, point at the middle of the larger one.

The field is side × side; one square has 3 × 3 cells, the other one. The network sees the field and
answers with a field, whose largest value is where it points. Its error is the squared distance from
the middle of the larger square.

Source:
    Stanley, D'Ambrosio and Gauci: A Hypercube-Based Encoding for Evolving Large-Scale Neural
    Networks (2009), section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .genome import Genome
from .phenotypes import Networks
from .population import Population
from .seeds import Episodes
from .substrate import Substrate, grid

__all__ = ["VisualDiscrimination"]


class VisualDiscrimination:
    """Point at the larger square: fitness 1 - mean squared distance / (2 (side - 1)²), at most 1.

    Deviation: trials are drawn from all placements in which the squares do not overlap, the same
    for all genomes; the paper puts the small square 5 cells from the large one, in a field of 11.

    Args:
        side: of the field, 4 or more.
        trials: how many placements are shown; the others are kept apart for `test_fitness`.
        seed: which.

    Raises:
        ValueError: a field that is too small, or more trials than there are placements.
    """

    def __init__(self, side: int = 11, *, trials: int = 75, seed: int = 0) -> None:
        if side < 4:
            raise ValueError(f"VisualDiscrimination: expected a side of at least 4, got {side}")
        fields, middles = _placements(side)
        if not 1 <= trials <= len(fields):
            raise ValueError(
                f"VisualDiscrimination: expected 1 … {len(fields)} trials, the placements in a "
                f"field of {side} × {side}, got {trials}"
            )
        self.side = side
        self.inputs = self.outputs = side * side
        shuffled = torch.randperm(len(fields), generator=torch.Generator().manual_seed(seed))
        self._shown, self._apart = shuffled.tensor_split([trials])
        self._fields, self._middles = fields, middles

    @property
    def substrate(self) -> Substrate:
        """The paper's: the field that is seen, connected to the field of answers."""
        return Substrate(grid(self.side, self.side), grid(self.side, self.side))

    def evaluate(self, networks: Networks, episodes: Episodes) -> Tensor:
        """See `Problem.evaluate`; nothing is random here."""
        return self._fitness(networks, self._shown)

    def test_fitness(self, networks: Networks) -> Tensor:
        """The same fitness (P,) over the placements kept apart.

        Raises:
            ValueError: there are none.
        """
        self._check_apart()
        return self._fitness(networks, self._apart)

    def held_out(
        self,
        genome: Genome,
        *,
        run_seed: int,
        phenotype: Callable[[Population], Networks],
    ) -> Tensor:
        """The `test_fitness` (1,) of one genome, for `gonzo.neuroevo.evolve`."""
        return self.test_fitness(phenotype(Population.from_genomes([genome])))

    def middle_distance(self) -> float:
        """How far off pointing at the field's middle cell is, whatever is shown: what to beat.

        Returns:
            The root of the mean squared distance in cells, over the placements kept apart.

        Raises:
            ValueError: there are none.
        """
        self._check_apart()
        cell = torch.tensor([[self.side // 2 * (self.side + 1)]])
        return math.sqrt(self._mean_square(cell, self._apart).item())

    def _fitness(self, networks: Networks, trials: Tensor) -> Tensor:
        like = networks.weight
        with torch.no_grad():
            pointed = networks(self._fields[trials].to(like)).argmax(2)  # (P, trials)
        return 1 - self._mean_square(pointed, trials) / (2 * (self.side - 1) ** 2)

    def _mean_square(self, pointed: Tensor, trials: Tensor) -> Tensor:
        """Mean squared distance (P,) of cells (P, trials or 1) from the larger squares' middles."""
        middle = self._middles[trials].to(pointed.device)
        rows = pointed // self.side - middle // self.side
        columns = pointed % self.side - middle % self.side
        squares = (rows**2 + columns**2).sum(1)  # integers: exact in any order
        return squares.double() / len(trials)

    def _check_apart(self) -> None:
        if not len(self._apart):
            raise ValueError("VisualDiscrimination: all placements are shown; ask for fewer trials")


def _placements(side: int) -> tuple[Tensor, Tensor]:
    """All fields (n, side²), and the cell of the larger square's middle in each (n,)."""
    cells = torch.arange(side * side)
    apart = [(a[:, None] - a).abs() for a in (cells // side, cells % side)]
    distance = torch.maximum(*apart)  # in moves of a chess king
    inner = (cells // side % (side - 1) > 0) & (cells % side % (side - 1) > 0)
    middle, small = ((distance > 1) & inner[:, None]).nonzero().T
    fields = (distance[middle] <= 1) | (small[:, None] == cells)
    return fields.float(), middle
