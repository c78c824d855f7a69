"""The rule of what is pruned: weights of layers that multiply matrices, and why not the others."""

from __future__ import annotations

import re

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList

__all__ = ["reason_to_keep"]

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
# What multiplies, by layer; RNNs number their layers and directions.
_WEIGHTS: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.Linear, nn.Bilinear, _ConvNd), r"weight"),
    ((nn.RNNBase,), r"weight_(ih|hh|hr)_l\d+(_reverse)?"),
    ((nn.RNNCellBase,), r"weight_(ih|hh)"),
    ((nn.MultiheadAttention,), r"in_proj_weight|[qkv]_proj_weight"),
)
_UNKNOWN = "not a weight of a known layer: name it in include"


def reason_to_keep(model: nn.Module, names: tuple[str, ...], parameter: nn.Parameter) -> str:
    """Why the rule keeps a parameter whole; empty when it is pruned.

    A parameter with several names is pruned when one of them is a layer's weight, unless another
    is an embedding or anything else that has a reason of its own.

    Raises:
        ValueError: The parameter has no shape yet, or is masked by ``torch.nn.utils.prune``.
    """
    if isinstance(parameter, nn.UninitializedParameter):
        raise ValueError(f"{names[0]} is lazy and has no shape yet; run the model on a batch first")
    if not parameter.numel():
        return "no elements"
    reasons = {name: _reason(model, name) for name in names}
    first = reasons[names[0]]
    for name, reason in reasons.items():
        if reason not in ("", _UNKNOWN):
            return reason if reason == first else f"tied to {name}: {reason}"
    return "" if "" in reasons.values() else _UNKNOWN


def _reason(model: nn.Module, name: str) -> str:
    owner_name, _, leaf = name.rpartition(".")
    owner = model.get_submodule(owner_name)
    if isinstance(owner, ParametrizationList):
        return "parametrised"
    if leaf.endswith("_orig") and f"{leaf[:-5]}_mask" in owner._buffers:
        raise ValueError(
            f"{name[:-5]} is masked by torch.nn.utils.prune; remove_torch_prune(model) makes it "
            "plain and returns its masks"
        )
    if _is_hooked(owner, leaf):
        return "parametrised by a hook of torch.nn.utils"
    if isinstance(owner, _NORMS):
        return "normalisation"
    if isinstance(owner, _EMBEDDINGS):
        return "embedding"
    if "bias" in leaf:
        return "bias"
    for layers, pattern in _WEIGHTS:
        if isinstance(owner, layers) and re.fullmatch(pattern, leaf):
            return ""
    return _UNKNOWN


def _is_hooked(owner: nn.Module, leaf: str) -> bool:
    """Whether a pre-hook recomputes a weight from this parameter (weight_norm, spectral_norm)."""
    stem, _, ending = leaf.rpartition("_")
    return ending in ("g", "v", "orig") and any(
        getattr(hook, "name", None) == stem for hook in owner._forward_pre_hooks.values()
    )
