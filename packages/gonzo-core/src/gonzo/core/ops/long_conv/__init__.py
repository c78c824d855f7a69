"""Depthwise convolution along time with a kernel as long as the sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from . import register  # noqa: F401  (registers the op)

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def long_conv(
    u: Tensor, k: Tensor, k_rev: Tensor | None = None, *, backend: str | None = None
) -> Tensor:
    """Convolve each channel with its own kernel, and optionally look ahead with a second one.

    ``y[b, d, t] = Σ_{s>=0} k[d, s] u[b, d, t-s]  +  Σ_{s>=1} k_rev[d, s-1] u[b, d, t+s]``

    with `u` zero outside the sequence. The two kernels share no lag: ``k[:, 0]`` alone weighs the
    present, and ``k_rev[:, 0]`` is lag −1, the next step. Kernels may be shorter or longer than the
    sequence; taps that reach nothing have gradient zero. Differentiable once in all three.

    The result has the promoted dtype of the inputs; sums and transforms of float16 and bfloat16 run
    in float32, under autocast too. Long kernels go through an FFT, so a NaN or infinity anywhere in
    a sequence spoils all steps of that channel.

    Args:
        u: (batch, d, time), channels first. A transposed view of (batch, time, d) will do: it is
            read in place, and no faster if made contiguous first.
        k: (d, taps), causal kernel.
        k_rev: (d, taps), kernel of the future; its number of taps may differ.
        backend: see `gonzo.core.backend`.

    Returns:
        (batch, d, time), in the memory order of `u`.

    Raises:
        ValueError: wrong shapes, length 0, a kernel without taps, several devices, unknown backend.
        TypeError: a dtype that is not real floating point.

    Source:
        Gu, Goel, Ré: Efficiently Modeling Long Sequences with Structured State Spaces (2021),
        section 2.3, equation 5. https://arxiv.org/abs/2111.00396
    """
    if u.ndim != 3:
        raise ValueError(f"long_conv: expected u of shape (batch, d, time), got {tuple(u.shape)}")
    _, d, time = u.shape
    if time == 0:
        raise ValueError("long_conv: u has length 0, expected at least one step")
    kernels = {"k": k} if k_rev is None else {"k": k, "k_rev": k_rev}
    for name, kernel in kernels.items():
        if kernel.ndim != 2 or kernel.shape[0] != d or kernel.shape[1] == 0:
            hint = ""
            if kernel.ndim == 2 and kernel.shape[0] == time:
                hint = "; did you mean u.transpose(1, 2)?"
            raise ValueError(
                f"long_conv: expected {name} of shape (d, taps) with d = {d} channels as in u of "
                f"shape {tuple(u.shape)} and at least one tap, got {tuple(kernel.shape)}{hint}"
            )
    dtype = u.dtype
    for name, tensor in {"u": u, **kernels}.items():
        if tensor.dtype not in _DTYPES:
            raise TypeError(
                f"long_conv: expected {name} to be real floating point, got {tensor.dtype}"
            )
        if tensor.device != u.device:
            raise ValueError(f"long_conv: u is on {u.device}, but {name} on {tensor.device}")
        dtype = torch.promote_types(dtype, tensor.dtype)
    # One row of taps from the furthest future to the furthest past; those out of reach are cut off.
    taps, ahead = k[:, :time].to(dtype), 0
    if k_rev is not None:
        future = k_rev[:, : time - 1].to(dtype)
        taps, ahead = torch.cat([future.flip(1), taps], dim=1), future.shape[1]
    return torch.ops.gonzo.long_conv(u.to(dtype), taps, ahead, backend or "")
