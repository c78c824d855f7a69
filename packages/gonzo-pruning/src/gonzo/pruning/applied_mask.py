"""One mask, ready to be applied in place again and again."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["AppliedMask"]


class AppliedMask:
    """A mask that follows the tensors it is applied to, to their device, dtype and memory order.

    Args:
        alive: bool, True where a weight stays.
        like: A tensor of the same shape, laid out as those to mask will be.
    """

    def __init__(self, alive: Tensor, like: Tensor) -> None:
        self._place(~alive, like)

    def mask_(self, tensor: Tensor) -> None:
        """Set the pruned elements of ``tensor``, which needs no gradient, to 0.0 in place.

        Whatever they were, NaN included, they are zero to the bit.
        """
        if tensor.dtype is not self._dtype or tensor.device != self._device:
            self._place(self._pruned, tensor)
        # Dense in the mask's order, whatever the strides of dimensions of one element.
        if self._clear is not None and (
            (self._contiguous and tensor.is_contiguous()) or tensor.stride() == self._strides
        ):
            self._clear(0, self._count, tensor.data_ptr(), self._address, self._width)
        else:
            tensor.masked_fill_(self._pruned, 0)

    def mask_gradient(self, parameter: Tensor) -> None:
        """Mask the gradient of ``parameter``: what `mask_` does, in fewer calls for most.

        This runs for every parameter in every step, each time with caches that are full of other
        things: half of what it costs would be Python.

        Raises:
            ValueError: The gradient is sparse.
        """
        gradient = parameter.grad
        assert gradient is not None, "the hook runs once a gradient is there"
        if gradient.is_sparse:
            raise ValueError(
                "expected a dense gradient of a pruned weight, got a sparse one; build the layer "
                "with sparse=False"
            )
        if (
            self._clear is not None
            and self._contiguous
            and gradient.is_cpu
            and gradient.dtype is self._dtype
            and gradient.is_contiguous()
        ):
            self._clear(0, self._count, gradient.data_ptr(), self._address, self._width)
        else:
            self.mask_(gradient.detach())

    def any_pruned(self, tensor: Tensor) -> bool:
        """Return whether a pruned element of ``tensor`` is anything but zero."""
        return bool(((tensor != 0) & self._pruned.to(tensor.device)).any())

    def _place(self, pruned: Tensor, like: Tensor) -> None:
        # empty_like is dense, in the order of like's memory.
        self._pruned = torch.empty_like(like, dtype=torch.bool, requires_grad=False).copy_(pruned)
        self._dtype, self._device, self._width = like.dtype, like.device, like.itemsize
        self._contiguous, self._strides = self._pruned.is_contiguous(), self._pruned.stride()
        self._address, self._count = self._pruned.data_ptr(), self._pruned.numel()
        self._clear = None
        if like.is_cpu:
            # Imported here, because it takes Numba along. masked_fill_ takes 25 times as long.
            from .mask_kernels import clearing

            self._clear = clearing(self._count, self._width)
