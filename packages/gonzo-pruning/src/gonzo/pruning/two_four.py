"""Two weights of every four alive, which the matrix units of recent NVIDIA GPUs skip the others of.

Not tested: no test machine of this project has such a GPU. It is offered only where one is, and is
checked against the dense layer before it is used, like every other form.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fits_two_four", "has_two_of_four", "two_four_values"]

_DTYPES = (torch.float16, torch.bfloat16)


def two_four_values(weight: Tensor) -> Tensor:
    """Return a weight (out, in) in torch's format for such matrices; see `fits_two_four`."""
    return torch.sparse.to_sparse_semi_structured(weight.detach())


def fits_two_four(weight: Tensor) -> bool:
    """Whether device, dtype, sizes and mask of a weight (out, in) allow the form."""
    if weight.device.type != "cuda" or weight.dtype not in _DTYPES:
        return False
    if torch.cuda.get_device_capability(weight.device) < (8, 0):
        return False
    return weight.shape[0] % 32 == 0 and weight.shape[1] % 64 == 0 and has_two_of_four(weight)


def has_two_of_four(weight: Tensor) -> bool:
    """Whether at most two weights are alive of each four neighbours in a row of (out, in)."""
    if weight.shape[1] % 4:
        return False
    return bool(((weight != 0).unflatten(1, (-1, 4)).sum(2) <= 2).all())
