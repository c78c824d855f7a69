"""Gradients of a loss over some batches, for the criteria that need them; the model stays as is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from gonzo.pruning.criterion import scored_parameters
from gonzo.pruning.undisturbed import undisturbed

if TYPE_CHECKING:
    from gonzo.pruning.masks import Masks

Batch = TypeVar("Batch")


class LossGradients(Generic[Batch]):
    """A loss, batches, and what a masked model's gradients on them are.

    The model is in training mode, so that batch normalisation normalises by the batch: at the
    start of training running statistics say nothing. Dropout layers are off: scores are those of
    the whole network. Random numbers start from the same seed every time.

    Args:
        loss: `loss(model, batch)` gives a tensor of one element, as in training.
        batches: gone through anew for each set of scores: a list of batches, or a DataLoader.

    Raises:
        TypeError: the loss cannot be called, or `batches` can be gone through only once.
    """

    def __init__(
        self, loss: Callable[[nn.Module, Batch], Tensor], batches: Iterable[Batch]
    ) -> None:
        if not callable(loss):
            raise TypeError(f"expected a loss to call with (model, batch), got {loss!r}")
        if isinstance(batches, Iterator):
            raise TypeError(
                "expected batches that can be gone through again and again, got a "
                f"{type(batches).__name__}, which is used up after once; give list(batches)"
            )
        if not isinstance(batches, Iterable):
            raise TypeError(f"expected an iterable of batches, got {batches!r}")
        self._loss = loss
        self._batches = batches

    @contextmanager
    def prepared(self, model: nn.Module, masks: Masks) -> Generator[dict[str, nn.Parameter]]:
        """Give a block the model with pruned weights at zero, and the parameters of the masks.

        Raises:
            ValueError: a parameter is not there, of another shape, or frozen.
        """
        parameters = scored_parameters(model, masks)
        frozen = [name for name, weight in parameters.items() if not weight.requires_grad]
        if frozen:
            raise ValueError(
                f"{', '.join(frozen)}: no gradient, because requires_grad is False; exclude what "
                "is not trained from pruning, or set requires_grad_(True)"
            )
        with undisturbed(model), torch.enable_grad():
            for name, weight in parameters.items():
                weight.data = weight.data.masked_fill(~masks[name].to(weight.device), 0)
            model.train()
            for module in model.modules():
                if isinstance(module, _DropoutNd):
                    module.eval()
            yield parameters

    def mean(self, model: nn.Module, weights: list[nn.Parameter]) -> list[Tensor]:
        """Return the gradient of the mean loss over the batches, inside `prepared`.

        Raises:
            ValueError: there is no batch, the loss is not one number that is finite, or it does
                not depend on the weights.
        """
        total = [torch.zeros_like(weight) for weight in weights]
        for count, loss in enumerate(self._losses(model), 1):
            gradients = _gradients(loss, weights, create_graph=False)
            for mean, gradient in zip(total, gradients, strict=True):
                mean += (gradient - mean) / count
        return total

    def mean_curvature(
        self, model: nn.Module, weights: list[nn.Parameter], direction: list[Tensor]
    ) -> list[Tensor]:
        """Return the mean loss's Hessian, of `weights`, times `direction`, inside `prepared`.

        Raises:
            ValueError: as `mean` does.
        """
        total = [torch.zeros_like(weight) for weight in weights]
        for count, loss in enumerate(self._losses(model), 1):
            gradients = _gradients(loss, weights, create_graph=True)
            slope = torch.zeros((), dtype=loss.dtype, device=loss.device)
            for gradient, along in zip(gradients, direction, strict=True):
                slope = slope + (gradient * along).sum()
            # The gradient of a loss that is linear in the weights depends on none of them.
            products = _gradients(slope, weights) if slope.requires_grad else None
            for place, mean in enumerate(total):
                mean += ((products[place] if products else 0) - mean) / count
        return total

    def _losses(self, model: nn.Module) -> Iterator[Tensor]:
        found = False
        for batch in self._batches:
            found = True
            loss = self._loss(model, batch)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
                raise ValueError(f"expected a loss that is a tensor of one element, got {got}")
            if not loss.requires_grad:
                raise ValueError(
                    "the loss does not depend on the weights: does loss(model, batch) run the "
                    "model that it is given, without no_grad or detach?"
                )
            if not loss.isfinite():
                raise ValueError(f"expected a finite loss, got {loss.item()}")
            yield loss.reshape(())
        if not found:
            raise ValueError("expected at least one batch to take gradients on, got none")


def _gradients(
    value: Tensor, weights: list[nn.Parameter], *, create_graph: bool = False
) -> list[Tensor]:
    if not weights:
        return []
    # A weight that the value does not depend on has a gradient of zero.
    gradients = torch.autograd.grad(
        value, weights, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return list(gradients)
