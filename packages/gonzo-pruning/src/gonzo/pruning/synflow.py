"""SynFlow (Tanaka, Kunin, Yamins and Ganguli 2020): pruning without data, and without collapse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gonzo.pruning.criterion import scored_parameters
from gonzo.pruning.undisturbed import undisturbed

if TYPE_CHECKING:
    from gonzo.pruning.masks import Masks


class SynFlow:
    """Scores a weight by synaptic flow, |w| · ∂R/∂|w| with R = 1ᵀ (∏ₗ |Wₗ|) 1.

    R is the sum of the outputs for an input of ones when every weight is replaced by its absolute
    value. Into and out of every hidden unit flows the same total score, so that whole layers do
    not vanish while scores are taken anew often enough: `prune_at_init(..., rounds=100)`, the
    paper's number. No data and no loss are needed.

    The law holds where the network is homogeneous: piecewise linear activations, pooling. To keep
    it so, biases are zero here, and batch normalisation has mean 0 and variance 1, with the
    absolute value of its scale; layer normalisation and attention break it. The numbers are
    float64, since R of a deep network does not fit float32.

    Deviation: the authors' program leaves biases in, as absolute values, and running statistics
    as they are; at initialisation both are usually neutral.

    Source: Tanaka, Kunin, Yamins and Ganguli, Pruning Neural Networks without any Data by
    Iteratively Conserving Synaptic Flow, NeurIPS 2020, equation 2 and algorithm 1.

    Args:
        input_shape: of one example, without the batch: (1, 28, 28).

    Raises:
        ValueError: a size is below one.
        TypeError: something else than sizes.
    """

    def __init__(self, input_shape: Sequence[int]) -> None:
        if isinstance(input_shape, Tensor) or not all(isinstance(n, int) for n in input_shape):
            raise TypeError(
                "SynFlow: expected the shape of one example, such as (1, 28, 28) or x.shape[1:], "
                f"got {type(input_shape).__name__}"
            )
        self.input_shape = tuple(input_shape)
        if any(size < 1 for size in self.input_shape):
            raise ValueError(f"SynFlow: expected sizes of at least 1, got {self.input_shape}")

    def scores(self, model: nn.Module, masks: Masks) -> dict[str, Tensor]:
        """Return the synaptic flow through every weight of the masked model.

        Args:
            model: a model that takes one batch of examples; it is left as it was.
            masks: by parameter name, True where a weight is alive.

        Returns:
            By name, float64 of the parameter's shape, on its device, zero for pruned weights.

        Raises:
            ValueError: the masks do not fit the model, the flow is too large even for float64, or
                batch normalisation has no running statistics.
        """
        parameters = scored_parameters(model, masks)
        if not parameters:
            return {}
        # One entry per tensor, under its first name: functional_call ties the others.
        names = {weight: name for name, weight in model.named_parameters()}
        values = {name: _positive(name, weight) for name, weight in model.named_parameters()}
        flowing = []
        for name, weight in parameters.items():
            mask = masks[name].to(weight.device)
            values[names[weight]] = (values[names[weight]] * mask).requires_grad_()
            flowing.append(values[names[weight]])
        with undisturbed(model), torch.enable_grad():
            model.eval()
            ones = torch.ones(1, *self.input_shape, dtype=torch.float64, device=flowing[0].device)
            # functional_call lends the model other tensors; its own are never written to.
            outputs = torch.func.functional_call(model, {**values, **_neutral(model)}, (ones,))
            total = _tensor(outputs).sum()
            if not total.isfinite():
                raise ValueError(
                    f"SynFlow: the flow through the network is {total.item()} in float64; make "
                    "its weights smaller by one factor for each layer, which changes no rank "
                    "within a layer and keeps the flow of layers equal"
                )
            gradients = torch.autograd.grad(
                total, flowing, allow_unused=True, materialize_grads=True
            )
        return {
            name: (weight * gradient).detach()
            for name, weight, gradient in zip(parameters, flowing, gradients, strict=True)
        }

    def __repr__(self) -> str:
        return f"SynFlow({self.input_shape})"


def _positive(name: str, weight: Tensor) -> Tensor:
    values = weight.detach().to(torch.float64).abs()
    return torch.zeros_like(values) if "bias" in name.rpartition(".")[2] else values


def _neutral(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's buffers in float64, with batch normalisation that changes nothing."""
    buffers = {
        name: buffer.double() if buffer.is_floating_point() else buffer
        for name, buffer in model.named_buffers()
    }
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            if module.running_mean is None:
                raise ValueError(
                    f"SynFlow: {path or 'the model'} normalises every batch by itself, which "
                    "leaves nothing of a batch of ones; build it with track_running_stats=True"
                )
            prefix = f"{path}." if path else ""
            mean, variance = buffers[f"{prefix}running_mean"], buffers[f"{prefix}running_var"]
            buffers[f"{prefix}running_mean"] = torch.zeros_like(mean)
            buffers[f"{prefix}running_var"] = torch.full_like(variance, 1 - module.eps)
    return buffers


def _tensor(outputs: object) -> Tensor:
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"SynFlow: expected a model that returns a tensor, got {type(outputs).__name__}; wrap "
            "it in a module that returns the tensor to sum"
        )
    return outputs
