"""A copy of a model for inference: eval mode, no gradients, and weights that are plain tensors.

Pruning by ``torch.nn.utils.prune`` and parametrisations compute weights anew at every call. Here
they are computed once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

__all__ = ["frozen_copy", "stored_bytes", "tensors_in"]


def frozen_copy(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode, with computed weights made plain; `model` is not changed.

    Raises:
        TypeError: the model cannot be copied.
    """
    # What is computed at a call is no leaf of autograd and cannot be copied as it is.
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        copied = copy.deepcopy(model, computed)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise TypeError(
            f"compile_sparse works on a copy, and {type(model).__name__} cannot be copied: {error}"
        ) from error
    copied.eval().requires_grad_(False)
    for module in copied.modules():
        for name in _pruned_names(module):
            prune.remove(module, name)
        if parametrize.is_parametrized(module):
            # The copy is of the original's class, which removal would strip for both.
            kind = type(module)
            module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
            for name in list(_parametrized(module)):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return copied.requires_grad_(False)


def _pruned_names(module: nn.Module) -> list[str]:
    hooks = module._forward_pre_hooks.values()
    return [hook._tensor_name for hook in hooks if isinstance(hook, prune.BasePruningMethod)]


def _parametrized(module: nn.Module) -> nn.ModuleDict:
    parametrizations = module.parametrizations
    assert isinstance(parametrizations, nn.ModuleDict)
    return parametrizations


def stored_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers; what is shared counts once."""
    owned = [*module.parameters(), *module.buffers()]
    seen = {}
    for tensor in owned:
        for part in _parts(tensor):
            seen[part.untyped_storage().data_ptr(), part.storage_offset()] = part.nbytes
    return sum(seen.values())


def _parts(tensor: Any) -> Iterator[Tensor]:
    """What a tensor class of several tensors is made of, or the tensor itself."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    names, _ = tensor.__tensor_flatten__()
    for name in names:
        yield getattr(tensor, name)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of what a model takes or returns: tensors, sequences and mappings."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
