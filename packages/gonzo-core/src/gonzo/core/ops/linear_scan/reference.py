"""The recurrence as it is written, one step after the other: the judge of the other backends."""

from __future__ import annotations

import torch
from torch import Tensor


def forward(a: Tensor, x: Tensor, initial: Tensor | None, reverse: bool, out: Tensor) -> None:
    """Write the states of `gonzo.core.ops.linear_scan`, real or complex, to `out`."""
    a = a.expand(x.shape)
    state = initial if initial is None else _wide(initial)
    for t in _order(x.shape[1], reverse):
        now = _wide(x[:, t])
        state = now if state is None else a[:, t] * state + now
        out[:, t] = state


def backward(
    grad: Tensor, a: Tensor, y: Tensor | None, initial: Tensor | None, reverse: bool
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Gradients of a (None where no states are given), x and initial from that of the states.

    With λ_t = dL/dh_t in total: λ_t = g_t + conj(a_{t+1}) λ_{t+1}, dL/dx_t = λ_t,
    dL/da_t = λ_t conj(h_{t-1}), and dL/dh_{-1} = conj(a_0) λ_0.
    """
    shape, a = a.shape, a.expand(grad.shape)
    order = list(_order(grad.shape[1], reverse))
    da, dx = _wide(torch.zeros_like(grad)), _wide(torch.zeros_like(grad))
    carried = torch.zeros_like(dx[:, 0])
    for i in reversed(range(len(order))):
        t = order[i]
        dx[:, t] = grad[:, t] + carried
        carried = a[:, t].conj_physical() * dx[:, t]
        if y is not None:
            before = y[:, order[i - 1]] if i else initial
            if before is not None:
                da[:, t] = dx[:, t] * before.conj_physical()
    return (
        None if y is None else da.sum_to_size(shape),
        dx,
        None if initial is None else carried,
    )


def _order(time: int, reverse: bool) -> range:
    return range(time - 1, -1, -1) if reverse else range(time)


def _wide(tensor: Tensor) -> Tensor:
    """States and sums of 16-bit inputs are carried in float32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
