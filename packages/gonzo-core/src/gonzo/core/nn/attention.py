"""Causal softmax attention with a cache: the baseline that the other layers are measured against.

    y_t = W_o Σ_{s ≤ t} softmax_s(q_t · k_s / √d_head) v_s

with rotary positions (Vaswani et al., "Attention Is All You Need", 2017; Su et al., "RoFormer",
2021). ``scan`` appends to the cache by concatenation: an append in place would be seen by every
state branched from it, and the copy costs no more than the attention that reads the cache anyway.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from gonzo.core.sequence import SequenceModule, mask_padding, time_mask

__all__ = ["AttentionState", "CausalAttention"]

_ROTARY_BASE = 10_000.0


class AttentionState(NamedTuple):
    """The keys and values seen so far, with the place of each in its sequence."""

    keys: Tensor  # (batch, cached, n_head, d_head)
    values: Tensor  # (batch, cached, n_head, d_head)
    places: Tensor  # (batch, cached), -1 where a padded step left nothing
    seen: Tensor  # (batch,), the number of valid steps so far


class CausalAttention(SequenceModule):
    """Multi-head causal attention.

    Args:
        d_model: The size of input and output, a multiple of ``n_head``.
        n_head: The number of heads.
        window: Each step sees itself and the ``window - 1`` steps before it; None for all.
        rotary: Rotate queries and keys by their positions; without it order is seen only through
            the causal mask.
        dropout: Probability, on the attention weights.
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        *,
        window: int | None = None,
        rotary: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if n_head < 1 or d_model % n_head:
            raise ValueError(
                "CausalAttention: expected d_model to be a multiple of n_head, "
                f"got d_model={d_model} and n_head={n_head}"
            )
        if rotary and d_model // n_head % 2:
            raise ValueError(
                "CausalAttention: rotary positions turn pairs of features, so d_model / n_head "
                f"must be even, got {d_model // n_head}; use rotary=False or another n_head"
            )
        if window is not None and window < 1:
            raise ValueError(f"CausalAttention: expected window >= 1, got {window}")
        self.d_model = d_model
        self.n_head = n_head
        self.window = window
        self.rotary = rotary
        self.dropout = dropout
        self.project_in = nn.Linear(d_model, 3 * d_model, bias=False, device=device, dtype=dtype)
        self.project_out = nn.Linear(d_model, d_model, bias=False, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.project_in.reset_parameters()
        self.project_out.reset_parameters()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (batch, time, d_model) to (batch, time, d_model); see ``SequenceModule.forward``."""
        self.check(x, lengths)
        places = torch.arange(x.shape[1], device=x.device)[None]  # (1, T)
        queries, keys, values = self._projected(x, places)
        # Right padding needs no mask of its own: causality hides it from every valid step.
        y = self._attend(queries, keys, values, self._window_mask(places))
        return mask_padding(y, lengths)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> AttentionState:
        """Return the empty cache."""
        weight = self.project_in.weight
        device = weight.device if device is None else device
        empty = torch.zeros(
            (batch, 0, self.n_head, self.d_model // self.n_head),
            device=device,
            dtype=weight.dtype if dtype is None else dtype,
        )
        places = torch.zeros((batch, 0), device=device, dtype=torch.int64)
        return AttentionState(
            empty, empty, places, torch.zeros(batch, device=device, dtype=torch.int64)
        )

    def scan(
        self, x: Tensor, state: AttentionState, lengths: Tensor | None = None
    ) -> tuple[Tensor, AttentionState]:
        """Run a chunk (batch, time, d_model); see ``SequenceModule.scan``."""
        self.check(x, lengths, state)
        time = x.shape[1]
        places = state.seen[:, None] + torch.arange(time, device=x.device)  # (B, T)
        queries, keys, values = self._projected(x, places)
        valid = places
        if lengths is not None:
            valid = places.masked_fill(~time_mask(lengths, time), -1)
        all_places = torch.cat([state.places, valid], dim=1)  # (B, C + T)
        all_keys = torch.cat([state.keys, keys.to(state.keys.dtype)], dim=1)
        all_values = torch.cat([state.values, values.to(state.values.dtype)], dim=1)
        # With nothing behind it a chunk is a whole sequence, which needs no mask in memory.
        first = self.window is None and state.places.shape[1] == 0
        mask = None if first else self._cache_mask(places, all_places)
        y = self._attend(queries, all_keys, all_values, mask)
        seen = state.seen + (time if lengths is None else lengths)
        after = AttentionState(all_keys, all_values, all_places, seen)
        return mask_padding(y, lengths), self._trimmed(after, padded=lengths is not None)

    def step(self, x_t: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """Run one time step (batch, d_model); see ``SequenceModule.step``."""
        self.check_step(x_t, state)
        y, state = self.scan(x_t[:, None], state)
        return y[:, 0], state

    def _projected(self, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, time, n_head, d_head)."""
        heads = self.project_in(x).unflatten(-1, (3, self.n_head, self.d_model // self.n_head))
        queries, keys, values = heads.unbind(2)
        if self.rotary:
            queries, keys = _rotated(queries, places), _rotated(keys, places)
        return queries, keys, values

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        y = scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys.transpose(1, 2).to(queries.dtype),
            values.transpose(1, 2).to(queries.dtype),
            attn_mask=None if mask is None else mask[:, None],
            is_causal=mask is None,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.project_out(y.transpose(1, 2).flatten(2))

    def _window_mask(self, places: Tensor) -> Tensor | None:
        return None if self.window is None else self._sees(places, places)

    def _cache_mask(self, places: Tensor, all_places: Tensor) -> Tensor:
        """The (batch, time, cached + time) mask of what each step of the chunk sees."""
        time, total = places.shape[1], all_places.shape[1]
        mask = self._sees(places, all_places) & (all_places >= 0)[:, None]
        # A padded step sees itself, so that no softmax is over nothing; its output is dropped.
        own = torch.arange(total - time, total, device=places.device)
        return mask | (own[:, None] == torch.arange(total, device=places.device))

    def _sees(self, places: Tensor, others: Tensor) -> Tensor:
        distance = places[:, :, None] - others[:, None]
        sees = distance >= 0
        return sees if self.window is None else sees & (distance < self.window)

    def _trimmed(self, state: AttentionState, *, padded: bool) -> AttentionState:
        """Drop from the cache what no later step can see."""
        if self.window is None:
            return state
        keys, values, places, seen = state
        if padded:
            # Padding moves to the front, so that what is cut off there is padding or out of sight.
            places, order = places.sort(dim=1, stable=True)
            index = order[:, :, None, None].expand_as(keys)
            keys, values = keys.gather(1, index), values.gather(1, index)
        cut = max(0, places.shape[1] - (self.window - 1))
        return AttentionState(keys[:, cut:], values[:, cut:], places[:, cut:], seen)

    def extra_repr(self) -> str:
        """Describe the layer in ``repr``."""
        return (
            f"{self.d_model}, n_head={self.n_head}, window={self.window}, rotary={self.rotary}, "
            f"dropout={self.dropout}"
        )


def _rotated(x: Tensor, places: Tensor) -> Tensor:
    """Turn each pair of features of x (batch, time, n_head, d_head) by an angle of its place."""
    # Angles reach the length of the sequence: half precision would not tell neighbours apart.
    wide = torch.promote_types(x.dtype, torch.float32)
    half = x.shape[-1] // 2
    exponent = torch.arange(half, device=x.device, dtype=wide) / half
    angle = places[..., None, None].to(wide) * _ROTARY_BASE**-exponent
    cos, sin = angle.cos(), angle.sin()
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1).to(x.dtype)
