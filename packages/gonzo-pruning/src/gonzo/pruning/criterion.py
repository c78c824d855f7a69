"""What a pruning criterion is: scores for the weights of a model, of which the highest are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from gonzo.pruning.masks import Masks


class Criterion(Protocol):
    """Anything with this method can decide what is pruned.

    A criterion that watches the training, as `Movement` does, also has a method
    `observe(model, masks)`, a context manager around the training of a round.
    """

    def scores(self, model: nn.Module, masks: Masks) -> dict[str, Tensor]:
        """Return a score for every weight; the higher, the rather it is kept.

        Args:
            model: holds the parameters that `masks` names. It is left as it was: weights,
                gradients, buffers, modes and random numbers.
            masks: by parameter, True where a weight is alive.

        Returns:
            As many tensors as `masks`, of the same names and shapes, on the parameters' device.
            What they say of pruned weights means nothing.
        """
        ...


def scored_parameters(model: nn.Module, masks: Masks) -> dict[str, nn.Parameter]:
    """Return the parameters that `masks` names, in its order.

    Raises:
        ValueError: the model has no such parameter, or one of another shape.
    """
    masks.check(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return {name: parameters[name] for name in masks}
