"""Which weights of a matrix are alive: compressed sparse rows, of single weights or of blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


class TransposedPattern(NamedTuple):
    """The same weights by column, which the gradient of x goes through.

    Attributes:
        first: (in / block + 1,) int32, where the weights of each column begin.
        rows: (n,) the row of each; uint16 where that is enough, else int32.
        order: (n,) int32, where the value of each is in the order by row.
    """

    first: Tensor
    rows: Tensor
    order: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class SparsePattern:
    """Where the alive weights of a matrix are; make one with `SparsePattern.from_mask`.

    Values of the weights are a tensor apart, in row-major order: `pack_values` takes them from a
    matrix.

    Attributes:
        shape: (out, in) of the matrix.
        block: edge of the square blocks that are kept whole; 1 for single weights.
        first: (out / block + 1,) int32, where the weights or blocks of each row begin.
        columns: (n,) of each weight or block, ascending in a row; uint16 where that is enough,
            else int32.
    """

    shape: tuple[int, int]
    block: int
    first: Tensor
    columns: Tensor
    _transposed: list[TransposedPattern] = field(default_factory=list)

    @classmethod
    def from_mask(cls, mask: Tensor, *, block: int | None = None) -> SparsePattern:
        """Make the pattern of the weights where `mask` is True; on the device of the mask.

        Args:
            mask: (out, in) bool, True for weights that are alive. None may be.
            block: keep whole every block of `block` × `block` weights in which one is alive, which
                is what matrix units compute with. It must divide both sizes.

        Raises:
            ValueError: a mask without two dimensions, or a block that does not divide them.
            TypeError: a mask that is not bool.
        """
        if mask.dtype != torch.bool:
            raise TypeError(
                f"SparsePattern: expected a bool mask, got {mask.dtype}; use weight != 0, or "
                "mask.bool()"
            )
        if mask.ndim != 2:
            raise ValueError(
                f"SparsePattern: expected a mask of shape (out, in), got {tuple(mask.shape)}"
            )
        n_out, n_in = mask.shape
        size = 1 if block is None else block
        if size < 1 or n_out % size or n_in % size:
            raise ValueError(
                f"SparsePattern: blocks of {block} do not divide a mask of shape {(n_out, n_in)}; "
                "take a divisor of both sizes, or block=None for single weights"
            )
        if size > 1:
            mask = mask.view(n_out // size, size, n_in // size, size).any(3).any(1)
        rows, columns = mask.nonzero(as_tuple=True)
        if len(rows) >= 1 << 31:
            raise ValueError(
                f"SparsePattern: {len(rows)} entries are alive, at most 2³¹ - 1 can be"
            )
        first = mask.new_zeros(mask.shape[0] + 1, dtype=torch.int32)
        first[1:] = mask.sum(1).cumsum(0)
        return cls((n_out, n_in), size, first, columns.to(_index_dtype(mask.shape[1])))

    @property
    def n_alive(self) -> int:
        """How many weights are stored; whole blocks count."""
        return self.columns.shape[0] * self.block**2

    @property
    def density(self) -> float:
        """Stored weights as a part of all; 0 for a matrix without any."""
        return self.n_alive / max(1, self.shape[0] * self.shape[1])

    @property
    def values_shape(self) -> tuple[int, ...]:
        """Shape of the values: (n_alive,), or (n, block, block)."""
        n, b = self.columns.shape[0], self.block
        return (n,) if b == 1 else (n, b, b)

    @property
    def device(self) -> torch.device:
        """Where the structure is, and values and x must be."""
        return self.columns.device

    def to(self, device: torch.device | str) -> SparsePattern:
        """Return the pattern on `device`; itself where it is there."""
        if self.columns.to(device) is self.columns:
            return self
        return SparsePattern(self.shape, self.block, self.first.to(device), self.columns.to(device))

    def rows(self) -> Tensor:
        """The row of each weight or block, (n,) int64."""
        counts = self.first.diff()
        at = torch.arange(len(counts), device=self.device)
        return at.repeat_interleave(counts, output_size=self.columns.shape[0])

    def mask(self) -> Tensor:
        """(out, in) bool, True where a weight is stored."""
        return unpack_values(self.columns.new_ones(self.values_shape, dtype=torch.bool), self)

    def transposed(self) -> TransposedPattern:
        """The structure by column; made when first asked for, and kept."""
        if not self._transposed:
            # Kept for later calls, so nothing that only inference may use.
            with torch.inference_mode(False):
                self._transposed.append(self._by_column())
        return self._transposed[0]

    def _by_column(self) -> TransposedPattern:
        columns, order = self.columns.to(torch.int32, copy=True).sort(stable=True)
        edges = torch.arange(self.shape[1] // self.block + 1, dtype=torch.int32, device=self.device)
        rows = self.rows()[order].to(_index_dtype(self.shape[0] // self.block))
        first = torch.searchsorted(columns, edges, out_int32=True)
        return TransposedPattern(first, rows, order.to(torch.int32))

    def __repr__(self) -> str:
        blocks = "" if self.block == 1 else f", block={self.block}"
        return (
            f"SparsePattern({self.shape[0]} × {self.shape[1]}, {self.n_alive} alive, "
            f"{self.density:.2%}{blocks}, {self.device})"
        )


def pack_values(weight: Tensor, pattern: SparsePattern) -> Tensor:
    """Take the alive values out of a matrix; differentiable.

    Args:
        weight: (out, in) of any dtype, on the pattern's device.
        pattern: where the alive ones are.

    Returns:
        (n_alive,) in row-major order, or (n, block, block) with the blocks in row-major order.

    Raises:
        ValueError: a weight of another shape or on another device.
    """
    if weight.shape != pattern.shape or weight.device != pattern.device:
        raise ValueError(
            f"pack_values: expected a weight of shape {pattern.shape} on {pattern.device}, got "
            f"{tuple(weight.shape)} on {weight.device}"
        )
    b = pattern.block
    at = (pattern.rows(), pattern.columns.long())
    if b == 1:
        return weight[at]
    n_out, n_in = pattern.shape
    return weight.reshape(n_out // b, b, n_in // b, b).transpose(1, 2)[at]


def unpack_values(values: Tensor, pattern: SparsePattern) -> Tensor:
    """Put values where they belong in a matrix of zeros; differentiable, inverse of `pack_values`.

    Args:
        values: (n_alive,), or (n, block, block).
        pattern: where they belong.

    Returns:
        (out, in)

    Raises:
        ValueError: values of another pattern, by their number, or on another device.
    """
    check_values("unpack_values", values, pattern)
    at = (pattern.rows(), pattern.columns.long())
    (n_out, n_in), b = pattern.shape, pattern.block
    if b == 1:
        return values.new_zeros(n_out, n_in).index_put(at, values)
    blocks = values.new_zeros(n_out // b, n_in // b, b, b).index_put(at, values)
    return blocks.transpose(1, 2).reshape(n_out, n_in)


def check_values(op: str, values: Tensor, pattern: SparsePattern) -> None:
    """Check that values fit a pattern."""
    if values.shape != pattern.values_shape:
        raise ValueError(
            f"{op}: expected values of shape {pattern.values_shape} for {pattern}, got "
            f"{tuple(values.shape)}; pack_values(weight, pattern) makes them"
        )
    if values.device != pattern.device:
        raise ValueError(
            f"{op}: values are on {values.device}, but the pattern on {pattern.device}; "
            f"use pattern.to({str(values.device)!r})"
        )


def _index_dtype(count: int) -> torch.dtype:
    return torch.uint16 if count <= 1 << 16 else torch.int32
