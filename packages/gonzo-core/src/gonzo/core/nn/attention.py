"""Causal softmax attention with a cache: the baseline that the other layers are measured against.

    y_t = W_o Σ_{s ≤ t} softmax_s(q_t · k_s / √d_head) v_s

with rotary positions (Vaswani et al., "Attention Is All You Need", 2017; Su et al., "RoFormer",
2021).

A state is never written to, so that it can be branched, and appending to a cache means copying it.
The cache is therefore in two parts: a step copies the recent one alone, at most 128 steps long, and
hands it over to the other when it is full. A step then copies on average a 128th of the cache and
64 steps more, while it reads all of it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention

from gonzo.core.nn.rotary import rotary_frequencies, rotated
from gonzo.core.nn.sliding_window import sliding_window_attention
from gonzo.core.sequence import SequenceModule, mask_padding

__all__ = ["AttentionState", "CausalAttention"]

_RECENT = 128


class AttentionState(NamedTuple):
    """The keys and values seen so far, each sequence ending in the last column.

    Keys have time innermost and values have features innermost: a step then reads both in order.
    """

    keys: Tensor  # (batch, n_head, d_head, cached)
    values: Tensor  # (batch, n_head, cached, d_head)
    recent_keys: Tensor  # (batch, n_head, d_head, recent), what follows them
    recent_values: Tensor  # (batch, n_head, recent, d_head)
    padding: Tensor  # (batch, 1), columns before a sequence begins; (batch, 0) if no sequence's
    seen: Tensor  # (batch,), the number of valid steps so far
    frequencies: Tensor  # (d_head / 2,), of the rotary positions; empty without them

    shared = frozenset({"frequencies"})


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
        self.d_head = d_model // n_head
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
        queries, keys, values = self._projected(x, places, self._frequencies(x.device))
        # Right padding needs no mask of its own: causality hides it from every valid step.
        return mask_padding(self._attend(queries, keys, values, None), lengths)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> AttentionState:
        """Return the empty cache."""
        weight = self.project_in.weight
        device = weight.device if device is None else torch.device(device)
        dtype = weight.dtype if dtype is None else dtype
        keys = torch.zeros((batch, self.n_head, self.d_head, 0), device=device, dtype=dtype)
        values = keys.transpose(2, 3)
        padding = torch.zeros((batch, 0), device=device, dtype=torch.int64)
        seen = torch.zeros(batch, device=device, dtype=torch.int64)
        frequencies = self._frequencies(device)
        return AttentionState(keys, values, keys, values, padding, seen, frequencies)

    def scan(
        self, x: Tensor, state: AttentionState, lengths: Tensor | None = None
    ) -> tuple[Tensor, AttentionState]:
        """Run a chunk (batch, time, d_model); see ``SequenceModule.scan``."""
        self.check(x, lengths, state)
        time = x.shape[1]
        places = state.seen[:, None] + torch.arange(time, device=x.device)  # (B, T)
        queries, keys, values = self._projected(x, places, state.frequencies)
        all_keys = torch.cat([state.keys, state.recent_keys, keys.mT.to(state.keys.dtype)], 3)
        all_values = torch.cat(
            [state.values, state.recent_values, values.to(state.values.dtype)], 2
        )
        if all_keys.shape[3] > time:
            # The fused kernel wants keys with features innermost.
            keys = all_keys.to(queries.dtype).mT.contiguous()
            values = all_values.to(queries.dtype)
        y = self._attend(queries, keys, values, state.padding)
        return mask_padding(y, lengths), self._after(state, all_keys, all_values, time, lengths)

    def step(self, x_t: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """Run one time step (batch, d_model); see ``SequenceModule.step``."""
        self.check_step(x_t, state)
        query, key, value = self._projected(x_t[:, None], state.seen[:, None], state.frequencies)
        keys, values, recent_keys, recent_values, padding, seen, frequencies = state
        recent_keys = torch.cat([recent_keys, key.mT.to(keys.dtype)], 3)
        recent_values = torch.cat([recent_values, value.to(keys.dtype)], 2)
        cached, recent = keys.shape[3], recent_keys.shape[3]
        if self.window is not None and cached + recent > self.window:
            out_of_sight = cached + recent - self.window
            keys, values = keys[..., out_of_sight:], values[..., out_of_sight:, :]
            rest = max(0, out_of_sight - cached)
            recent_keys, recent_values = recent_keys[..., rest:], recent_values[..., rest:, :]
            padding = (padding - out_of_sight).clamp(min=0)
            cached = keys.shape[3]

        query = query.to(keys.dtype) / self.d_head**0.5
        scores = torch.cat([query @ keys, query @ recent_keys], 3)  # (B, H, 1, cached + recent)
        if padding.shape[1]:
            column = torch.arange(scores.shape[3], device=scores.device)
            hidden = column < padding
            scores = scores.masked_fill(hidden[:, None, None], float("-inf"))
        wide = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.softmax(3, dtype=wide).to(values.dtype)
        if self.dropout and self.training:
            weights = dropout(weights, self.dropout)
        y = weights[..., :cached] @ values + weights[..., cached:] @ recent_values
        y_t = self.project_out(y.flatten(1).to(x_t.dtype))

        if recent_keys.shape[3] >= _RECENT:
            keys, values = torch.cat([keys, recent_keys], 3), torch.cat([values, recent_values], 2)
            recent_keys, recent_values = recent_keys[..., :0], recent_values[..., :0, :]
        return y_t, AttentionState(
            keys, values, recent_keys, recent_values, padding, seen + 1, frequencies
        )

    def _projected(
        self, x: Tensor, places: Tensor, frequencies: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, n_head, time, d_head)."""
        heads = self.project_in(x).unflatten(-1, (3, self.n_head, self.d_head))
        heads = heads.permute(2, 0, 3, 1, 4)  # (3, B, H, T, d_head)
        if not self.rotary:
            queries, keys, values = heads.unbind(0)
            return queries, keys, values
        queries, keys = rotated(heads[:2], places, frequencies).unbind(0)
        return queries, keys, heads[2]

    def _attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, padding: Tensor | None
    ) -> Tensor:
        """The outputs of a chunk at the end of all keys and values, (batch, time, d_model)."""
        time, total = queries.shape[2], keys.shape[2]
        dropout_p = self.dropout if self.training else 0.0
        if self.window is not None and time > self.window:
            y = sliding_window_attention(
                queries, keys, values, self.window, padding=padding, dropout_p=dropout_p
            )
            return self.project_out(y.transpose(1, 2).flatten(2))
        mask = self._mask(time, total, padding)
        y = scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=dropout_p,
        )
        return self.project_out(y.transpose(1, 2).flatten(2))

    def _mask(self, time: int, total: int, padding: Tensor | None) -> Tensor | None:
        """What each step of a chunk sees, (time, total) or (batch, 1, time, total)."""
        if time == total and self.window is None:
            return None  # a whole sequence needs no mask in memory
        device = self.project_in.weight.device
        column = torch.arange(total, device=device)
        distance = column[total - time :, None] - column
        mask = distance >= 0
        if self.window is not None:
            mask = mask & (distance < self.window)
        if padding is not None and padding.shape[1]:
            mask = mask & (column >= padding)[:, None, None]
        return mask

    def _after(
        self,
        state: AttentionState,
        keys: Tensor,
        values: Tensor,
        time: int,
        lengths: Tensor | None,
    ) -> AttentionState:
        """The state after a chunk whose keys and values end the given ones."""
        padding, total = state.padding, keys.shape[3]
        if lengths is not None:
            # Each sequence moves right until its last valid step stands in the last column.
            shift = (time - lengths)[:, None]
            index = (torch.arange(total, device=keys.device) - shift).remainder(total)  # (B, total)
            keys = keys.gather(3, index[:, None, None].expand_as(keys))
            values = values.gather(2, index[:, None, :, None].expand_as(values))
            padding = shift + padding if padding.shape[1] else shift
        if self.window is not None and total >= self.window:
            out_of_sight = total - (self.window - 1)
            # Copied, so that the state does not keep the whole chunk in memory.
            keys = keys[..., out_of_sight:].contiguous()
            values = values[..., out_of_sight:, :].contiguous()
            padding = (padding - out_of_sight).clamp(min=0)
        seen = state.seen + (time if lengths is None else lengths)
        nothing_recent = (keys[..., :0], values[..., :0, :])
        return AttentionState(keys, values, *nothing_recent, padding, seen, state.frequencies)

    def _frequencies(self, device: torch.device) -> Tensor:
        """The angle by which each pair of features turns from one place to the next."""
        wide = torch.promote_types(self.project_in.weight.dtype, torch.float32)
        return rotary_frequencies(self.d_head if self.rotary else 0, device=device, dtype=wide)

    def extra_repr(self) -> str:
        """Describe the layer in ``repr``."""
        return (
            f"{self.d_model}, n_head={self.n_head}, window={self.window}, rotary={self.rotary}, "
            f"dropout={self.dropout}"
        )
