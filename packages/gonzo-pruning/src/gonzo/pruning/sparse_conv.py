"""A convolution around a form of its matrix: same arguments, same result.

It is the product of its kernels (out, in · positions) with the columns of the image
under them, ``unfold``; kernels of one pixel need no columns but the image itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layer_forms import MatrixForm

__all__ = ["SparseConv", "can_unfold", "matrix_of", "rows_seen"]


class SparseConv(nn.Module):
    """A convolution over one or two dimensions; the result is contiguous.

    Args:
        product: (positions, in · kernel) -> (positions, out), as a linear layer.
        like: the convolution whose sizes to take.
    """

    def __init__(self, product: MatrixForm, like: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        self.product = product
        self.two_dimensions = isinstance(like, nn.Conv2d)
        assert not isinstance(like.padding, str)
        # A line is an image of one row.
        self.kernel = (1, *like.kernel_size)[-2:]
        self.dilation = (1, *like.dilation)[-2:]
        self.padding = (0, *like.padding)[-2:]
        self.stride = (1, *like.stride)[-2:]
        self.of_pixels = self.kernel == self.stride == (1, 1) and self.padding == (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out, ...) for x (N, in, ...), or both without N."""
        images = x if self.two_dimensions else x.unsqueeze(-2)
        batched = images.ndim == 4
        images = images if batched else images[None]
        n = len(images)
        size = tuple(
            (length + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for length, pad, dilation, kernel, stride in zip(
                images.shape[2:], self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        if self.of_pixels:
            columns = images.flatten(2)
        else:
            columns = F.unfold(images, self.kernel, self.dilation, self.padding, self.stride)
        columns = columns[0] if n == 1 else columns.transpose(0, 1).flatten(1)
        y = self.product.multiply(columns.mT).mT  # (out, N * positions)
        y = y.unflatten(1, (n, math.prod(size))).transpose(0, 1).unflatten(2, size)
        y = y if self.two_dimensions else y.squeeze(-2)
        return (y if batched else y[0]).contiguous()


def can_unfold(conv: nn.Module) -> bool:
    """Whether `SparseConv` covers a convolution."""
    return (
        isinstance(conv, nn.Conv1d | nn.Conv2d)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


def matrix_of(layer: nn.Module) -> Tensor:
    """Return the weights of a layer as a matrix (out, in · positions)."""
    assert isinstance(layer.weight, Tensor)
    return layer.weight.detach().flatten(1)


def rows_seen(layer: nn.Module, x: Tensor) -> int:
    """Return how many rows the matrix of `layer` is multiplied by for its input `x`."""
    if isinstance(layer, nn.Linear):
        return x.numel() // x.shape[-1]
    with torch.no_grad():
        y = layer(x)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return y.numel() // layer.out_channels
