"""P and Q of rank r: Woodbury by elimination, over sums that a backend forms four at a time.

At a node the sums are the matrix

    S = [[k_CB, k_CP], [k_QB, 1 + k_QP]]        (1+r, 1+r)

and eliminating its last r rows and columns leaves k_CB - k_CP (1 + k_QP)^-1 k_QB in the corner.
With z = [1, -k_CP (1 + k_QP)^-1] and y = [1, -(1 + k_QP)^-1 k_QB], the gradient of S is
dS_ij = top conj(z_i y_j), where top = dK̂ conj(2/(1+ζ)).

No rows are exchanged. Where P = Q, Re λ < 0 < Re g gives 1 + k_QP a Hermitian part of at least 1,
which its Schur complements inherit, so that no pivot is smaller than 1.

To a backend, each group of four sums is a head of its own with the same w; (1+r)² sums are padded
with sums of zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .circle import Circle, to_kernel, to_spectrum_gradient


def stacked(cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor) -> Tensor:
    """The numerators of S in float64, (heads, groups, 4, n, 2)."""
    first_row = torch.cat([cb.unsqueeze(1), cp], 1)
    others = torch.cat([qb.unsqueeze(2), qp], 2)
    v = torch.cat([first_row.unsqueeze(1), others], 1).flatten(1, 2).double()
    return F.pad(v, (0, 0, 0, 0, 0, -v.shape[1] % 4)).unflatten(1, (-1, 4))


def unstacked(v: Tensor, rank: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Undo `stacked`, for gradients: four contiguous tensors that share no memory."""
    v = _matrix(v.flatten(1, 2), rank)
    parts = (v[:, 0, 0], v[:, 0, 1:], v[:, 1:, 0], v[:, 1:, 1:])
    return tuple(t.to(dtype).clone(memory_format=torch.contiguous_format) for t in parts)


def kernel(sums: Tensor, rank: int, on: Circle, dtype: torch.dtype) -> Tensor:
    """Kernel of some heads, from their sums (heads, 4 · groups, nodes), which are overwritten."""
    s = _eliminated(sums, rank)
    return to_kernel(on.scale * s[:, 0, 0], on, dtype)


def gradient(grad: Tensor, sums: Tensor, rank: int, on: Circle) -> Tensor:
    """Replace the sums of some heads by their gradients, given that of the kernel."""
    s = _eliminated(sums, rank)
    top = to_spectrum_gradient(grad, on) * on.scale.conj_physical()
    z, y = [torch.ones_like(top)], [torch.ones_like(top)]
    for k in range(1, 1 + rank):
        z.append(-sum(z[i] * s[:, i, k] for i in range(k)) * s[:, k, k])
        y.append(-sum(s[:, k, j] * y[j] for j in range(k)) * s[:, k, k])
    for i in range(1 + rank):
        row = top * z[i].conj_physical()
        for j in range(1 + rank):
            s[:, i, j] = row * y[j].conj_physical()
    return sums


def _eliminated(sums: Tensor, rank: int) -> Tensor:
    """S in place of the sums, (heads, 1+r, 1+r, nodes), after elimination from the last row up.

    Row and column k are left as they were when k was eliminated, and the pivot is inverted.
    """
    s = _matrix(sums, rank)
    for k in range(rank, 0, -1):
        s[:, k, k].add_(1).reciprocal_()
        for i in range(k):
            factor = s[:, i, k] * s[:, k, k]
            for j in range(k):
                s[:, i, j].addcmul_(factor, s[:, k, j], value=-1)
    return s


def _matrix(rows: Tensor, rank: int) -> Tensor:
    """(heads, 4 · groups, …) to (heads, 1+r, 1+r, …), without the padding."""
    return rows[:, : (1 + rank) ** 2].unflatten(1, (1 + rank, 1 + rank))
