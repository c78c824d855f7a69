"""One pass over the product of the vocabularies in blocks that stay in cache.

Each block is a matrix product of torch; loops take from it what every row and column needs, and it
is overwritten by the next one. See `cpu_nearest` for the selection and `cpu_scores` for the scores.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .cpu_nearest import Nearest
from .cpu_scores import best_scores
from .unit import unit_rows

_BLOCK = (512, 2048)
_CANDIDATES = 64


def cosine_topk(
    source: Tensor, target: Tensor, k: int, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.csls_topk`."""
    source, target = unit_rows(source if rows is None else source[rows]), unit_rows(target)
    nearest = _nearest(len(source), k, 1, None, len(target), source)
    for block, row, column in _products(source, target):
        nearest.see_rows(block.numpy(), row, column)
    nearest.finish(1)
    at = torch.from_numpy(nearest.first)[:, None] + torch.arange(k)
    return torch.from_numpy(nearest.values)[at], torch.from_numpy(nearest.indices)[at].long()


def csls_topk(
    source: Tensor, target: Tensor, k: int, neighbours: int, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.csls_topk`."""
    source, target = unit_rows(source), unit_rows(target)
    asked = _rows(rows, len(source))
    forth = _nearest(len(source), _candidates(k), neighbours, asked, len(target), source)
    back = _nearest(len(target), neighbours, neighbours, None, len(source), source)
    for block, row, column in _products(source, target):
        forth.see_rows(block.numpy(), row, column)
        back.see_columns(block.numpy(), row, column)
    own, bias = forth.finish(neighbours), back.finish(neighbours)
    return best_scores(forth, asked, k, 2.0, bias, own, source, target, _BLOCK)


def csls_topk_both(
    source: Tensor,
    target: Tensor,
    k: int,
    neighbours: int,
    source_rows: Tensor | None,
    target_rows: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `gonzo.core.ops.csls_topk`."""
    source, target = unit_rows(source), unit_rows(target)
    asked, asked_back = _rows(source_rows, len(source)), _rows(target_rows, len(target))
    forth = _nearest(len(source), _candidates(k), neighbours, asked, len(target), source)
    back = _nearest(len(target), _candidates(k), neighbours, asked_back, len(source), source)
    for block, row, column in _products(source, target):
        forth.see_rows(block.numpy(), row, column)
        back.see_columns(block.numpy(), row, column)
    own, bias = forth.finish(neighbours), back.finish(neighbours)
    there = best_scores(forth, asked, k, 2.0, bias, own, source, target, _BLOCK)
    return *there, *best_scores(back, asked_back, k, 2.0, own, bias, target, source, _BLOCK)


def inverted_softmax_topk(
    source: Tensor, target: Tensor, k: int, temperature: float, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.csls_topk`."""
    source, target = unit_rows(source), unit_rows(target)
    asked = _rows(rows, len(source))
    nearest = _nearest(len(source), _candidates(k), 1, asked, len(target), source)
    largest = torch.full((len(target),), -float("inf"), dtype=source.dtype)
    total = torch.zeros(len(target), dtype=torch.float64)
    for block, row, column in _products(source, target):
        nearest.see_rows(block.numpy(), row, column)
        _add_exponentials(block, temperature, largest[column:], total[column:])
    bias = (temperature * largest.double() + total.log()).to(source.dtype).numpy()
    nearest.finish(1)
    none = np.zeros(len(source), bias.dtype)
    return best_scores(nearest, asked, k, temperature, bias, none, source, target, _BLOCK)


def neighbourhood_means(source: Tensor, target: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.csls_topk`."""
    source, target = unit_rows(source), unit_rows(target)
    forth = _nearest(len(source), neighbours, neighbours, None, len(target), source)
    back = _nearest(len(target), neighbours, neighbours, None, len(source), source)
    for block, row, column in _products(source, target):
        forth.see_rows(block.numpy(), row, column)
        back.see_columns(block.numpy(), row, column)
    return torch.from_numpy(forth.finish(neighbours)), torch.from_numpy(back.finish(neighbours))


def _products(source: Tensor, target: Tensor) -> Iterator[tuple[Tensor, int, int]]:
    """Blocks of the matrix of cosines with the row and column where they begin.

    Every block is computed in the memory of the one before. Rows and columns ascend.
    """
    rows, columns = _BLOCK
    buffer = source.new_empty(min(rows, len(source)) * min(columns, len(target)))
    for row in range(0, len(source), rows):
        some = source[row : row + rows]
        for column in range(0, len(target), columns):
            others = target[column : column + columns]
            block = buffer[: len(some) * len(others)].view(len(some), len(others))
            yield torch.mm(some, others.mT, out=block), row, column


def _nearest(
    lines: int, keep: int, least: int, asked: np.ndarray | None, length: int, like: Tensor
) -> Nearest:
    """Buffers that keep `keep` entries of the lines asked for (None: of all), `least` of others."""
    wanted = np.full(lines, max(keep, least) if asked is None else least, np.int64)
    if asked is not None:
        wanted[asked] = max(keep, least)
    return Nearest(wanted, length, np.dtype(str(like.dtype)[6:]))


def _candidates(k: int) -> int:
    return max(_CANDIDATES, 4 * k)


def _rows(rows: Tensor | None, words: int) -> np.ndarray:
    return np.arange(words) if rows is None else rows.contiguous().numpy()


def _add_exponentials(block: Tensor, temperature: float, largest: Tensor, total: Tensor) -> None:
    """Add exp(T c) of a block's columns, as multiples of exp(T largest); destroys the block."""
    columns = block.shape[1]
    largest, total = largest[:columns], total[:columns]
    before = largest.clone()
    torch.maximum(largest, block.amax(0), out=largest)
    total *= torch.exp(temperature * (before - largest)).double()
    block.sub_(largest).mul_(temperature).exp_()
    total += block.sum(0)
