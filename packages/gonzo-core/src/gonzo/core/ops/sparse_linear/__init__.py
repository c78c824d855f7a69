"""A linear layer that stores and multiplies its alive weights alone: y = x (W ⊙ M)ᵀ + b."""

from __future__ import annotations

import torch
from torch import Tensor

from . import register  # noqa: F401  (registers the op)
from .packed import PackedLinear
from .pattern import (
    SparsePattern,
    TransposedPattern,
    check_values,
    pack_values,
    unpack_values,
)

__all__ = [
    "PackedLinear",
    "SparsePattern",
    "TransposedPattern",
    "pack_values",
    "sparse_linear",
    "unpack_values",
]

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def sparse_linear(
    x: Tensor,
    values: Tensor,
    pattern: SparsePattern,
    bias: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Multiply by a matrix of which only the alive weights are stored: y = x (W ⊙ M)ᵀ + b.

    Differentiable once in x, values and bias, so a sparse layer trains; memory and time of the
    gradients are those of the alive weights too. Sums run over ascending columns in an order that
    depends on the pattern and the sizes alone, not on the number of threads. The result has the
    promoted dtype of x, values and bias; float16 and bfloat16 are computed in float32 on a CPU, and
    summed in float32 anywhere.

    Args:
        x: (..., in). One whose memory is in the order (in, ...), such as the result of this
            function, is read where it is.
        values: (n_alive,) in row-major order, or (n, block, block) for a pattern of blocks;
            `pack_values` makes them.
        pattern: where they belong, see `SparsePattern.from_mask`.
        bias: (out,)
        backend: see `gonzo.core.backend`.

    Returns:
        (..., out). Its memory is in the order (out, ...): ``y.contiguous()`` where that matters.

    Raises:
        ValueError: wrong shapes, values of another pattern, several devices, unknown backend.
        TypeError: a dtype that is not real floating point.

    Source:
        Gale, Zaharia, Young, Elsen: Sparse GPU Kernels for Deep Learning (2020), where these three
        products are the ones that a sparse layer needs. https://arxiv.org/abs/2006.10901
    """
    n_out, n_in = pattern.shape
    if x.ndim == 0 or x.shape[-1] != n_in:
        hint = "; did you mean x.mT?" if x.ndim > 1 and x.shape[-2] == n_in else ""
        raise ValueError(
            f"sparse_linear: expected x of shape (..., {n_in}), got {tuple(x.shape)}{hint}"
        )
    check_values("sparse_linear", values, pattern)
    if bias is not None and bias.shape != (n_out,):
        raise ValueError(
            f"sparse_linear: expected a bias of shape ({n_out},), got {tuple(bias.shape)}"
        )
    dtype = x.dtype
    for name, tensor in (("x", x), ("values", values), ("bias", bias)):
        if tensor is None:
            continue
        if tensor.dtype not in _DTYPES:
            raise TypeError(
                f"sparse_linear: expected {name} to be real floating point, got {tensor.dtype}"
            )
        if tensor.device != pattern.device:
            raise ValueError(
                f"sparse_linear: {name} is on {tensor.device}, but the pattern on "
                f"{pattern.device}; use pattern.to({str(tensor.device)!r})"
            )
        dtype = torch.promote_types(dtype, tensor.dtype)
    flat = x.flatten(0, -2) if x.ndim > 1 else x[None]
    x_learns = torch.is_grad_enabled() and x.requires_grad
    transposed = pattern.transposed() if x_learns else (None, None, None)
    y = torch.ops.gonzo.sparse_linear(
        flat.to(dtype),
        values.to(dtype),
        None if bias is None else bias.to(dtype),
        pattern.first,
        pattern.columns,
        *transposed,
        backend or "",
    ).mT
    if x.ndim == 2:
        return y
    return y.unflatten(0, x.shape[:-1]) if x.ndim > 2 else y[0]
