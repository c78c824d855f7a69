"""The S4D kernel: K_l = 2 Re Σ_n c_n z_n^l, a Vandermonde product in O(H·L) memory."""

from __future__ import annotations

import torch
from torch import Tensor

from gonzo.core.ops.checks import check_length, check_output_dtype, check_pairs

from . import register  # noqa: F401  (registers the op)


def vandermonde(
    c: Tensor,
    z: Tensor,
    length: int,
    *,
    dtype: torch.dtype = torch.float32,
    backend: str | None = None,
) -> Tensor:
    """Evaluate ``K[h, l] = 2 Re Σ_n c[h, n] z[h, n]**l`` for ``0 <= l < length``.

    This is the convolution kernel of a diagonal state space model with ``z = Ā`` and ``c = C B̄``,
    of which one of each conjugate pair is stored. Nothing of size (heads, n, length) is formed,
    forward or backward. Powers are taken in float64 whatever the dtype of `z`, but they cannot
    repair a `z` that was rounded: form it in float64 (a float32 Ā loses three digits at length
    16384).

    Args:
        c: (heads, n, 2) real and imaginary parts, float32 or float64.
        z: (heads, n, 2) of the same dtype.
        length: number of kernel taps, at least 1.
        dtype: of the result, float32 or float64. The sums run in this precision.
        backend: see `gonzo.core.backend`.

    Returns:
        (heads, length)

    Raises:
        ValueError: wrong shapes or length.
        TypeError: wrong dtypes.

    Source:
        Gu, Gupta, Goel, Ré: On the Parameterization and Initialization of Diagonal State Space
        Models (2022), section 3.2. https://arxiv.org/abs/2206.11893
    """
    check_pairs("vandermonde", c=c, z=z)
    check_length("vandermonde", length)
    check_output_dtype("vandermonde", dtype)
    return torch.ops.gonzo.vandermonde(c, z, length, dtype, backend or "")
