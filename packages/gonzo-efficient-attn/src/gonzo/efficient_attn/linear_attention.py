"""Multi-head attention in linear time, whose past is a state of one size.

    y_t = W_o [φ(q_t)·S_t / (φ(q_t)·z_t + ε)],   [q, k, v] = W x

with S_t = Σ_{s ≤ t} φ(k_s) v_sᵀ and z_t = Σ_{s ≤ t} φ(k_s), per head.

Katharopoulos, Vyas, Pappas, Fleuret: Transformers are RNNs: Fast Autoregressive Transformers with
Linear Attention (2020), https://arxiv.org/abs/2006.16236.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from gonzo.core import SequenceModule
from gonzo.core.nn.rotary import rotary_frequencies, rotated
from gonzo.core.ops.linear_attention import linear_attention
from gonzo.core.sequence import mask_padding

from .feature_maps import EluPlusOne, FeatureMap, ReLU
from .hedgehog import HedgehogMap
from .performer import Performer
from .rebased import ReBasedMap
from .taylor import Taylor

__all__ = ["FeatureMapKind", "LinearAttention", "LinearAttentionState"]

FeatureMapKind = Literal["elu", "relu", "performer", "taylor", "rebased", "hedgehog"]

# Features of these grow with the square of d_key, which is therefore small by default.
_QUADRATIC = {"taylor", "rebased"}


class LinearAttentionState(NamedTuple):
    """The sums over the past."""

    sums: Tensor
    """(batch, n_head, n_feature, d_head + 1): S, and z as the last column."""
    seen: Tensor
    """(batch,): the number of valid steps so far."""
    frequencies: Tensor
    """(d_key / 2,): of the rotary positions; empty without them."""

    shared = frozenset({"frequencies"})


class LinearAttention(SequenceModule):
    """Multi-head causal linear attention with any feature map.

    Example::

        layer = LinearAttention(256, n_head=4, feature_map="taylor")
        y = layer(torch.randn(2, 1000, 256))  # (2, 1000, 256)

    Args:
        d_model: size of input and output, a multiple of ``n_head``.
        n_head: heads.
        feature_map: a map's name, for its defaults, or a `FeatureMap` of this ``n_head``.
        d_key: numbers in a query or key of one head; by default that of the map, if one is given,
            else 16 for ``"taylor"`` and ``"rebased"`` and d_model / n_head for the others.
        rotary: rotate queries and keys by their positions before the map.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Katharopoulos et al. (2020), https://arxiv.org/abs/2006.16236; the maps name theirs.
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        *,
        feature_map: FeatureMapKind | FeatureMap = "hedgehog",
        d_key: int | None = None,
        rotary: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if n_head < 1 or d_model < 1 or d_model % n_head:
            raise ValueError(
                "LinearAttention: expected d_model to be a multiple of n_head, "
                f"got d_model={d_model} and n_head={n_head}"
            )
        self.d_model, self.n_head, self.d_head = d_model, n_head, d_model // n_head
        if not isinstance(feature_map, FeatureMap):
            usual = 16 if feature_map in _QUADRATIC else self.d_head
            feature_map = make_feature_map(feature_map, n_head, d_key or usual, device, dtype)
        if feature_map.n_head != n_head or d_key not in (None, feature_map.d_key):
            raise ValueError(
                f"LinearAttention: the feature map is made for n_head={feature_map.n_head} and "
                f"d_key={feature_map.d_key}, and the layer for n_head={n_head}"
                + ("" if d_key is None else f" and d_key={d_key}")
            )
        self.feature_map, self.d_key = feature_map, feature_map.d_key
        if rotary and self.d_key % 2:
            raise ValueError(
                "LinearAttention: rotary positions turn pairs of numbers, so d_key must be even, "
                f"got {self.d_key}"
            )
        self.rotary = rotary
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.project_in = nn.Linear(d_model, 2 * n_head * self.d_key + d_model, bias=False, **where)
        self.project_out = nn.Linear(d_model, d_model, bias=False, **where)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, those of the feature map included."""
        self.feature_map.reset_parameters()
        self.project_in.reset_parameters()
        self.project_out.reset_parameters()

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> LinearAttentionState:
        """Return zeros, in the parameters' precision, float32 at least."""
        weight = self.project_in.weight
        wide = torch.promote_types(dtype or weight.dtype, torch.float32)
        where: dict[str, Any] = {"device": weight.device if device is None else device}
        shape = (batch, self.n_head, self.feature_map.n_feature, self.d_head + 1)
        return LinearAttentionState(
            torch.zeros(shape, dtype=wide, **where),
            torch.zeros(batch, dtype=torch.int64, **where),
            rotary_frequencies(self.d_key if self.rotary else 0, dtype=wide, **where),
        )

    def scan(
        self, x: Tensor, state: LinearAttentionState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LinearAttentionState]:
        """Run a chunk (batch, time, d_model); see ``SequenceModule.scan``."""
        self.check(x, lengths, state)
        q, k, v = self.project(x, state)
        q, k = self.feature_map(q, k)
        kind = torch.promote_types(q.dtype, v.dtype)  # under autocast they may differ
        if torch.promote_types(kind, torch.float32) != state.sums.dtype:
            kind = state.sums.dtype
        y, sums = linear_attention(
            *(t.to(kind) for t in (q, k, v)),
            feature_map=self.feature_map.fused,
            eps=self.feature_map.eps,
            state=state.sums,
            lengths=lengths,
        )
        y = self.project_out(y.transpose(1, 2).flatten(2).to(x.dtype))
        seen = state.seen + (x.shape[1] if lengths is None else lengths)
        return mask_padding(y, lengths), state._replace(sums=sums, seen=seen)

    def step(self, x_t: Tensor, state: LinearAttentionState) -> tuple[Tensor, LinearAttentionState]:
        """Run one time step (batch, d_model); see ``SequenceModule.step``."""
        self.check_step(x_t, state)
        y, state = self.scan(x_t[:, None], state)
        return y[:, 0], state

    def project(
        self, x: Tensor, state: LinearAttentionState | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys (batch, n_head, time, d_key) and values, before the feature map.

        Args:
            x: (batch, time, d_model).
            state: where the steps of x begin; by default at the start.
        """
        sizes = (self.n_head * self.d_key, self.n_head * self.d_key, self.d_model)
        parts = self.project_in(x).split(sizes, -1)
        q, k, v = (part.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for part in parts)
        if not self.rotary:
            return q, k, v
        state = self.init_state(len(x), device=x.device) if state is None else state
        places = state.seen[:, None] + torch.arange(x.shape[1], device=x.device)
        q, k = (rotated(t, places, state.frequencies) for t in (q, k))
        return q, k, v

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.d_model}, n_head={self.n_head}, rotary={self.rotary}"


def make_feature_map(
    kind: FeatureMapKind,
    n_head: int,
    d_key: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> FeatureMap:
    """Return the map of that name with its defaults."""
    plain: dict[str, type[FeatureMap]] = {"elu": EluPlusOne, "relu": ReLU, "taylor": Taylor}
    learned = {"performer": Performer, "rebased": ReBasedMap, "hedgehog": HedgehogMap}
    if kind in plain:
        return plain[kind](n_head, d_key)
    if kind in learned:
        return learned[kind](n_head, d_key, device=device, dtype=dtype)
    raise ValueError(
        "expected feature_map to be a FeatureMap or one of "
        f"{', '.join(map(repr, get_args(FeatureMapKind)))}, got {kind!r}"
    )
