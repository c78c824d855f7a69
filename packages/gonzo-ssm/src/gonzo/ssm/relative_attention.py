"""Single-head causal attention with a relative bias, over the whole past or in chunks.

    o_t = Σ_{s ≤ t} f(q_t · k_s / τ + b_{t-s}) v_s,   b_{t-s} = (R_t a) · (R_s c)

with R_t the rotation of RoPE at position t, and a, c learned. Two functions f:

- ``"softmax"``: over s, τ = √d_key;
- ``"laplace"``: f(x) = ½ (1 + erf((x - μ)/(σ√2))), μ = √½, σ = √(1/4π), elementwise, with τ the
  number of steps that t sees.

In chunks of c steps, t sees only the steps of its own chunk: linear time, and a cache of c steps.

Ma et al.: Mega (2022), https://arxiv.org/abs/2209.10655, section 3; the rotary form of the bias is
the authors' code's. As the bias is a product of one vector of t and one of s, it rides along as
d_key further features of queries and keys: no (time, time) table, any length, exact streaming.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core.sequence import time_mask

Activation = Literal["softmax", "laplace"]

_ROTARY_BASE = 10_000.0


class AttentionCache(NamedTuple):
    """What later steps attend to."""

    keys: Tensor
    """(batch, cached, 2 d_key), with the features of the bias."""
    values: Tensor
    """(batch, cached, d_value)."""
    valid: Tensor
    """(batch, cached): False where a padded step left nothing."""
    seen: Tensor
    """(batch,): valid steps so far."""


class RelativeAttention(nn.Module):
    """Attention over the whole past; its cache grows with every step.

    Args:
        d_key: size of queries and keys, even.
        activation: ``"softmax"`` or ``"laplace"``.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        d_key: int,
        *,
        activation: Activation = "softmax",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.d_key, self.activation = d_key, activation
        self.bias_query = nn.Parameter(torch.empty(d_key, device=device, dtype=dtype))
        self.bias_key = nn.Parameter(torch.empty(d_key, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a and c anew, small."""
        nn.init.normal_(self.bias_query, std=0.02)
        nn.init.normal_(self.bias_key, std=0.02)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within whole sequences (batch, time, …), from the start."""
        q, k = self._with_bias(q, k, torch.arange(q.shape[1], device=q.device)[None])
        return self._attend(q, k, v, None)

    def init_cache(self, batch: int, d_value: int, like: Tensor) -> AttentionCache:
        """Return the empty cache, of the dtype and device of `like`."""
        return _blank(batch, 0, self.d_key, d_value, like)

    def scan(
        self, q: Tensor, k: Tensor, v: Tensor, cache: AttentionCache, lengths: Tensor | None
    ) -> tuple[Tensor, AttentionCache]:
        """Attend from a chunk (batch, time, …) to the cache and to the chunk itself."""
        time, cached = q.shape[1], cache.keys.shape[1]
        q, k = self._with_bias(q, k, cache.seen[:, None] + torch.arange(time, device=q.device))
        keys = torch.cat([cache.keys, k.to(cache.keys.dtype)], dim=1)
        values = torch.cat([cache.values, v.to(cache.values.dtype)], dim=1)
        new = _valid(q, lengths)
        valid = torch.cat([cache.valid, new], dim=1)
        mask = None
        if cached:
            to = torch.arange(cached + time, device=q.device)
            own = torch.arange(cached, cached + time, device=q.device)[:, None]
            # A padded step sees itself, so that no softmax is over nothing; its output is dropped.
            mask = ((to <= own) & valid[:, None]) | (to == own)
        y = self._attend(q, keys, values, mask)
        return y, AttentionCache(keys, values, valid, cache.seen + new.sum(1))

    def extra_repr(self) -> str:
        """Sizes and choices, for printing."""
        return f"{self.d_key}, activation={self.activation!r}"

    def _with_bias(self, q: Tensor, k: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Scale the queries and add the bias' features to both; place (batch or 1, time)."""
        wide = torch.promote_types(q.dtype, torch.float32)
        frequency = _ROTARY_BASE ** -(
            torch.arange(self.d_key // 2, device=q.device, dtype=torch.float64) / (self.d_key // 2)
        )
        angle = place[..., None] * frequency
        cos, sin = angle.cos().to(wide), angle.sin().to(wide)
        if self.activation == "softmax":
            q = q.to(wide) * self.d_key**-0.5
        else:
            q = q.to(wide) / (place + 1)[..., None]

        def rotated(vector: Tensor, like: Tensor) -> Tensor:
            left, right = vector.to(wide).chunk(2)
            turned = torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
            return turned.expand_as(like)

        return (
            torch.cat([q, rotated(self.bias_query, q)], dim=-1),
            torch.cat([k.to(wide), rotated(self.bias_key, k)], dim=-1),
        )

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """f(q · k) v for (batch, …, features); without a mask, causally from the start."""
        if self.activation == "laplace":
            if mask is None:
                square = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device)
                mask = square.tril()
            return laplace(q @ k.to(q.dtype).mT).masked_fill(~mask, 0).to(v.dtype) @ v
        k, v, d_value = k.to(q.dtype), v.to(q.dtype), v.shape[-1]
        if q.shape[1] > 1:
            # Keys and values of one size let torch do without (time, time) memory.
            size = max(q.shape[-1], d_value)
            q, k, v = (F.pad(t, (0, size - t.shape[-1])) for t in (q, k, v))
        q, k, v = (t.unsqueeze(1) for t in (q, k, v))
        y = F.scaled_dot_product_attention(
            q, k, v, None if mask is None else mask[:, None], is_causal=mask is None, scale=1.0
        )
        return y.squeeze(1)[..., :d_value]


class ChunkedAttention(RelativeAttention):
    """Attention within chunks of the sequence: linear time, a cache of one chunk.

    Args:
        d_key: size of queries and keys, even.
        chunk: steps in a chunk.
        activation: ``"softmax"`` or ``"laplace"``.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        d_key: int,
        chunk: int,
        *,
        activation: Activation = "softmax",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d_key, activation=activation, device=device, dtype=dtype)
        self.chunk = chunk

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within the chunks of whole sequences (batch, time, …), from the start."""
        time = q.shape[1]
        place = torch.arange(time, device=q.device)[None] % self.chunk
        padding = -time % self.chunk
        grid = (F.pad(t, (0, 0, 0, padding)) for t in (*self._with_bias(q, k, place), v))
        return self._within_chunks(*grid)[:, :time]

    def init_cache(self, batch: int, d_value: int, like: Tensor) -> AttentionCache:
        """Return a cache of one chunk, of the dtype and device of `like`; row i holds place i."""
        return _blank(batch, self.chunk, self.d_key, d_value, like)

    def scan(
        self, q: Tensor, k: Tensor, v: Tensor, cache: AttentionCache, lengths: Tensor | None
    ) -> tuple[Tensor, AttentionCache]:
        """Attend from steps (batch, time, …) to what the cache holds of their chunks, and within.

        Sequences may stand at different places of their chunks, so each is laid out on a grid of
        whole chunks: first what the cache holds of its present chunk, then the new steps.
        """
        if q.shape[1] == 1:
            return self._step(q, k, v, cache, lengths)
        time, start = q.shape[1], cache.seen % self.chunk
        place = start[:, None] + torch.arange(time, device=q.device)  # (B, T), on the grid
        q, k = self._with_bias(q, k, place % self.chunk)
        length = -(-(self.chunk - 1 + time) // self.chunk) * self.chunk
        slot = torch.arange(length, device=q.device)
        new = (slot - start[:, None]).clamp(0, time - 1)
        source = torch.where(slot < start[:, None], slot, self.chunk + new)
        keys = _rows(torch.cat([cache.keys, k.to(cache.keys.dtype)], dim=1), source)
        values = _rows(torch.cat([cache.values, v.to(cache.values.dtype)], dim=1), source)
        y = _rows(self._within_chunks(_rows(q, new), keys, values), place)
        steps = _valid(q, lengths).sum(1)
        last = ((start + steps) // self.chunk).clamp(max=length // self.chunk - 1)
        kept = last[:, None] * self.chunk + torch.arange(self.chunk, device=q.device)
        return y, self._cache(_rows(keys, kept), _rows(values, kept), cache.seen + steps)

    def _step(
        self, q: Tensor, k: Tensor, v: Tensor, cache: AttentionCache, lengths: Tensor | None
    ) -> tuple[Tensor, AttentionCache]:
        """Put one step in its place of the cache, and attend from it alone."""
        start = (cache.seen % self.chunk)[:, None]
        q, k = self._with_bias(q, k, start)
        slot = torch.arange(self.chunk, device=q.device)
        here = (slot == start)[..., None]
        keys = torch.where(here, k.to(cache.keys.dtype), cache.keys)
        values = torch.where(here, v.to(cache.values.dtype), cache.values)
        y = self._attend(q, keys, values, (slot <= start)[:, None])
        return y, self._cache(keys, values, cache.seen + _valid(q, lengths).sum(1))

    def _cache(self, keys: Tensor, values: Tensor, seen: Tensor) -> AttentionCache:
        place = torch.arange(self.chunk, device=seen.device)
        return AttentionCache(keys, values, place < (seen % self.chunk)[:, None], seen)

    def extra_repr(self) -> str:
        """Sizes and choices, for printing."""
        return f"{super().extra_repr()}, chunk={self.chunk}"

    def _within_chunks(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend causally within each chunk of (batch, chunks · chunk, …)."""
        rows = (t.unflatten(1, (-1, self.chunk)).flatten(0, 1) for t in (q, k, v))
        return self._attend(*rows, None).view(*q.shape[:2], v.shape[-1])


def laplace(x: Tensor) -> Tensor:
    """The distribution function of a normal variable, shaped as Mega fits it to relu(x)²."""
    mean, deviation = math.sqrt(1 / 2), math.sqrt(1 / (4 * math.pi))
    return torch.special.ndtr((x - mean) / deviation)


def _blank(batch: int, cached: int, d_key: int, d_value: int, like: Tensor) -> AttentionCache:
    return AttentionCache(
        like.new_zeros(batch, cached, 2 * d_key),
        like.new_zeros(batch, cached, d_value),
        torch.zeros(batch, cached, dtype=torch.bool, device=like.device),
        torch.zeros(batch, dtype=torch.int64, device=like.device),
    )


def _valid(x: Tensor, lengths: Tensor | None) -> Tensor:
    """(batch, time): True at the valid steps."""
    if lengths is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    return time_mask(lengths, x.shape[1])


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (batch, n) of x (batch, time, features)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))
