"""Cauchy sums on a GPU, a block of heads at a time: modes, sums at nodes, FFT, and back.

The kernels and their formulas are in `triton_sums`. With P and Q of rank one, Woodbury is part of
the kernel that sums. With a higher rank the sums are written to memory, of fewer heads at a time,
and `low_rank` goes on in torch; the kernels see each group of four sums as a head of its own.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from gonzo.core.triton_kernels import launch

from . import low_rank
from .circle import Circle, circle, to_kernel, to_spectrum_gradient
from .triton_sums import WORDS, at_nodes, combine, prepare, sum_over_nodes, sums_at_nodes

# Spectra of one block of heads: nodes enough to fill an H100 several times, and few enough that G,
# four times as large, stays in its second-level cache until it is read.
_SPECTRUM_BYTES = 1 << 23
_SPAN = 1024  # nodes of one program that sums over them, about: its last step is a reduction


def forward(
    cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor, w: Tensor, length: int, dtype: torch.dtype
) -> Tensor:
    """See `gonzo.core.ops.cauchy`."""
    if not w.numel():
        return w.new_zeros(w.shape[0], length, dtype=dtype)
    on = circle(length, dtype, w.device)
    out = w.new_empty(w.shape[0], length, dtype=dtype)
    if cp.ndim == 4:
        modes = _as_heads(low_rank.stacked(cb, cp, qb, qp), w)
        for block in _blocks(w.shape[0], on, modes.shape[1]):
            sums = _sums_of(modes[block], on)
            out[block] = low_rank.kernel(sums, cp.shape[1], on, dtype)
        return out
    modes = _prepared(cb, cp, qb, qp, w)
    for block in _blocks(w.shape[0], on):
        spectrum = modes.new_empty(block.stop - block.start, len(on.g), 2)
        _launch_nodes(modes[block], on, spectrum, spectrum, backward=False)
        out[block] = to_kernel(torch.view_as_complex(spectrum), on, dtype)
    return out


def backward(
    grad: Tensor, cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor, w: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of the five inputs, recomputing the sums."""
    if cp.ndim == 4 and w.numel():
        return _low_rank_backward(grad, cb, cp, qb, qp, w)
    grads = tuple(
        torch.empty_like(t, memory_format=torch.contiguous_format) for t in (cb, cp, qb, qp, w)
    )
    heads, n, _ = w.shape
    if not w.numel():
        return grads
    on = circle(grad.shape[1], grad.dtype, w.device)
    modes = _prepared(cb, cp, qb, qp, w)
    sums = modes.new_empty(heads, _spans(on), 4, 4, n)
    for block in _blocks(heads, on):
        _sum_gradients(grad[block], modes[block], on, sums[block])
    _combine_into(grads, modes, sums)
    return grads


def _sum_gradients(grad: Tensor, modes: Tensor, on: Circle, sums: Tensor) -> None:
    """Fill `sums` of a block of heads; what it needs between kernels is freed with it."""
    spectrum = torch.view_as_real(to_spectrum_gradient(grad, on))
    of_sums = modes.new_empty(len(modes), 4, 2, len(on.g))
    _launch_nodes(modes, on, spectrum, of_sums, backward=True)
    _launch_spans(modes, on, of_sums, sums)


def _low_rank_backward(
    grad: Tensor, cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor, w: Tensor
) -> tuple[Tensor, ...]:
    on = circle(grad.shape[1], grad.dtype, w.device)
    modes = _as_heads(low_rank.stacked(cb, cp, qb, qp), w)
    heads, groups, n, _ = modes.shape
    sums = modes.new_empty(heads, groups, _spans(on), 4, 4, n)
    for block in _blocks(heads, on, groups):
        of_sums = low_rank.gradient(grad[block], _sums_of(modes[block], on), cp.shape[1], on)
        of_sums = torch.view_as_real(of_sums).unflatten(1, (groups, 4)).flatten(0, 1)
        of_sums = of_sums.transpose(-1, -2).contiguous()
        _launch_spans(modes[block].flatten(0, 1), on, of_sums, sums[block].flatten(0, 1))
    grads = modes.new_empty(5, heads, groups, n, 2)
    _combine_into(grads.unbind(), modes.flatten(0, 1), sums.flatten(0, 1))
    dv = low_rank.unstacked(grads[:4].permute(1, 2, 0, 3, 4), cp.shape[1], w.dtype)
    return *dv, grads[4].sum(1).to(w.dtype)


def _as_heads(v: Tensor, w: Tensor) -> Tensor:
    """(H, groups, N, WORDS): a group of four sums is a head of its own."""
    groups = v.shape[1]
    w = w.double().repeat_interleave(groups, 0)
    return _prepared(*v.flatten(0, 1).unbind(1), w).unflatten(0, (-1, groups))


def _sums_of(modes: Tensor, on: Circle) -> Tensor:
    """Sums of some heads, (heads, 4 · groups, nodes) complex."""
    (heads, groups, n, _), nodes = modes.shape, len(on.g)
    sums = modes.new_empty(heads, 4 * groups, nodes, 2)
    launch(
        sums_at_nodes,
        lambda k: (heads * groups * triton.cdiv(nodes, k["NODES"]),),
        *(modes, torch.view_as_real(on.g), sums, n, nodes, nodes.bit_length()),
    )
    return torch.view_as_complex(sums)


def _spans(on: Circle) -> int:
    return max(1, round(len(on.g) / _SPAN))


def _launch_spans(modes: Tensor, on: Circle, of_sums: Tensor, sums: Tensor) -> None:
    (heads, spans, *_, n), nodes = sums.shape, len(on.g)
    launch(
        sum_over_nodes,
        lambda k: (heads * spans * triton.cdiv(n, k["MODES"]),),
        *(modes, torch.view_as_real(on.g), of_sums, sums, n, nodes, spans),
        *(32 * triton.cdiv(nodes, 32 * spans), nodes.bit_length()),
    )


def _combine_into(grads: tuple[Tensor, ...], modes: Tensor, sums: Tensor) -> None:
    """Add the spans, to gradients of the four numerators and of w."""
    heads, spans, *_, n = sums.shape
    grid = (triton.cdiv(heads * n, 32),)
    launch(combine, grid, modes, sums, *grads, heads * n, n, spans, SIZE=32, num_warps=1)


def _prepared(*pairs: Tensor) -> Tensor:
    """(H, N, WORDS): converted once, not by every program that reads them."""
    heads, n, _ = pairs[0].shape
    modes = pairs[0].new_empty(heads, n, WORDS.value, dtype=torch.float64)
    grid = (triton.cdiv(heads * n, 128),)
    launch(prepare, grid, *(t.contiguous() for t in pairs), modes, heads * n, SIZE=128)
    return modes


def _blocks(heads: int, on: Circle, groups: int = 1) -> list[slice]:
    step = max(1, _SPECTRUM_BYTES // (16 * len(on.g) * groups))
    return [slice(start, min(start + step, heads)) for start in range(0, heads, step)]


def _launch_nodes(
    modes: Tensor, on: Circle, spectrum: Tensor, out: Tensor, *, backward: bool
) -> None:
    nodes = len(on.g)
    launch(
        at_nodes,
        lambda k: (len(modes) * triton.cdiv(nodes, k["NODES"]),),
        *(modes, torch.view_as_real(on.g), torch.view_as_real(on.scale), spectrum, out),
        *(modes.shape[1], nodes, nodes.bit_length()),
        BACKWARD=backward,
    )
