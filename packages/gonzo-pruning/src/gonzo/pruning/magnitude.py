"""Magnitude: a weight is worth its absolute value (Han et al. 2015; Frankle and Carbin 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from gonzo.pruning.criterion import scored_parameters

if TYPE_CHECKING:
    from gonzo.pruning.masks import Masks


class Magnitude:
    """Scores a weight by its absolute value |w|, the rule of the lottery ticket papers.

    Source: Han, Pool, Tran and Dally, Learning both Weights and Connections for Efficient Neural
    Networks, NeurIPS 2015, section 3; Frankle and Carbin, The Lottery Ticket Hypothesis, ICLR
    2019, section 1.
    """

    def scores(self, model: nn.Module, masks: Masks) -> dict[str, Tensor]:
        """Return |w| of the parameters that `masks` names.

        Args:
            model: a model, usually after training.
            masks: by parameter name, True where a weight is alive.

        Returns:
            By name, a new tensor of the parameter's shape, dtype and device.

        Raises:
            ValueError: the model has no such parameter, or one of another shape.
        """
        parameters = scored_parameters(model, masks)
        return {name: weight.detach().abs() for name, weight in parameters.items()}

    def __repr__(self) -> str:
        return "Magnitude()"
