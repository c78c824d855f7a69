"""Sequences packed along time, one after another, through kernels that know whole batches."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


class PackedSequences:
    """Run `module` over each sequence between two neighbours of `cu_seqlens`.

    A module with ``forward_packed`` and ``backward_packed`` takes them all at once.
    """

    def __init__(self, module: ModuleType, cu_seqlens: Tensor) -> None:
        self.module, self.cu_seqlens = module, cu_seqlens

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, state: Tensor, *options: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `gonzo.core.ops.linear_attention`."""
        if hasattr(self.module, "forward_packed"):
            return self.module.forward_packed(q, k, v, state, self.cu_seqlens, *options)
        normalize = options[3]
        y, final = torch.empty(v.shape, dtype=v.dtype, device=v.device), state.clone()
        divisor = state.new_empty(v.shape[:-1] if normalize else (0,))
        for i, span in self._spans():
            one = (q[:, :, span], k[:, :, span], v[:, :, span], state[i : i + 1])
            y_i, divisor_i, final_i = self.module.forward(*one, None, *options)
            y[:, :, span], final[i] = y_i, final_i[0]
            if normalize:
                divisor[:, :, span] = divisor_i
        return y, divisor, final

    def backward(
        self, grad_y: Tensor, grad_state: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor,
        y: Tensor, divisor: Tensor, *options: Any,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Gradients of q, k, v and state."""
        tensors = (grad_y, grad_state, q, k, v, state, y, divisor)
        if hasattr(self.module, "backward_packed"):
            return self.module.backward_packed(*tensors, self.cu_seqlens, *options)
        normalize = options[3]
        dq, dk, dv = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (q, k, v))
        d_state = grad_state.clone()
        for i, span in self._spans():
            divisor_i = divisor[:, :, span] if normalize else divisor
            grads = self.module.backward(
                grad_y[:, :, span], grad_state[i : i + 1], q[:, :, span], k[:, :, span],
                v[:, :, span], state[i : i + 1], y[:, :, span], divisor_i, None, *options,
            )  # fmt: skip
            dq[:, :, span], dk[:, :, span], dv[:, :, span] = grads[:3]
            d_state[i] = grads[3][0]
        return dq, dk, dv, d_state

    def _spans(self) -> list[tuple[int, slice]]:
        """The sequences that are not empty, with their places."""
        edges = self.cu_seqlens.tolist()
        pairs = enumerate(itertools.pairwise(edges))
        return [(i, slice(start, stop)) for i, (start, stop) in pairs if start < stop]
