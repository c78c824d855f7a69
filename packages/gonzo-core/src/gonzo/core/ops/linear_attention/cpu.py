"""Matrix products over chunks of time and blocks of heads; the backward pass recomputes the states.

Within a chunk the weights are formed, between chunks the state carries over. The backward pass goes
through time twice: forwards with the state S for dφ(q), and backwards with its gradient R for the
rest. Scratch memory is that of one chunk of one block of heads.

With w = [v, 1], g the gradient of the sums n = A w + φ(q) S and p the map's weight of q·k:

    dφ(q) = g Sᵀ        dφ(k) = w Rᵀ        dw = φ(k) R + Aᵀ g        dp = tril(g wᵀ)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gonzo.core.sequence import time_mask

from .cpu_maps import ChunkMap, chunk_map

_CHUNK = 64  # steps; see the README for the others that were measured
_SCRATCH_BYTES = 4 << 20  # of a chunk of a block of heads


@dataclass(frozen=True)
class _Block:
    """Some sequences and heads, treated as one batch of matrix products."""

    batch: slice
    heads: slice

    def chunk(self, x: Tensor, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Steps of x (batch, n_head, time, d) as (block, steps, d)."""
        return x[self.batch, self.heads, start:stop].flatten(0, 1).to(dtype)

    def whole(self, x: Tensor) -> Tensor:
        """A copy of x (batch, n_head, …) as (block, …), contiguous and to be written to."""
        part = x[self.batch, self.heads]
        return part.clone(memory_format=torch.contiguous_format).flatten(0, 1)

    def values(self, v: Tensor, start: int, stop: int, ones: Tensor) -> Tensor:
        """Return w = [v, 1], or v, of some steps, in `ones` (block, chunk, columns)."""
        w = ones[:, : stop - start]
        place = v[self.batch, self.heads, start:stop]
        w[..., : v.shape[-1]].view(place.shape).copy_(place)
        return w

    def store(self, x: Tensor, start: int, stop: int, value: Tensor) -> None:
        """Write (block, steps, …) to the steps of x (batch, n_head, time, …)."""
        place = x[self.batch, self.heads, start:stop]
        place.copy_(value.view(place.shape))

    def add(self, x: Tensor, start: int, stop: int, value: Tensor) -> None:
        """Add (block, steps, d) to the steps of x (batch, n_head, time, d)."""
        place = x[self.batch, self.heads, start:stop]
        place.add_(value.view(place.shape))

    def put(self, x: Tensor, value: Tensor) -> None:
        """Write (block, …) to x (batch, n_head, …)."""
        place = x[self.batch, self.heads]
        place.copy_(value.view(place.shape))

    def mask(self, valid: Tensor | None, start: int, stop: int) -> Tensor | None:
        """The valid steps of a chunk, (block, steps, 1); valid is (batch, time) or None."""
        if valid is None:
            return None
        part = valid[self.batch, None, start:stop]
        heads = self.heads.stop - self.heads.start
        return part.expand(-1, heads, -1).flatten(0, 1).unsqueeze(-1)


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    lengths: Tensor | None,
    feature_map: str,
    scale: float,
    causal: bool,
    normalize: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `gonzo.core.ops.linear_attention`; also the divisors (batch, n_head, time)."""
    dtype, time = state.dtype, q.shape[2]
    phi = chunk_map(feature_map, scale)
    if time == 1 and lengths is None and q.numel():
        return _step(q, k, v, state, phi, normalize, eps)
    valid = None if lengths is None else time_mask(lengths, time)
    y = torch.empty(v.shape, dtype=v.dtype)
    divisor = torch.empty(v.shape[:-1] if normalize else (0,), dtype=dtype)
    final = torch.empty(state.shape, dtype=dtype)
    for block in _blocks(q, state):
        s = block.whole(state)
        ones = s.new_ones(len(s), min(time, _CHUNK), s.shape[2])

        def read(start: int, stop: int, sums: Tensor, block: _Block = block) -> None:
            mask = block.mask(valid, start, stop)
            if not normalize:
                block.store(y, start, stop, _masked(sums, mask))
                return
            sums[..., -1] += eps
            values, divided_by = sums[..., :-1], sums[..., -1:]
            if mask is None and y.dtype == dtype:  # straight to its place
                place = y[block.batch, block.heads, start:stop]
                parts = (part.view(*place.shape[:-1], -1) for part in (values, divided_by))
                torch.div(*parts, out=place)
            else:
                block.store(y, start, stop, _masked(values / divided_by, mask))
            block.store(divisor, start, stop, divided_by)

        for start, stop in _chunks(time):
            k_c = block.chunk(k, start, stop, dtype)
            w_c = block.values(v, start, stop, ones)
            fk = phi.features(k_c)
            if causal:
                q_c = block.chunk(q, start, stop, dtype)
                fq = phi.features(q_c)
                sums = torch.bmm(fq, s)
                read(start, stop, sums.baddbmm_(phi.weights(q_c, k_c, fq, fk), w_c))
            s.baddbmm_(_masked(fk, block.mask(valid, start, stop)).mT, w_c)
        if not causal:
            for start, stop in _chunks(time):
                q_c = block.chunk(q, start, stop, dtype)
                read(start, stop, torch.bmm(phi.features(q_c), s))
        block.put(final, s)
    return y, divisor, final


def backward(
    grad_y: Tensor,
    grad_state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    y: Tensor,
    divisor: Tensor,
    lengths: Tensor | None,
    feature_map: str,
    scale: float,
    causal: bool,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and state."""
    dtype, time = state.dtype, q.shape[2]
    phi = chunk_map(feature_map, scale)
    valid = None if lengths is None else time_mask(lengths, time)
    dq, dk, dv = (torch.empty(t.shape, dtype=dtype) for t in (q, k, v))
    d_state = torch.empty(state.shape, dtype=dtype)

    def gradient_of_sums(block: _Block, start: int, stop: int) -> Tensor:
        grad, y_c = (block.chunk(t, start, stop, dtype) for t in (grad_y, y))
        mask = block.mask(valid, start, stop)
        if not normalize:
            return _masked(grad, mask)
        # As the reference does, into one place.
        divided_by = block.chunk(divisor.unsqueeze(-1), start, stop, dtype)
        g = grad.new_empty(*grad.shape[:2], grad.shape[2] + 1)
        values = torch.div(grad, divided_by, out=g[..., :-1])
        torch.sum(values * y_c, -1, out=g[..., -1]).neg_()
        return _masked(g, mask)

    for block in _blocks(q, state):
        s, r = block.whole(state), block.whole(grad_state)
        ones = s.new_ones(len(s), min(time, _CHUNK), s.shape[2])
        if not causal:  # the state that every step reads, and all that is read from it
            for start, stop in _chunks(time):
                fk = phi.features(block.chunk(k, start, stop, dtype))
                w_c = block.values(v, start, stop, ones)
                s.baddbmm_(_masked(fk, block.mask(valid, start, stop)).mT, w_c)
                fq = phi.features(block.chunk(q, start, stop, dtype))
                r.baddbmm_(fq.mT, gradient_of_sums(block, start, stop))
        for start, stop in _chunks(time):
            g = gradient_of_sums(block, start, stop)
            q_c = block.chunk(q, start, stop, dtype)
            block.store(dq, start, stop, phi.features_backward(torch.bmm(g, s.mT), q_c))
            if causal:
                fk = phi.features(block.chunk(k, start, stop, dtype))
                w_c = block.values(v, start, stop, ones)
                s.baddbmm_(_masked(fk, block.mask(valid, start, stop)).mT, w_c)
        for start, stop in reversed(_chunks(time)):
            mask = block.mask(valid, start, stop)
            k_c = block.chunk(k, start, stop, dtype)
            w_c = block.values(v, start, stop, ones)
            fk = phi.features(k_c)
            dw = torch.bmm(_masked(fk, mask), r)
            d_fk = _masked(torch.bmm(w_c, r.mT), mask)
            if causal:
                g = gradient_of_sums(block, start, stop)
                q_c = block.chunk(q, start, stop, dtype)
                fq = phi.features(q_c)
                r.baddbmm_(fq.mT, g)
                d_weights = torch.bmm(g, w_c.mT)
                weights, dq_c, dk_c = phi.backward(d_weights, d_fk, q_c, k_c, fq, fk)
                dw.baddbmm_(weights.mT, g)
                block.add(dq, start, stop, dq_c)
            else:
                dk_c = phi.features_backward(d_fk, k_c, fk)
            block.store(dk, start, stop, dk_c)
            block.store(dv, start, stop, dw[..., : v.shape[-1]])
        block.put(d_state, r)
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), d_state


