"""Softmax attention to the near past and linear attention to the rest, under one divisor.

    y_t = W_o [Σ_near e^(s_ts - m_t) v_s + e^b Σ_far φ(q_t)·φ(k_s) v_s]
            / [Σ_near e^(s_ts - m_t)     + e^b Σ_far φ(q_t)·φ(k_s)],      s_ts = q_t·k_s / √d_head

near is t - window < s ≤ t and far is s ≤ t - window; m_t is the largest score that is near, and b a
number that each head learns.

Zhang, Arora, Chalamala, Wu, Spector, Singhal, Ramesh, Ré: LoLCATs: On Low-Rank Linearizing of Large
Language Models (2024), https://arxiv.org/abs/2410.10254. Taken from it: which steps each kind sees,
one set of projections for both, the joint divisor, and that m_t is subtracted on the near side
alone, so that the far side is weighed against the largest near weight. There the near side has a
learned factor between 0 and 1; here the far side has e^b, so that the ratio can be any.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core import SequenceModule
from gonzo.core.autocast import outside_autocast
from gonzo.core.nn.rotary import rotary_frequencies, rotated
from gonzo.core.ops.linear_attention import linear_attention
from gonzo.core.sequence import mask_padding

from .feature_maps import FeatureMap
from .linear_attention import FeatureMapKind, make_feature_map

__all__ = ["Branches", "HybridAttention", "HybridAttentionState"]

Branches = Literal["both", "linear", "window", "none"]

# Blocks of queries smaller than this waste more on calls than they save on masked scores.
_BLOCK = 16


class HybridAttentionState(NamedTuple):
    """What lies behind the window as sums, and what lies in it as it is."""

    sums: Tensor
    """(batch, n_head, n_feature, d_head + 1): Σ φ(k) v, and Σ φ(k) as the last column."""
    keys: Tensor
    """(batch, n_head, window - 1, d_head), the newest last; zero before a sequence begins."""
    values: Tensor
    """(batch, n_head, window - 1, d_head), likewise."""
    seen: Tensor
    """(batch,): the number of valid steps so far."""
    frequencies: Tensor
    """(d_head / 2,): of the rotary positions; empty without them."""

    shared = frozenset({"frequencies"})


class HybridAttention(SequenceModule):
    """Softmax attention over the last steps, linear over all before, jointly normalised.

    Example::

        layer = HybridAttention(256, n_head=4, window=64)
        y = layer(torch.randn(2, 1000, 256))  # (2, 1000, 256)

    Time is linear in the length and the state has one size. Everything between the projections is
    computed in float32 at least: sums that are not divided yet would overflow half precision.

    A near weight is 1 at most, and 1 for one key. Far weights should not begin much larger:
    features that are bounded suit it, such as Hedgehog's ``softmax`` ones, and ``exp`` ones do not.

    Args:
        d_model: size of input and output, a multiple of ``n_head``.
        n_head: heads.
        feature_map: of the far side: a map's name, for its defaults, or a `FeatureMap` of this
            ``n_head`` and of d_key = d_model / n_head.
        window: steps that the near side sees, the step itself included.
        rotary: rotate queries and keys by their positions, for both sides.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        balance: (n_head,), the b above; it begins at zero.
        branches: which sides take part; `attention_branches` changes it for a while. A side that
            does not is left out of the sum and of the divisor, and the output of a step that then
            sees nothing is zero. The state goes on alike.

    Source:
        Zhang et al. (2024), https://arxiv.org/abs/2410.10254
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        *,
        feature_map: FeatureMapKind | FeatureMap = "hedgehog",
        window: int = 64,
        rotary: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if n_head < 1 or d_model < 1 or d_model % n_head:
            raise ValueError(
                "HybridAttention: expected d_model to be a multiple of n_head, "
                f"got d_model={d_model} and n_head={n_head}"
            )
        self.d_model, self.n_head, self.d_head = d_model, n_head, d_model // n_head
        if window < 1:
            raise ValueError(f"HybridAttention: expected window of at least 1, got {window}")
        if rotary and self.d_head % 2:
            raise ValueError(
                "HybridAttention: rotary positions turn pairs of numbers, so d_model / n_head must "
                f"be even, got {self.d_head}; use rotary=False or another n_head"
            )
        if not isinstance(feature_map, FeatureMap):
            feature_map = make_feature_map(feature_map, n_head, self.d_head, device, dtype)
        if (feature_map.n_head, feature_map.d_key) != (n_head, self.d_head):
            raise ValueError(
                f"HybridAttention: the feature map is made for n_head={feature_map.n_head} and "
                f"d_key={feature_map.d_key}, and the layer needs n_head={n_head} and "
                f"d_key={self.d_head}"
            )
        self.feature_map, self.window, self.rotary = feature_map, window, rotary
        self.branches: Branches = "both"
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.project_in = nn.Linear(d_model, 3 * d_model, bias=False, **where)
        self.project_out = nn.Linear(d_model, d_model, bias=False, **where)
        self.balance = nn.Parameter(torch.zeros(n_head, **where))

    def reset_parameters(self) -> None:
        """Draw the parameters anew, those of the feature map included."""
        self.feature_map.reset_parameters()
        self.project_in.reset_parameters()
        self.project_out.reset_parameters()
        nn.init.zeros_(self.balance)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> HybridAttentionState:
        """Return zeros: sums in float32 at least, the cache in the parameters' precision."""
        weight = self.project_in.weight
        dtype = weight.dtype if dtype is None else dtype
        wide = torch.promote_types(dtype, torch.float32)
        where: dict[str, Any] = {"device": weight.device if device is None else device}
        sums = (batch, self.n_head, self.feature_map.n_feature, self.d_head + 1)
        cache = (batch, self.n_head, self.window - 1, self.d_head)
        return HybridAttentionState(
            torch.zeros(sums, dtype=wide, **where),
            torch.zeros(cache, dtype=dtype, **where),
            torch.zeros(cache, dtype=dtype, **where),
            torch.zeros(batch, dtype=torch.int64, **where),
            rotary_frequencies(self.d_head if self.rotary else 0, dtype=wide, **where),
        )

    def scan(
        self, x: Tensor, state: HybridAttentionState, lengths: Tensor | None = None
    ) -> tuple[Tensor, HybridAttentionState]:
        """Run a chunk (batch, time, d_model); see ``SequenceModule.scan``."""
        self.check(x, lengths, state)
        q, k, v = self.project(x, state)
        # Step i of the chunk has i … i + window - 1 of these near, and what is before i far.
        keys = torch.cat([state.keys, k.to(state.keys.dtype)], 2)
        values = torch.cat([state.values, v.to(state.values.dtype)], 2)
        wide = state.sums.dtype
        with outside_autocast(x.device):
            marked = self._marked(values.to(wide), state.seen)
            q, wide_keys = q.to(wide), keys.to(wide)
            far, sums = self._far(q, wide_keys, marked, state.sums, lengths)
            both = torch.zeros_like(far)
            if self.branches in ("both", "window"):
                both = both + self._near(q, wide_keys, marked)
            if self.branches in ("both", "linear"):
                both = both + self.balance.to(wide).exp()[:, None, None] * far
            y, divisor = both[..., :-1], both[..., -1:]
            y = y / divisor.masked_fill(divisor == 0, 1)  # only without the near side
        y = self.project_out(y.transpose(1, 2).flatten(2).to(x.dtype))
        after = self._after(state, keys, values, sums, x.shape[1], lengths)
        return mask_padding(y, lengths), after

    def step(self, x_t: Tensor, state: HybridAttentionState) -> tuple[Tensor, HybridAttentionState]:
        """Run one time step (batch, d_model); see ``SequenceModule.step``."""
        self.check_step(x_t, state)
        y, state = self.scan(x_t[:, None], state)
        return y[:, 0], state

    def project(
        self, x: Tensor, state: HybridAttentionState | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (batch, n_head, time, d_head), before the feature map.

        Args:
            x: (batch, time, d_model).
            state: where the steps of x begin; by default at the start.
        """
        heads = self.project_in(x).unflatten(-1, (3, self.n_head, self.d_head))
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        if not self.rotary:
            return q, k, v
        state = self.init_state(len(x), device=x.device) if state is None else state
        places = state.seen[:, None] + torch.arange(x.shape[1], device=x.device)
        return rotated(q, places, state.frequencies), rotated(k, places, state.frequencies), v

    def _marked(self, values: Tensor, seen: Tensor) -> Tensor:
        """Values and a column of ones, whose sums divide; nothing where a sequence has not begun.

        A weight times such a row adds to neither sum, so that no key needs a mask of its own.
        """
        column = torch.arange(values.shape[2], device=values.device)
        begun = column >= self.window - 1 - seen[:, None]  # (B, window - 1 + T)
        ones = begun[:, None, :, None].to(values.dtype).expand(*values.shape[:3], 1)
        return torch.cat([values, ones], 3)

    def _far(
        self, q: Tensor, keys: Tensor, marked: Tensor, sums: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Sums over the far side (batch, n_head, time, d_head + 1), and the sums after the chunk.

        Step i of the op gets the key that left the window before step i: an empty one at first, and
        one more at the end, which no query of this chunk sees.
        """
        time = q.shape[2]
        fq, fk = self.feature_map(q, keys[:, :, :time])
        y, sums = linear_attention(
            F.pad(fq.to(sums.dtype), (0, 0, 0, 1)),
            F.pad(fk.to(sums.dtype), (0, 0, 1, 0)),
            F.pad(marked[:, :, :time], (0, 0, 1, 0)),
            feature_map=self.feature_map.fused,
            normalize=False,
            state=sums,
            lengths=None if lengths is None else lengths + 1,
        )
        return y[:, :, :time], sums

    def _near(self, q: Tensor, keys: Tensor, marked: Tensor) -> Tensor:
        """Sums over the near side, likewise; in blocks of queries, which share most of their keys.

        Work and memory grow with time · window.
        """
        time, window = q.shape[2], self.window
        block = min(time, max(window, _BLOCK))
        missing = -time % block
        q = F.pad(q, (0, 0, 0, missing)).unflatten(2, (-1, block))  # (B, H, N, block, d)
        size = block + window - 1
        keys, marked = (
            F.pad(t, (0, 0, 0, missing)).unfold(2, size, block) for t in (keys, marked)
        )  # (B, H, N, d, size)
        scores = q @ keys / self.d_head**0.5
        column = torch.arange(size, device=q.device)
        distance = column - column[:block, None]
        near = (distance >= 0) & (distance < window)
        near = near & (marked[..., -1:, :] != 0)
        # A step of the padding may have nothing near.
        scores = scores.masked_fill(~near, torch.finfo(scores.dtype).min)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        return (weights @ marked.mT).flatten(2, 3)[:, :, :time]

    def _after(
        self,
        state: HybridAttentionState,
        keys: Tensor,
        values: Tensor,
        sums: Tensor,
        time: int,
        lengths: Tensor | None,
    ) -> HybridAttentionState:
        """The state after a chunk, given the cache and the chunk."""
        kept = self.window - 1
        if lengths is None:
            # Copied, so that the state does not keep the whole chunk in memory.
            keys, values = (t[:, :, time:].contiguous() for t in (keys, values))
            return HybridAttentionState(sums, keys, values, state.seen + time, state.frequencies)
        places = lengths[:, None] + torch.arange(kept, device=keys.device)  # (B, window - 1)
        index = places[:, None, :, None].expand(-1, self.n_head, -1, self.d_head)
        keys, values = (t.gather(2, index) for t in (keys, values))
        return HybridAttentionState(sums, keys, values, state.seen + lengths, state.frequencies)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return (
            f"{self.d_model}, n_head={self.n_head}, window={self.window}, rotary={self.rotary}"
            + ("" if self.branches == "both" else f", branches={self.branches!r}")
        )
