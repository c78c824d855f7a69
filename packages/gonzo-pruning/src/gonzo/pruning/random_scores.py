"""Random scores: the control that knows nothing, from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gonzo.pruning.criterion import scored_parameters

if TYPE_CHECKING:
    from gonzo.pruning.masks import Masks


class RandomScores:
    """Scores weights by chance, uniformly in [0, 1).

    With the scope "layer" every parameter loses the share that its rate says: a random mask that is
    matched to a ticket layer by layer. With the scope "global" the layers' shares vary by chance.
    The same seed gives the same scores in every round, so that masks of later rounds lie within
    those of earlier ones.

    Args:
        seed: where the scores come from.
    """

    def __init__(self, seed: int = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"RandomScores: expected a seed of type int, got {seed!r}")
        self.seed = seed

    def scores(self, model: nn.Module, masks: Masks) -> dict[str, Tensor]:
        """Return random numbers for the parameters that `masks` names.

        Args:
            model: a model; of its parameters shapes and devices alone matter.
            masks: by parameter name, True where a weight is alive.

        Returns:
            By name, float64 of the parameter's shape, on its device. In float32, of which there
            are only 2²⁴ values below one, large layers would have ties.

        Raises:
            ValueError: the model has no such parameter, or one of another shape.
        """
        generator = torch.Generator().manual_seed(self.seed)
        # Drawn on the CPU, so that a seed means the same on every device.
        return {
            name: torch.rand(weight.shape, generator=generator, dtype=torch.float64).to(
                weight.device
            )
            for name, weight in scored_parameters(model, masks).items()
        }

    def __repr__(self) -> str:
        return f"RandomScores(seed={self.seed})"
