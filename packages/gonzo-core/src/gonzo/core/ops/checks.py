"""Input checks that the kernel-generating ops share."""

from __future__ import annotations

import torch
from torch import Tensor


def check_pairs(op: str, **tensors: Tensor) -> None:
    """Check that all tensors are (heads, n, 2) real pairs of one shape and dtype, on one device."""
    (first_name, first), *_ = tensors.items()
    for name, tensor in tensors.items():
        if tensor.ndim != 3 or tensor.shape[-1] != 2:
            raise ValueError(
                f"{op}: expected {name} of shape (heads, n, 2), got {shape_of_pairs(tensor)}"
            )
        check_precision(op, name, tensor)
        if tensor.shape != first.shape:
            raise ValueError(
                f"{op}: {first_name} and {name} must have one shape, "
                f"got {tuple(first.shape)} and {tuple(tensor.shape)}"
            )
        check_alike(op, first_name, first, name, tensor)


def shape_of_pairs(tensor: Tensor) -> str:
    """The shape of what should be real pairs, for a message; with the way out where it is not."""
    hint = "; did you mean torch.view_as_real(...)?" if tensor.is_complex() else ""
    return f"{tuple(tensor.shape)}{hint}"


def check_precision(op: str, name: str, tensor: Tensor) -> None:
    """Check that a parameter of a kernel is in float32 or float64."""
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{op}: expected {name} in float32 or float64, got {tensor.dtype}; "
            f"kernels are always computed in full precision, use {name}.double()"
        )


def check_alike(op: str, first_name: str, first: Tensor, name: str, tensor: Tensor) -> None:
    """Check that two tensors share dtype and device."""
    if tensor.dtype != first.dtype or tensor.device != first.device:
        raise TypeError(
            f"{op}: {first_name} and {name} must share dtype and device, got {first.dtype} on "
            f"{first.device} and {tensor.dtype} on {tensor.device}"
        )


def check_length(op: str, length: int) -> None:
    """Check that a kernel or sequence has at least one step."""
    if length < 1:
        raise ValueError(f"{op}: expected a length of at least 1, got {length}")


def check_output_dtype(op: str, dtype: torch.dtype) -> None:
    """Check that a kernel is asked for in a precision it can have."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{op}: expected dtype torch.float32 or torch.float64, got {dtype}; "
            "cast the result instead"
        )


def check_finite(op: str, **tensors: Tensor) -> None:
    """Check values, where reading them does not wait for a device: in backends for the CPU."""
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        verb = "holds" if len(bad) == 1 else "hold"
        raise ValueError(
            f"{op}: {', '.join(bad)} {verb} NaN or infinite values; a parameter of the layer has "
            "diverged: lower its learning rate (gonzo.core.param_groups knows the layer's own) or "
            "clip gradients"
        )
