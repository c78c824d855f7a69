"""Mega: a moving average that looks near, gated single-head attention that looks far.

    X' = silu(EMA(X) + ω ∘ X),   Z = silu(X' W_z + b_z),   Q = κ_q ∘ Z + μ_q,   K = κ_k ∘ Z + μ_k
    V = silu(X W_v + b_v),   O = attention(Q, K, V),   γ = silu(X' W_γ + b_γ),   φ = σ(X' W_φ + b_φ)
    H = silu(X' W_h + (γ ∘ O) U_h + b_h),   Y = φ ∘ H + (1 - φ) ∘ X

Ma, Zhou, Kong, He, Gui, Neubig, May, Zettlemoyer: Mega: Moving Average Equipped Gated Attention
(2022), https://arxiv.org/abs/2209.10655, section 3. This is the causal form.

Deviation: ω and the silu around the average, which the authors' code has and the paper has not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core import SequenceModule
from gonzo.core.nn import Dropout
from gonzo.core.sequence import mask_padding

from .ema import DampedEMA
from .operator import SSMState
from .relative_attention import Activation, AttentionCache, ChunkedAttention, RelativeAttention


class MegaState(NamedTuple):
    """The state of the average, and the cache of the attention."""

    ema: SSMState
    cache: AttentionCache


class Mega(SequenceModule):
    """Mega, causal, any length.

    The update gate φ is a residual connection of its own: in a `ResidualStack`, which adds another,
    the input counts twice where φ is small. Example::

        layer = Mega(d_model=256, chunk=128)
        y = layer(torch.randn(2, 1000, 256))  # (2, 1000, 256)

    Args:
        d_model: number of features.
        d_state: averages kept of each feature.
        d_key: size of queries and keys, even.
        d_value: size of values; by default 2 · d_model.
        chunk: attend within chunks of this many steps (Mega-chunk), in linear time and with a cache
            of one chunk; None attends to the whole past, and the cache grows.
        activation: ``"softmax"`` or ``"laplace"``; the latter forms (time, time) weights in memory,
            chunk by chunk where there are chunks.
        dropout: probability, on the average, the values and the candidate H, with one mask for
            all time steps.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Ma et al. (2022), https://arxiv.org/abs/2209.10655
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        *,
        d_key: int = 64,
        d_value: int | None = None,
        chunk: int | None = None,
        activation: Activation = "softmax",
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        d_value = 2 * d_model if d_value is None else d_value
        sizes = {"d_model": d_model, "d_state": d_state, "d_value": d_value, "chunk": chunk}
        for name, size in sizes.items():
            if size is not None and size < 1:
                raise ValueError(f"Mega: expected {name} of at least 1, got {size}")
        if d_key < 2 or d_key % 2:
            raise ValueError(
                f"Mega: expected an even d_key of at least 2, got {d_key}; the relative bias turns "
                "pairs of features"
            )
        if activation not in ("softmax", "laplace"):
            raise ValueError(
                f"Mega: expected activation 'softmax' or 'laplace', got {activation!r}"
            )
        self.d_model, self.d_state, self.d_key, self.d_value = d_model, d_state, d_key, d_value
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.ema = DampedEMA(d_model, d_state, **where)
        self.omega = nn.Parameter(torch.empty(d_model, **where))
        self.value = nn.Linear(d_model, d_value, **where)
        self.averaged = nn.Linear(d_model, d_key + d_value + 2 * d_model, **where)
        self.candidate = nn.Linear(d_value, d_model, bias=False, **where)
        self.scale = nn.Parameter(torch.empty(2, d_key, **where))
        self.shift = nn.Parameter(torch.empty(2, d_key, **where))
        self.attention = (
            RelativeAttention(d_key, activation=activation, **where)
            if chunk is None
            else ChunkedAttention(d_key, chunk, activation=activation, **where)
        )
        self.dropout = Dropout(dropout, tied=True)
        self._reset_own()

    def reset_parameters(self) -> None:
        """Draw all parameters anew: maps and scales with deviation 0.02, ω normal."""
        self.ema.reset_parameters()
        self.attention.reset_parameters()
        self._reset_own()

    def _reset_own(self) -> None:
        nn.init.normal_(self.omega)
        for linear in (self.value, self.averaged, self.candidate):
            nn.init.normal_(linear.weight, std=0.02)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        nn.init.normal_(self.scale, std=0.02)
        nn.init.zeros_(self.shift)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (batch, time, d_model) to the same shape."""
        self.check(x, lengths)
        q, k, v, gates = self._project(x, self.ema(x))
        return mask_padding(self._update(x, self.attention(q, k, v), gates), lengths)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> MegaState:
        """Return zeros and an empty cache, in the parameters' precision, float32 at least."""
        ema = self.ema.init_state(batch, device=device, dtype=dtype)
        return MegaState(ema, self.attention.init_cache(batch, self.d_value, ema.x))

    def scan(
        self, x: Tensor, state: MegaState, lengths: Tensor | None = None
    ) -> tuple[Tensor, MegaState]:
        """Run a chunk of any size, whatever the chunks of the attention."""
        self.check(x, lengths, state)
        average, ema = self.ema.scan(x, state.ema, lengths)
        q, k, v, gates = self._project(x, average)
        o, cache = self.attention.scan(q, k, v, state.cache, lengths)
        return mask_padding(self._update(x, o, gates), lengths), MegaState(ema, cache)

    def step(self, x_t: Tensor, state: MegaState) -> tuple[Tensor, MegaState]:
        """Run one time step."""
        self.check_step(x_t, state)
        x = x_t[:, None]
        average, ema = self.ema.step(x_t, state.ema)
        q, k, v, gates = self._project(x, average[:, None])
        o, cache = self.attention.scan(q, k, v, state.cache, None)
        return self._update(x, o, gates)[:, 0], MegaState(ema, cache)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.d_model}, d_state={self.d_state}, d_key={self.d_key}, d_value={self.d_value}"

    def _project(
        self, x: Tensor, average: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Queries, keys and values, and what the update needs: φ, γ and X' W_h + b_h."""
        average = self.dropout(F.silu(torch.addcmul(average, x, self.omega)))
        sizes = [self.d_model, self.d_key, self.d_value, self.d_model]
        update, z, reset, hidden = self.averaged(average).split(sizes, dim=-1)
        z = F.silu(z)
        q, k = (z * scale + shift for scale, shift in zip(self.scale, self.shift, strict=True))
        v = self.dropout(F.silu(self.value(x)))
        return q, k, v, (update.sigmoid(), F.silu(reset), hidden)

    def _update(self, x: Tensor, o: Tensor, gates: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        update, reset, hidden = gates
        candidate = self.dropout(F.silu(hidden + self.candidate(reset * o.to(reset.dtype))))
        return (x + update * (candidate - x)).to(x.dtype)
