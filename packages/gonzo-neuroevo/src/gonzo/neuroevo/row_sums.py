"""The sum of each row, the same to the last bit whatever other rows there are.

A library's reduction may add in another order when the number of rows or of threads differs. Here
halves are added to halves, ``v[:, :h] + v[:, h:]``, and each addition is one IEEE operation.
"""

from __future__ import annotations

import torch
from torch import Tensor


def row_sums(values: Tensor) -> Tensor:
    """Sum over the last dimension in a fixed order, by halving; the error grows like log n.

    Args:
        values: (…, n)

    Returns:
        (…)
    """
    width = values.shape[-1]
    if width == 0:
        return values.new_zeros(values.shape[:-1])
    size = 1 << (width - 1).bit_length()
    if size > width:
        values = torch.nn.functional.pad(values, (0, size - width))
    while size > 1:
        size //= 2
        values = values[..., :size] + values[..., size:]
    return values[..., 0]