def _step(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, phi: ChunkMap, normalize: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """One step of all sequences and heads, with as few calls as there can be."""
    q, k, w = (x.flatten(0, 1).to(state.dtype) for x in (q, k, v))
    if normalize:
        w = torch.cat([w, w.new_ones(len(w), 1, 1)], 2)
    final = torch.baddbmm(state.flatten(0, 1), phi.features(k).mT, w)
    sums = torch.bmm(phi.features(q), final)
    final, lead = final.view(state.shape), v.shape[:2]
    if not normalize:
        return sums.view(v.shape).to(v.dtype), state.new_empty(0), final
    divisor = sums[..., -1:] + eps
    y = sums[..., :-1] / divisor
    return y.view(v.shape).to(v.dtype), divisor.view(*lead, 1), final


def _chunks(time: int) -> list[tuple[int, int]]:
    return [(start, min(start + _CHUNK, time)) for start in range(0, time, _CHUNK)]


def _blocks(q: Tensor, state: Tensor) -> Iterator[_Block]:
    """Cover all sequences and heads with blocks whose chunk fits the cache."""
    batch, n_head, time, _ = q.shape
    steps = min(time, _CHUNK)
    n_feature, columns = state.shape[2:]
    numbers = steps * (2 * n_feature + steps + 3 * columns) + n_feature * columns
    rows = max(torch.get_num_threads(), _SCRATCH_BYTES // (numbers * state.itemsize))
    heads = min(n_head, rows)
    sequences = max(1, rows // max(heads, 1))
    for first in range(0, batch, sequences):
        for head in range(0, n_head, heads):
            yield _Block(
                slice(first, min(first + sequences, batch)),
                slice(head, min(head + heads, n_head)),
            )


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask
