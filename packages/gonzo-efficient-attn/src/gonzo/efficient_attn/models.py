"""Language models of one layer each, of equal shape, so that they can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch

from gonzo.core import SequenceModule
from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack

from .based import BasedBlock
from .linear_attention import LinearAttention

__all__ = ["ModelKind", "language_model"]

ModelKind = Literal["based", "rebased", "hedgehog", "performer", "elu", "softmax"]


def language_model(
    kind: ModelKind,
    vocab_size: int,
    *,
    d_model: int = 256,
    n_layer: int = 4,
    n_head: int = 4,
    feed_forward: int | None = None,
    dropout: float = 0.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> LanguageModel:
    """Return an untrained language model.

    ``based`` and ``rebased`` are made of `BasedBlock` with their map; ``hedgehog``, ``performer``
    and ``elu`` of `LinearAttention` with rotary positions; ``softmax`` is the Transformer beside
    them, `CausalAttention` with rotary positions.

    Args:
        kind: see above.
        vocab_size: number of tokens.
        d_model: number of features, a multiple of ``n_head``.
        n_layer: mixers, each followed by a feed-forward network.
        n_head: heads.
        feed_forward: hidden size of those networks; by default 4 · d_model.
        dropout: probability, on the embedding and the output of every branch.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: an unknown kind, or sizes that do not fit one another.
    """
    where: dict[str, Any] = {"device": device, "dtype": dtype}

    def linear() -> SequenceModule:
        feature_map: Any = kind
        return LinearAttention(d_model, n_head, feature_map=feature_map, rotary=True, **where)

    def block(feature_map: Literal["taylor", "rebased"]) -> Callable[[], SequenceModule]:
        return lambda: BasedBlock(d_model, n_head, feature_map=feature_map, **where)

    layers: dict[str, Callable[[], SequenceModule]] = {
        "based": block("taylor"),
        "rebased": block("rebased"),
        "hedgehog": linear,
        "performer": linear,
        "elu": linear,
        "softmax": lambda: CausalAttention(d_model, n_head, **where),
    }
    if kind not in layers:
        expected = ", ".join(map(repr, get_args(ModelKind)))
        raise ValueError(f"language_model: expected kind to be one of {expected}, got {kind!r}")
    if n_layer < 1:
        raise ValueError(f"language_model: expected n_layer of at least 1, got {n_layer}")
    hidden = 4 * d_model if feed_forward is None else feed_forward
    mixers = [layers[kind]() for _ in range(n_layer)]
    stack = ResidualStack(mixers, feed_forward=hidden, dropout=dropout, **where)
    return LanguageModel(vocab_size, stack, dropout=dropout, **where)
