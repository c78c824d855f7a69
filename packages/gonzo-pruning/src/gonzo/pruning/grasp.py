"""GraSP (Wang, Zhang and Grosse 2020): keep the weights that the gradient's flow lives on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn

from gonzo.pruning.loss_gradients import LossGradients

if TYPE_CHECKING:
    from gonzo.pruning.masks import Masks

Batch = TypeVar("Batch")


class GraSP:
    """Scores a weight by w · (H g), usually before training.

    g is the gradient of the loss and H its Hessian, both in the weights that may be pruned. To
    first order, removing all of w changes the gradient's flow, gᵀg, by -2 wᵀHg; so a weight whose
    w · (H g) is high is one whose removal takes flow away. The paper writes the score with the
    other sign, S(-w) = -w ⊙ Hg, and removes the highest; here, as for every criterion, the
    highest are kept, and signs matter: there is no absolute value.

    Source: Wang, Zhang and Grosse, Picking Winning Tickets Before Training by Preserving Gradient
    Flow, ICLR 2020, equation 8 and algorithm 1.

    Args:
        loss: `loss(model, batch)` gives a tensor of one element that can be differentiated twice.
            The paper divides the logits by a temperature of 200; write that into the loss.
        batches: a few batches of the training data, gone through anew for each set of scores;
            the paper takes ten examples of every class.

    Raises:
        TypeError: the loss cannot be called, or `batches` can be gone through only once.
    """

    def __init__(
        self, loss: Callable[[nn.Module, Batch], Tensor], batches: Iterable[Batch]
    ) -> None:
        self._gradients = LossGradients(loss, batches)

    def scores(self, model: nn.Module, masks: Masks) -> dict[str, Tensor]:
        """Return w · (H g) of the masked model, zero for pruned weights.

        Args:
            model: a model; it is left as it was.
            masks: by parameter name, True where a weight is alive.

        Returns:
            By name, a tensor of the parameter's shape, dtype and device, of either sign.

        Raises:
            ValueError: the masks do not fit the model, a weight is frozen, there is no batch, or
                the loss is not a finite number that depends on the weights.
        """
        with self._gradients.prepared(model, masks) as parameters:
            weights = list(parameters.values())
            # Pruned weights are constants of the masked model: the flow has no part along them.
            flow = [
                gradient * masks[name].to(gradient.device)
                for name, gradient in zip(
                    parameters, self._gradients.mean(model, weights), strict=True
                )
            ]
            products = self._gradients.mean_curvature(model, weights, flow)
            return {
                name: weight.detach() * product
                for (name, weight), product in zip(parameters.items(), products, strict=True)
            }

    def __repr__(self) -> str:
        return "GraSP()"
