"""Masks of ``torch.nn.utils.prune``: read from models and state dicts, given back, and removed.

There a pruned parameter ``weight`` is a parameter ``weight_orig`` and a buffer ``weight_mask``, and
``weight`` is their product, computed before every forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from .masks import Masks

__all__ = ["from_torch_prune", "read_torch_state_dict", "remove_torch_prune", "to_torch_prune"]


def from_torch_prune(model: nn.Module) -> Masks:
    """Return the masks of every parameter that ``torch.nn.utils.prune`` masks; nothing changes.

    They have the parameters' plain names (``fc.weight``), in the order of the modules; of a tied
    parameter the first. On the parameters' devices.

    Raises:
        ValueError: None is masked, or a mask has values other than 0 and 1.
    """
    masks: dict[str, Tensor] = {}
    seen: set[nn.Parameter] = set()
    for owner_name, owner, leaf in _masked(model):
        parameter = owner._parameters[f"{leaf}_orig"]
        assert parameter is not None
        if parameter not in seen:
            seen.add(parameter)
            name = f"{owner_name}.{leaf}" if owner_name else leaf
            masks[name] = _alive(name, getattr(owner, f"{leaf}_mask"))
    if not masks:
        raise ValueError(f"torch.nn.utils.prune masks no parameter of {type(model).__name__}")
    return Masks(masks)


def to_torch_prune(model: nn.Module, masks: Masks) -> None:
    """Mask the parameters of ``model`` by ``torch.nn.utils.prune``, in place.

    A tied parameter is masked in every module that holds it.

    Raises:
        ValueError: The masks do not fit the model, or it has such masks already.
    """
    masks.check(model)
    named = dict(model.named_parameters(remove_duplicate=False))
    holders: dict[nn.Parameter, list[str]] = {}
    for name, parameter in named.items():
        holders.setdefault(parameter, []).append(name)
    for name, mask in masks.items():
        for holder in holders[named[name]]:
            owner, _, leaf = holder.rpartition(".")
            torch_prune.custom_from_mask(
                model.get_submodule(owner), leaf, mask.to(named[name].device)
            )


def remove_torch_prune(model: nn.Module) -> Masks:
    """Make the masked parameters of ``model`` plain ones, pruned weights 0, and return the masks.

    Parameters stay the objects that they were, so optimizers keep them.

    Raises:
        ValueError: As of `from_torch_prune`.
    """
    masks = from_torch_prune(model)
    for _, owner, leaf in list(_masked(model)):
        torch_prune.remove(owner, leaf)
    masks.apply_(model)  # torch multiplies by the mask, which leaves -0.0 and NaN
    return masks


def read_torch_state_dict(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Masks]:
    """Split the state dict of a model masked by ``torch.nn.utils.prune``.

    Args:
        state: With ``…_orig`` and ``…_mask`` in place of the pruned parameters.

    Returns:
        The state dict of the plain model, pruned weights 0, and the masks.

    Raises:
        ValueError: It holds no such pair, or a mask has values other than 0 and 1.
    """
    stems = [key[:-5] for key in state if key.endswith("_orig") and f"{key[:-5]}_mask" in state]
    if not stems:
        raise ValueError(
            "the state dict has no pair of …_orig and …_mask; it is not one of a model that "
            "torch.nn.utils.prune masks"
        )
    masks = Masks({stem: _alive(stem, state[f"{stem}_mask"]) for stem in stems})
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        stem = key[:-5]
        if key.endswith("_orig") and stem in masks:
            plain[stem] = value.masked_fill(~masks[stem], 0)
        elif not (key.endswith("_mask") and stem in masks):
            plain[key] = value
    return plain, masks


def _masked(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Every masked parameter: its module's name, the module, and its plain name there."""
    for name, module in model.named_modules():
        for leaf in list(module._parameters):
            if leaf.endswith("_orig") and f"{leaf[:-5]}_mask" in module._buffers:
                yield name, module, leaf[:-5]


def _alive(name: str, mask: Tensor) -> Tensor:
    alive = mask != 0
    if not torch.equal(alive.to(mask.dtype), mask):
        raise ValueError(f"the mask of {name} has values other than 0 and 1")
    return alive
