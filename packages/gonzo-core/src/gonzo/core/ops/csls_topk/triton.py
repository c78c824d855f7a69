"""The same on a GPU: a program keeps the best of its rows and walks along the other vocabulary.

A tile of scores ``(a c - b_j) - r_i`` is one matrix product. While a row of it exceeds the least
that the row keeps, its largest entry takes the place of that: after the first tiles this is rare.
CSLS walks three times: for the means of either side, then for the scores of the rows asked for,
with the means in them. More than `_MOST` words are found in several walks, each of which looks only
at what comes after the last word of the one before. Nothing depends on an order of execution.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gonzo.core.triton_kernels import launch

from .unit import unit_rows

_MOST = 16  # words that are found in one walk
_DEPTH = 16  # of the tiles of a product, or a multiple of it


def cosine_topk(
    source: Tensor, target: Tensor, k: int, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.csls_topk`."""
    source = _units(_chosen(source, rows))
    none = source.new_zeros(max(len(source), len(target)))
    return _best(source, _units(target), k, 1.0, none, none)


def csls_topk(
    source: Tensor, target: Tensor, k: int, neighbours: int, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.csls_topk`."""
    source, target = _units(source), _units(target)
    asked = _chosen(source, rows)
    own, bias = _mean(asked, target, neighbours), _mean(target, source, neighbours)
    return _best(asked, target, k, 2.0, bias, own)


def csls_topk_both(
    source: Tensor,
    target: Tensor,
    k: int,
    neighbours: int,
    source_rows: Tensor | None,
    target_rows: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `gonzo.core.ops.csls_topk`."""
    source, target = _units(source), _units(target)
    own, bias = _mean(source, target, neighbours), _mean(target, source, neighbours)
    asked, asked_back = _chosen(source, source_rows), _chosen(target, target_rows)
    forth = _best(asked, target, k, 2.0, bias, _chosen(own, source_rows))
    return *forth, *_best(asked_back, source, k, 2.0, own, _chosen(bias, target_rows))


def inverted_softmax_topk(
    source: Tensor, target: Tensor, k: int, temperature: float, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.csls_topk`."""
    source, target = _units(source), _units(target)
    bias = target.new_empty(len(target))
    tiles = _tiles(source.dtype)
    grid = (triton.cdiv(len(target), tiles["ROWS"]),)
    scale = source.new_full((1,), temperature)  # a number given by value would come in float32
    numbers = (len(target), len(source), source.shape[1])
    launch(_log_sums, grid, target, source, scale, bias, *numbers, **tiles)
    asked = _chosen(source, rows)
    return _best(asked, target, k, temperature, bias, asked.new_zeros(len(asked)))


def neighbourhood_means(source: Tensor, target: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.csls_topk`."""
    source, target = _units(source), _units(target)
    return _mean(source, target, neighbours), _mean(target, source, neighbours)


def _units(vectors: Tensor) -> Tensor:
    """Rows of length one, with zeros up to a multiple of `_DEPTH`."""
    units, missing = unit_rows(vectors), -vectors.shape[1] % _DEPTH
    return torch.nn.functional.pad(units, (0, missing)) if missing else units


def _chosen(lines: Tensor, rows: Tensor | None) -> Tensor:
    return lines if rows is None else lines[rows]


def _mean(source: Tensor, target: Tensor, neighbours: int) -> Tensor:
    none = source.new_zeros(max(len(source), len(target)))
    values, _ = _best(source, target, min(neighbours, len(target)), 1.0, none, none)
    return values.double().mean(1).to(source.dtype)


def _best(
    source: Tensor, target: Tensor, k: int, factor: float, bias: Tensor, own: Tensor
) -> tuple[Tensor, Tensor]:
    """The k best scores (n, k) and words (n, k) of vectors (n, d) among (m, d), best first."""
    n, m = len(source), len(target)
    values = source.new_empty(n, k)
    words = source.new_empty(n, k, dtype=torch.int64)
    tiles, scale = _tiles(source.dtype), source.new_full((1,), factor)
    last = torch.full_like(own[:n], float("inf"))
    last_word = torch.full_like(last, -1, dtype=torch.int32)
    for start in range(0, k if n else 0, _MOST):
        keep = max(2, triton.next_power_of_2(min(k - start, _MOST)))
        found = source.new_empty(n, keep)
        found_words = source.new_empty(n, keep, dtype=torch.int32)
        launch(
            _find_best,
            (triton.cdiv(n, tiles["ROWS"]),),
            *(source, target, scale, bias, own, last, last_word, found, found_words),
            *(n, m, source.shape[1]),
            KEEP=keep,
            **tiles,
        )
        # Stable, and from words in ascending order: of equal scores the lower word is first.
        found_words, order = found_words.sort(1)
        found, order = found.gather(1, order).sort(dim=1, descending=True, stable=True)
        found_words = found_words.gather(1, order)
        some = min(k - start, keep)
        values[:, start : start + some] = found[:, :some]
        words[:, start : start + some] = found_words[:, :some]
        last, last_word = found[:, some - 1].contiguous(), found_words[:, some - 1].contiguous()
    return values, words


def _tiles(dtype: torch.dtype) -> dict[str, int]:
    """Sizes of tiles that leave registers free."""
    if dtype == torch.float64:
        return {"ROWS": 32, "COLUMNS": 32, "DEPTH": 4, "num_warps": 8}
    return {"ROWS": 64, "COLUMNS": 64, "DEPTH": _DEPTH, "num_warps": 8}


@triton.jit
def _cosines(
    source, target, rows, columns, n, m, d,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """A tile of the product of two matrices of rows; IEEE, never TF32.

    Beyond the ends stand copies of the last row and column, which the caller leaves out, and d is a
    multiple of DEPTH: masks on the loads would need more registers than there are.
    """
    x_at = source + tl.minimum(rows, n - 1)[:, None].to(tl.int64) * d
    y_at = target + tl.minimum(columns, m - 1)[None, :].to(tl.int64) * d
    c = tl.zeros([ROWS, COLUMNS], source.dtype.element_ty)
    for start in range(0, d, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        x, y = tl.load(x_at + depth[None, :]), tl.load(y_at + depth[:, None])
        if c.dtype == tl.float64:  # not every Triton from 3.4 on has a tl.dot of it
            c += tl.sum(x[:, :, None] * y[None, :, :], 1)
        else:
            c = tl.dot(x, y, c, input_precision="ieee")
    return c


@triton.jit
def _find_best(
    source, target, factor, bias, own, last, last_word, values, words, n, m, d,
    KEEP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    scale = tl.load(factor)
    mine = tl.load(own + rows, rows < n, 0.0)
    ceiling = tl.load(last + rows, rows < n, float("-inf"))[:, None]
    ceiling_word = tl.load(last_word + rows, rows < n, 0)[:, None]
    nothing = tl.full([ROWS, KEEP], float("-inf"), source.dtype.element_ty)
    # What is kept in the beginning are words that are not there, each with a number of its own.
    slots = tl.arange(0, KEEP)
    best, best_words = nothing, tl.zeros([ROWS, KEEP], tl.int32) + (m + slots)[None, :]
    least = tl.min(best, 1)
    for start in range(0, m, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        c = _cosines(source, target, rows, columns, n, m, d, ROWS, COLUMNS, DEPTH)
        score = (scale * c - tl.load(bias + columns, columns < m, 0.0)[None, :]) - mine[:, None]
        later = (score < ceiling) | ((score == ceiling) & (columns[None, :] > ceiling_word))
        score = tl.where(later & (columns < m)[None, :], score, float("-inf"))
        most = tl.max(score, 1)
        while tl.max((most > least).to(tl.int32), 0) > 0:
            # The first of the largest enters, where of the smallest the last word was.
            at = tl.min(tl.where(score == most[:, None], columns[None, :], start + COLUMNS), 1)
            key = tl.where(best == least[:, None], best_words, -1)
            out = tl.where(most > least, tl.max(key, 1), -2)
            place = key == out[:, None]
            best = tl.where(place, most[:, None], best)
            best_words = tl.where(place, at[:, None], best_words)
            score = tl.where(columns[None, :] == at[:, None], float("-inf"), score)
            least = tl.min(best, 1)
            most = tl.max(score, 1)
    to = rows[:, None].to(tl.int64) * KEEP + slots[None, :]
    tl.store(values + to, best, (rows < n)[:, None])
    tl.store(words + to, best_words, (rows < n)[:, None])


@triton.jit
def _log_sums(
    target, source, temperature, out, m, n, d,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """The log Σ exp(T c) of target words over all source words, below a running maximum."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    scale = tl.load(temperature)
    most = tl.full([ROWS], float("-inf"), source.dtype.element_ty)
    total = tl.zeros([ROWS], source.dtype.element_ty)
    for start in range(0, n, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        c = _cosines(target, source, rows, columns, m, n, d, ROWS, COLUMNS, DEPTH)
        scaled = tl.where((columns < n)[None, :], scale * c, float("-inf"))
        now = tl.maximum(most, tl.max(scaled, 1))
        total = total * tl.exp(most - now) + tl.sum(tl.exp(scaled - now[:, None]), 1)
        most = now
    tl.store(out + rows, most + tl.log(total), rows < m)
