"""A convolution that adds up shifted images, one for each weight that is alive."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core.numba_kernels import run_rows

__all__ = ["DirectConv", "can_shift"]

_DTYPES = (torch.float32, torch.float64)


class DirectConv(nn.Module):
    """A convolution of stride 1 over one or two dimensions, on a CPU; the result is contiguous.

    Args:
        like: the convolution, see `can_shift`.
    """

    first: Tensor
    at: Tensor
    values: Tensor
    bias: Tensor

    def __init__(self, like: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        self.two_dimensions = isinstance(like, nn.Conv2d)
        assert not isinstance(like.padding, str)
        # A line is an image of one row.
        self.dilation = (1, *like.dilation)[-2:]
        self.padding = (0, *like.padding)[-2:]
        self.kernel = (1, *like.kernel_size)[-2:]
        self.in_channels, self.out_channels = like.in_channels, like.out_channels
        weight = like.weight.detach().reshape(like.out_channels, like.in_channels, *self.kernel)
        alive = weight != 0
        first = torch.zeros(like.out_channels + 1, dtype=torch.int64)
        torch.cumsum(alive.flatten(1).sum(1), 0, out=first[1:])
        self.register_buffer("first", first)
        # Channel, row and column of each weight that is left, in the order of the values.
        self.register_buffer("at", alive.nonzero()[:, 1:].T.contiguous().to(torch.int16))
        self.register_buffer("values", weight[alive])
        bias = weight.new_zeros(like.out_channels) if like.bias is None else like.bias.detach()
        self.register_buffer("bias", bias.clone())
        self._offsets: tuple[tuple[int, int], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out, ...) for x (N, in, ...), or both without N."""
        from .convolution_kernels import convolve_rows

        images = x if self.two_dimensions else x.unsqueeze(-2)
        images = images if images.ndim == 4 else images[None]
        high, wide = self.padding
        if images.shape[1] != self.in_channels or images.dtype is not self.values.dtype:
            raise ValueError(
                f"expected images of {self.in_channels} channels in {self.values.dtype}, got shape "
                f"{tuple(x.shape)} in {x.dtype}"
            )
        images = F.pad(images, (wide, wide, high, high)).contiguous()
        n, _, height, width = images.shape
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True)]
        y = images.new_empty(n, self.out_channels, height - reach[0], width - reach[1])
        run_rows(
            n * self.out_channels,
            convolve_rows,
            self.first.numpy(),
            self._shifts(height, width).numpy(),
            self.values.numpy(),
            self.bias.numpy(),
            images.detach().view(-1).numpy(),
            images[0].numel() if n else 0,
            width,
            y.view(-1).numpy(),
            *y.shape[2:],
        )
        y = y if self.two_dimensions else y.squeeze(-2)
        return y if x.ndim == (4 if self.two_dimensions else 3) else y[0]

    def _shifts(self, height: int, width: int) -> Tensor:
        """Where the piece of each weight begins, (n,) int64; kept for images of the same size."""
        known = self._offsets  # one look, since another thread may put those of another size there
        if known is None or known[0] != (height, width):
            channel, row, column = self.at.long()
            shifts = channel * height * width
            shifts += row * self.dilation[0] * width + column * self.dilation[1]
            known = self._offsets = (height, width), shifts
        return known[1]


def can_shift(conv: nn.Module) -> bool:
    """Whether `DirectConv` covers a convolution."""
    return (
        isinstance(conv, nn.Conv1d | nn.Conv2d)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and all(step == 1 for step in conv.stride)
        and conv.weight.device.type == "cpu"
        and conv.weight.dtype in _DTYPES
        and conv.in_channels < 1 << 15
    )
