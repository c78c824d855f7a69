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
    _check_shapes("linear_scan", a.shape, x.shape, None if initial is None else initial.shape)
    given = {"a": a, "x": x} if initial is None else {"a": a, "x": x, "initial": initial}
    for name, tensor in given.items():
        if tensor.dtype not in _DTYPES:
            raise TypeError(
                f"linear_scan: expected {name} to be floating point or complex, "
                f"got {tensor.dtype}; use {name}.float()"
            )
    dtype = _common_dtype("linear_scan", given)
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


def linear_scan_pairs(
    a: Tensor,
    x: Tensor,
    initial: Tensor | None = None,
    *,
    reverse: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Run `linear_scan` on complex numbers that are stored as real pairs, (..., 2).

    The same recurrence and gradients without a complex tensor, for what torch.compile is to trace:
    it generates no complex code and ends a graph at a view between the two.

    Args:
        a: decay, real and imaginary parts; without its last axis, of 2, broadcastable to
            (batch, time, d) as in `linear_scan`. float32 or float64.
        x: (batch, time, d, 2).
        initial: (batch, d, 2), the state before the first step (after the last when `reverse`).
        reverse: run from the last step to the first.
        backend: see `gonzo.core.backend`.

    Returns:
        (batch, time, d, 2), of the promoted dtype of the inputs.

    Raises:
        ValueError: wrong shapes, length 0, tensors on several devices, unknown backend.
        TypeError: a dtype other than float32 and float64.
    """
    op = "linear_scan_pairs"
    given = {"a": a, "x": x} if initial is None else {"a": a, "x": x, "initial": initial}
    for name, tensor in given.items():
        if tensor.dtype not in (torch.float32, torch.float64):
            hint = f"torch.view_as_real({name})" if tensor.is_complex() else f"{name}.float()"
            raise TypeError(
                f"{op}: expected {name} in float32 or float64, got {tensor.dtype}; use {hint}"
            )
        if tensor.ndim == 0 or tensor.shape[-1] != 2:
            raise ValueError(
                f"{op}: expected {name} to end in an axis of 2, the real and imaginary parts, "
                f"got shape {tuple(tensor.shape)}"
            )
    start = None if initial is None else initial.shape[:-1]
    _check_shapes(op, a.shape[:-1], x.shape[:-1], start, pairs=True)
    dtype = _common_dtype(op, given)
    initial = None if initial is None else initial.to(dtype)
    return torch.ops.gonzo.linear_scan(
        a.to(dtype), x.to(dtype), initial, reverse, True, backend or ""
    )


def _real(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.to(dtype)
    return torch.view_as_real(tensor.resolve_conj()) if dtype.is_complex else tensor


def _common_dtype(op: str, given: dict[str, Tensor]) -> torch.dtype:
    x = given["x"]
    dtype = x.dtype
    for name, tensor in given.items():
        if tensor.device != x.device:
            raise ValueError(f"{op}: x is on {x.device}, but {name} on {tensor.device}")
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _check_shapes(
    op: str,
    a: tuple[int, ...],
    x: tuple[int, ...],
    initial: tuple[int, ...] | None,
    *,
    pairs: bool = False,
) -> None:
    """Check shapes, those of pairs without their last axis, which messages add."""
    end = (2,) if pairs else ()
    axes = ", 2" if pairs else ""
    if len(x) != 3:
        raise ValueError(f"{op}: expected x of shape (batch, time, d{axes}), got {(*x, *end)}")
    batch, time, d = x
    if time == 0:
        raise ValueError(f"{op}: x has length 0, expected at least one step")
    sizes = zip(reversed(a), reversed(x), strict=False)
    if len(a) > 3 or any(n not in (1, full) for n, full in sizes):
        hint = ""
        if a == (batch, time):
            hint = f"; did you mean a.unsqueeze({-2 if pairs else -1})?"
        elif a == (batch, d):
            hint = "; did you mean a.unsqueeze(1)?"
        elif a and a[-1] == time:
            hint = "; did you mean x.transpose(1, 2)?"
        raise ValueError(
            f"{op}: expected a broadcastable to x of shape {(*x, *end)}, got {(*a, *end)}{hint}"
        )
    if initial is not None and initial != (batch, d):
        raise ValueError(
            f"{op}: expected initial of shape (batch, d{axes}) = {(batch, d, *end)}, "
            f"got {(*initial, *end)}"
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
