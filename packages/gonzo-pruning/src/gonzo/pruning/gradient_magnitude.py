"""Gradient magnitude: a weight is worth how steep the loss is along it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn

from gonzo.pruning.loss_gradients import LossGradients

if TYPE_CHECKING:
    from gonzo.pruning.masks import Masks

Batch = TypeVar("Batch")


class GradientMagnitude:
    """Scores a weight by |∂L/∂w|: what training wants to move most is kept.

    Source: the baseline of gradients in Blalock, Gonzalez Ortiz, Frankle and Guttag, What is the
    State of Neural Network Pruning?, MLSys 2020, section 7.2. Its other gradient baseline, the
    gradient times the weight, is `SNIP`.

    Args:
        loss: `loss(model, batch)` gives a tensor of one element, as in training.
        batches: a few batches of the training data, gone through anew for each set of scores;
            the gradient is the mean over them.

    Raises:
        TypeError: the loss cannot be called, or `batches` can be gone through only once.
    """

    def __init__(
        self, loss: Callable[[nn.Module, Batch], Tensor], batches: Iterable[Batch]
    ) -> None:
        self._gradients = LossGradients(loss, batches)

    def scores(self, model: nn.Module, masks: Masks) -> dict[str, Tensor]:
        """Return |∂L/∂w| of the masked model.

        Args:
            model: a model; it is left as it was.
            masks: by parameter name, True where a weight is alive.

        Returns:
            By name, a tensor of the parameter's shape, dtype and device.

        Raises:
            ValueError: the masks do not fit the model, a weight is frozen, there is no batch, or
                the loss is not a finite number that depends on the weights.
        """
        with self._gradients.prepared(model, masks) as parameters:
            gradients = self._gradients.mean(model, list(parameters.values()))
            return {
                name: gradient.abs() for name, gradient in zip(parameters, gradients, strict=True)
            }

    def __repr__(self) -> str:
        return "GradientMagnitude()"
