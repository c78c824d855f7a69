"""SNIP (Lee, Ajanthan and Torr 2019): a connection is worth what cutting it does to the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn

from gonzo.pruning.loss_gradients import LossGradients

if TYPE_CHECKING:
    from gonzo.pruning.masks import Masks

Batch = TypeVar("Batch")


class SNIP:
    """Scores a weight by its connection sensitivity |w · ∂L/∂w|, usually before training.

    With a gate c at every weight, L(c ⊙ w), the sensitivity is |∂L/∂c| at c = 1, which is
    |w · ∂L/∂w|. The paper divides by the sum of all sensitivities; that changes no rank, and is
    left out.

    Source: Lee, Ajanthan and Torr, SNIP: Single-shot Network Pruning based on Connection
    Sensitivity, ICLR 2019, equations 3 to 6.

    Args:
        loss: `loss(model, batch)` gives a tensor of one element, as in training.
        batches: one or a few batches of the training data, gone through anew for each set of
            scores; the gradient is the mean over them.

    Raises:
        TypeError: the loss cannot be called, or `batches` can be gone through only once.
    """

    def __init__(
        self, loss: Callable[[nn.Module, Batch], Tensor], batches: Iterable[Batch]
    ) -> None:
        self._gradients = LossGradients(loss, batches)

    def scores(self, model: nn.Module, masks: Masks) -> dict[str, Tensor]:
        """Return |w · ∂L/∂w| of the masked model, zero for pruned weights.

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
                name: (weight.detach() * gradient).abs()
                for (name, weight), gradient in zip(parameters.items(), gradients, strict=True)
            }

    def __repr__(self) -> str:
        return "SNIP()"
