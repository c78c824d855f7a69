"""The same product for inference on a CPU, with everything looked up beforehand."""

from __future__ import annotations

import torch
from torch import Tensor

from gonzo.core.backends import implementation

from .pattern import SparsePattern, check_values


class PackedLinear:
    """``y = x (W ⊙ M)ᵀ + b`` without gradients: `sparse_linear` at the lowest cost of a call.

    An op of torch goes through hundreds of KiB of code and data that are not in the cache any more
    when a model comes round to the next layer; at batch 1 that takes longer than a sparse product.
    This goes straight to the loops, with the same results bit for bit. Values and bias that are
    contiguous are not copied: a change of them in place is seen. It cannot be compiled by torch.

    Args:
        values: of the pattern, float32 or float64, on the CPU.
        pattern: where they belong.
        bias: (out,) of the same dtype.

    Raises:
        ValueError: values or a bias that do not fit the pattern, or not on the CPU.
        TypeError: another dtype.
    """

    def __init__(self, values: Tensor, pattern: SparsePattern, bias: Tensor | None = None) -> None:
        check_values("PackedLinear", values, pattern)
        if values.device.type != "cpu":
            raise ValueError(
                f"PackedLinear: expected values on the CPU, got {values.device}; use sparse_linear"
            )
        if values.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"PackedLinear: expected values in float32 or float64, got {values.dtype}; "
                "use values.float()"
            )
        if bias is not None and (
            bias.shape != (pattern.shape[0],)
            or bias.dtype != values.dtype
            or bias.device != values.device
        ):
            raise ValueError(
                f"PackedLinear: expected a bias of shape ({pattern.shape[0]},) in {values.dtype} "
                f"on the CPU, got {tuple(bias.shape)} in {bias.dtype} on {bias.device}"
            )
        cpu = implementation("sparse_linear", "cpu", values.device)
        self.pattern = pattern
        self._multiply, self._multiply_one = cpu.multiply, cpu.multiply_one
        self.dtype = values.dtype
        self._matrix = cpu.matrix(values, bias, pattern.first, pattern.columns)
        self._edge = pattern.block
        self._n_out, self._n_in = pattern.shape

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply.

        Args:
            x: (..., in), of the dtype of the values, on the CPU; its gradient is not followed.

        Returns:
            (..., out), in memory as `sparse_linear` leaves it.

        Raises:
            ValueError: another shape or device.
            TypeError: another dtype.
        """
        shape = x.shape
        if not shape or shape[-1] != self._n_in or x.dtype is not self.dtype or not x.is_cpu:
            self._explain(x)
        if self._edge == 1 and x.numel() == self._n_in > 0 and x.is_contiguous():
            y = torch.empty(*shape[:-1], self._n_out, dtype=self.dtype)
            self._multiply_one(self._matrix, x, y)
            return y
        if len(shape) == 2:
            return self._multiply(self._matrix, self._edge, x).mT
        x = x.flatten(0, -2) if shape[1:] else x[None]
        y = self._multiply(self._matrix, self._edge, x).mT
        return y.unflatten(0, shape[:-1]) if shape[1:] else y[0]

    def _explain(self, x: Tensor) -> None:
        if not x.ndim or x.shape[-1] != self._n_in:
            raise ValueError(
                f"PackedLinear: expected x of shape (..., {self._n_in}), got {tuple(x.shape)}"
            )
        if x.dtype != self.dtype:
            raise TypeError(f"PackedLinear: expected x in {self.dtype}, got {x.dtype}")
        raise ValueError(f"PackedLinear: expected x on the CPU, got {x.device}")

    def __repr__(self) -> str:
        return f"PackedLinear({self.pattern})"
