"""Channels as what is pruned: scales of batch normalisation decide, and weights follow.

Source of the rule: Liu et al., Learning Efficient Convolutional Networks through Network Slimming,
ICCV 2017, which early-bird tickets are drawn with.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from gonzo.pruning.masks import Masks
from gonzo.pruning.undisturbed import undisturbed


def batch_norm_scales(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the scales γ of all batch normalisation layers, in the model's order.

    Masks over these are masks of channels: `Masks.full(model, batch_norm_scales(model))`.

    Raises:
        ValueError: the model has none.
    """
    scales = {
        module.weight
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.weight is not None
    }
    names = tuple(name for name, weight in model.named_parameters() if weight in scales)
    if not names:
        raise ValueError(
            f"{type(model).__name__} has no batch normalisation with a scale, so channels cannot "
            "be ranked by one"
        )
    return names


def channel_weight_masks(model: nn.Module, channels: Masks, example_input: Any) -> Masks:
    """Return masks of all weights that make a pruned channel: with them it is zero for any input.

    These are the channel's filter and bias in the layer that batch normalisation follows, its
    scale γ and its shift β. What a later layer does with a channel that is zero does not matter.

    Args:
        model: a model with batch normalisation right behind convolutions or linear layers.
        channels: masks over scales, as `batch_norm_scales` names them.
        example_input: what the model is called with once, in eval mode, to see which layer feeds
            which: a tensor, or a tuple of arguments.

    Raises:
        ValueError: a mask is not over the scale of a batch normalisation, or what feeds that is
            not the output of a convolution or a linear layer that the model calls.
    """
    channels.check(model)
    owners = {
        f"{path}.weight" if path else "weight": (path, module)
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm)
    }
    strangers = [name for name in channels if name not in owners]
    if strangers:
        raise ValueError(
            f"{', '.join(strangers)}: not a scale of batch normalisation; use masks over "
            "batch_norm_scales(model)"
        )
    feeds = _feeding_layers(model, example_input)
    alive: dict[str, Tensor] = {}
    for scale, mask in channels.items():
        path, norm = owners[scale]
        if norm not in feeds:
            raise ValueError(
                f"{scale}: its input is not the output of a convolution or a linear layer; leave "
                "it out of the masks"
            )
        source, layer = feeds[norm]
        rows = _rows(layer, mask, source)
        # A layer that feeds two normalisations needs the channels that either keeps.
        _keep(alive, f"{source}.weight" if source else "weight", rows)
        if layer.bias is not None:
            _keep(alive, f"{source}.bias" if source else "bias", mask)
        _keep(alive, scale, mask)
        if norm.bias is not None:
            _keep(alive, f"{path}.bias" if path else "bias", mask)
    return Masks({name: alive[name] for name, _ in model.named_parameters() if name in alive})


def _keep(alive: dict[str, Tensor], name: str, mask: Tensor) -> None:
    alive[name] = alive[name] | mask if name in alive else mask


def _feeding_layers(model: nn.Module, example_input: Any) -> dict[nn.Module, tuple[str, Any]]:
    """Return the layer, with its name, whose output is the input of each batch normalisation."""
    # Outputs are kept until the end, since Python gives the id of a dead object away again.
    made: list[tuple[Tensor, str, nn.Module]] = []
    feeds: dict[nn.Module, tuple[str, nn.Module]] = {}
    handles = []
    for path, module in model.named_modules():
        if isinstance(module, _ConvNd | nn.Linear):

            def note(layer: nn.Module, _inputs: Any, output: Tensor, path: str = path) -> None:
                made.append((output, path, layer))

            handles.append(module.register_forward_hook(note))
        elif isinstance(module, _BatchNorm):

            def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                for output, path, layer in made:
                    if output is inputs[0]:
                        feeds[norm] = path, layer

            handles.append(module.register_forward_pre_hook(look))
    try:
        with undisturbed(model), torch.no_grad():
            model.eval()
            model(*example_input) if isinstance(example_input, tuple) else model(example_input)
    finally:
        for handle in handles:
            handle.remove()
    return feeds


def _rows(layer: Any, channels: Tensor, name: str) -> Tensor:
    """Return the mask of a layer's weight whose outputs are `channels`."""
    place = 0
    if isinstance(layer, _ConvTransposeNd):
        if layer.groups != 1:
            raise ValueError(f"{name}: a transposed convolution with groups is not supported")
        place = 1
    shape = [1] * layer.weight.ndim
    shape[place] = -1
    return channels.reshape(shape).expand(layer.weight.shape)
