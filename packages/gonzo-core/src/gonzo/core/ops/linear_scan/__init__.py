"""First-order linear recurrence along time: h_t = a_t · h_{t-1} + x_t."""

from __future__ import annotations

import torch
from torch import Tensor

from . import register  # noqa: F401  (registers the op)

_DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
)


def linear_scan(
    a: Tensor,
    x: Tensor,
    initial: Tensor | None = None,
    *,
    reverse: bool = False,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Run ``h[t] = a[t] * h[t-1] + x[t]`` along time and return every state.

    A decay that does not vary over batch, time or features is given in its small shape: it is never
    expanded in memory, and its gradient is summed inside the kernel. Without `initial` the first
    state is ``x[0]`` and ``a[0]`` is not used. Differentiable once in `a`, `x` and `initial`.

    The result has the promoted dtype of the inputs. States of float16 and bfloat16 inputs are
    carried in float32 and rounded as they are stored. Inputs that are not contiguous are copied.

    Args:
        a: decay, broadcastable to (batch, time, d): (d,), (time, d), (batch, 1, d),
            (batch, time, 1), … Two dimensions always mean (time, d). Real or complex.
        x: (batch, time, d), real or complex.
        initial: (batch, d), the state before the first step (after the last one when `reverse`).
        reverse: run from the last step to the first, ``h[t] = a[t] * h[t+1] + x[t]``.
        out: contiguous (batch, time, d) of the result's dtype to write into, where no gradient is
            recorded. A fresh large tensor costs more than the scan: the system clears its pages.
        backend: see `gonzo.core.backend`.

    Returns:
        (batch, time, d). The final state is ``y[:, -1]``, or ``y[:, 0]`` when `reverse`.

    Raises:
        ValueError: wrong shapes, length 0, tensors on several devices, unknown backend.
        TypeError: a dtype that is neither floating point nor complex, or a wrong dtype of `out`.

    Source:
        Martin, Cundy: Parallelizing Linear Recurrent Neural Nets Over Sequence Length (2018),
        equation 5. https://arxiv.org/abs/1709.04057
    """
    _check_shapes(a, x, initial)
    given = {"a": a, "x": x} if initial is None else {"a": a, "x": x, "initial": initial}
    dtype = x.dtype
    for name, tensor in given.items():
        if tensor.dtype not in _DTYPES:
            raise TypeError(
                f"linear_scan: expected {name} to be floating point or complex, "
                f"got {tensor.dtype}; use {name}.float()"
            )
        if tensor.device != x.device:
            raise ValueError(f"linear_scan: x is on {x.device}, but {name} on {tensor.device}")
        dtype = torch.promote_types(dtype, tensor.dtype)
    # Complex numbers cross the op's boundary as pairs of real ones, which compilers understand.
    pairs = dtype.is_complex
    a, x = _real(a, dtype), _real(x, dtype)
    initial = None if initial is None else _real(initial, dtype)
    if out is None:
        y = torch.ops.gonzo.linear_scan(a, x, initial, reverse, pairs, backend or "")
        return torch.view_as_complex(y) if pairs else y
    _check_out(out, (a, x, initial), x.shape[:3], dtype)
    torch.ops.gonzo.linear_scan_out(a, x, initial, reverse, pairs, backend or "", _real(out, dtype))
    return out


def _real(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.to(dtype)
    return torch.view_as_real(tensor.resolve_conj()) if dtype.is_complex else tensor


def _check_shapes(a: Tensor, x: Tensor, initial: Tensor | None) -> None:
    if x.ndim != 3:
        raise ValueError(f"linear_scan: expected x of shape (batch, time, d), got {tuple(x.shape)}")
    batch, time, d = x.shape
    if time == 0:
        raise ValueError("linear_scan: x has length 0, expected at least one step")
    sizes = zip(reversed(a.shape), reversed(x.shape), strict=False)
    if a.ndim > 3 or any(n not in (1, full) for n, full in sizes):
        hint = ""
        if a.shape == (batch, time):
            hint = "; did you mean a.unsqueeze(-1)?"
        elif a.shape == (batch, d):
            hint = "; did you mean a.unsqueeze(1)?"
        elif a.ndim and a.shape[-1] == time:
            hint = "; did you mean x.transpose(1, 2)?"
        raise ValueError(
            f"linear_scan: expected a broadcastable to x of shape {tuple(x.shape)}, "
            f"got {tuple(a.shape)}{hint}"
        )
    if initial is not None and initial.shape != (batch, d):
        raise ValueError(
            f"linear_scan: expected initial of shape (batch, d) = {(batch, d)}, "
            f"got {tuple(initial.shape)}"
        )


def _check_out(
    out: Tensor, inputs: tuple[Tensor | None, ...], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (*inputs, out)):
        raise ValueError(
            "linear_scan: out= cannot be used where a gradient is recorded; "
            "leave it out, or call inside torch.no_grad()"
        )
    if out.shape != shape or not out.is_contiguous():
        kind = "" if out.is_contiguous() else " that is not contiguous"
        raise ValueError(
            f"linear_scan: expected a contiguous out of shape {tuple(shape)}, "
            f"got {tuple(out.shape)}{kind}"
        )
    if out.dtype != dtype:
        raise TypeError(f"linear_scan: expected out of dtype {dtype}, got {out.dtype}")
