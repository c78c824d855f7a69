"""A trained softmax model made linear: its attention layers exchanged, everything else as it was.

What is exchanged keeps its projections; `distill_attention` then teaches the feature maps, and
training goes on (Zhang et al., 2024, https://arxiv.org/abs/2402.04347, section 4).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from gonzo.core.nn import CausalAttention
from gonzo.core.pretrained import Pretrained

from .feature_maps import FeatureMap
from .hybrid import HybridAttention
from .linear_attention import FeatureMapKind, LinearAttention

__all__ = ["linearize"]

Model = TypeVar("Model", bound=nn.Module)


def linearize(
    model: Model,
    *,
    feature_map: FeatureMapKind | FeatureMap = "hedgehog",
    window: int | None = None,
) -> Model:
    """Return a copy of a model whose softmax attention is linear.

    Every `CausalAttention` that sees all of the past becomes `LinearAttention`, or with `window` a
    `HybridAttention`, of the same projections and positions. One with a window of its own is linear
    in time already and stays. Dropout on attention weights has no counterpart and is lost.

    The copy's weights are its own; it can be saved with ``save_pretrained``, and the global random
    state is left alone.

    Args:
        model: a `LanguageModel`, a `ResidualStack` or any other module that holds such layers.
        feature_map: a map's name, or a `FeatureMap`, of which every layer gets a copy. Maps that
            grow with the square of d_key grow with that of d_model / n_head here.
        window: steps that keep softmax; None for none.

    Raises:
        ValueError: nothing in the model can be exchanged, or the map does not fit.
    """
    if isinstance(model, CausalAttention):
        raise ValueError(
            "linearize: expected a model that holds attention layers, got a CausalAttention; put "
            "it into a ResidualStack"
        )
    model = copy.deepcopy(model)
    exchanged: dict[CausalAttention, LinearAttention | HybridAttention] = {}
    gpus = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(gpus):  # maps with random directions draw them
        for parent in list(model.modules()):
            for name, layer in list(parent._modules.items()):
                if not isinstance(layer, CausalAttention) or layer.window is not None:
                    continue
                if layer not in exchanged:  # one layer may stand in several places
                    exchanged[layer] = _exchanged(layer, feature_map, window)
                parent.register_module(name, exchanged[layer])
    if not exchanged:
        raise ValueError(
            f"linearize: this {type(model).__name__} holds no CausalAttention that sees all of the "
            "past, so nothing can be made linear"
        )
    records = {id(layer._arguments): new for layer, new in exchanged.items()}
    for module in model.modules():
        if isinstance(module, Pretrained):
            _rewrite(module._arguments, records)
    return model


def _exchanged(
    layer: CausalAttention, feature_map: FeatureMapKind | FeatureMap, window: int | None
) -> LinearAttention | HybridAttention:
    weight = layer.project_in.weight
    where: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    if isinstance(feature_map, FeatureMap):
        feature_map = copy.deepcopy(feature_map)
    size = (layer.d_model, layer.n_head)
    new: LinearAttention | HybridAttention
    if window is None:
        new = LinearAttention(
            *size, feature_map=feature_map, d_key=layer.d_head, rotary=layer.rotary, **where
        )
    else:
        new = HybridAttention(
            *size, feature_map=feature_map, window=window, rotary=layer.rotary, **where
        )
    new.feature_map.to(weight)
    new.project_in, new.project_out = layer.project_in, layer.project_out
    return new.train(layer.training)


def _rewrite(record: Any, records: Mapping[int, Pretrained]) -> None:
    """Let what `save_pretrained` writes about a model name the new layers."""
    for value in record.values() if isinstance(record, dict) else record:
        if isinstance(value, dict):
            new = records.get(id(value.get("arguments")))
            if new is not None:
                cls = type(new)
                value["class"] = f"{cls.__module__}:{cls.__qualname__}"
                value["arguments"] = new._arguments
            else:
                _rewrite(value, records)
        elif isinstance(value, list):
            _rewrite(value, records)
