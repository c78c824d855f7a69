"""The exact forms in which a pruned matrix can be stored and multiplied.

A form computes ``y = x Wᵀ + b`` of x (rows, in) from what is left of W (out, in). Which is fastest
depends on the sizes, the density, the number of rows and the machine: `compile_sparse` measures.

    csr            one product ``csr @ xᵀ``, and for one row a matrix-vector product. Indices are
                   32 bits wide: torch converts wider ones at every call
    sparse_linear  `gonzo.core.ops.sparse_linear`, of single weights or of blocks
    bsr            torch's product with blocks, where whole blocks are empty
    compact        a smaller dense matrix, where whole rows or columns are empty
    2:4            see `gonzo.pruning.two_four`
    direct         convolutions alone: see `gonzo.pruning.direct_conv`

The result of the first three is stored by output (``y.mT`` is contiguous), which saves a
transposition, and which they read as fast.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core.ops.sparse_linear import PackedLinear, SparsePattern, pack_values, sparse_linear

from .two_four import fits_two_four, two_four_values

__all__ = ["FORMS", "Compact", "MatrixForm", "SparseLinear", "TorchSparse", "forms_of"]

FORMS = ("csr", "sparse_linear", "bsr", "compact", "2:4", "direct")
"""Names for ``compile_sparse(forms=...)``."""

_PACKED = (torch.float32, torch.float64)
_BLOCKS = (32, 16, 8)
_FULLEST = 0.5  # stored part of a matrix above which blocks, or a smaller matrix, save too little


class MatrixForm(nn.Module):
    """A linear layer in some form; `multiply` is what forms differ in.

    A result of two dimensions may be stored by output, others are contiguous.

    Attributes:
        in_order: make results of two dimensions contiguous, too, for what calls ``view`` on them.
    """

    in_order = False

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for x (..., in)."""
        if x.ndim == 2:
            y = self.multiply(x)
            return y.contiguous() if self.in_order else y
        y = self.multiply(x.reshape(-1, x.shape[-1]))
        return y.reshape(*x.shape[:-1], y.shape[-1]).contiguous()

    def multiply(self, x: Tensor) -> Tensor:
        """Return (rows, out) for x (rows, in)."""
        raise NotImplementedError


class TorchSparse(MatrixForm):
    """A matrix of single weights or of blocks, multiplied by torch.

    Args:
        weight: (out, in)
        bias: (out,) or None.
        block: edge of a block, a divisor of both sizes; 1 for single weights.
    """

    first: Tensor
    columns: Tensor
    values: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, block: int = 1) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse .* tensor support is in beta")
            single = block == 1
            matrix = weight.to_sparse_csr() if single else weight.to_sparse_bsr((block, block))
        self.shape, self.layout = weight.shape, matrix.layout
        self.register_buffer("first", matrix.crow_indices().int())
        self.register_buffer("columns", matrix.col_indices().int())
        self.register_buffer("values", matrix.values().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self._ready: tuple[Tensor, Tensor | None] | None = None

    def multiply(self, x: Tensor) -> Tensor:
        """Return (rows, out) for x (rows, in)."""
        matrix, bias = self._ready or self._prepare()
        if x.shape[0] == 1 and self.layout is torch.sparse_csr:
            x = x.squeeze(0)
            y = matrix.mv(x) if bias is None else torch.addmv(bias, matrix, x)
            return y.unsqueeze(0)
        if bias is None:
            return (matrix @ x.mT).mT
        return torch.addmm(bias.unsqueeze(1), matrix, x.mT).mT

    def matrix(self, *, wide: bool = False) -> Tensor:
        """Return the matrix (out, in) as torch's; with indices of 64 bits if `wide`."""
        kind = torch.int64 if wide else torch.int32
        return torch.sparse_compressed_tensor(
            self.first.to(kind),
            self.columns.to(kind),
            self.values,
            self.shape,
            layout=self.layout,
            check_invariants=False,
        )

    def _prepare(self) -> tuple[Tensor, Tensor | None]:
        self._ready = self.matrix(), self.bias
        return self._ready

    # A sparse tensor can be neither copied nor moved with the module: it is put together again.
    def _apply(self, *arguments: Any, **options: Any) -> Any:
        self._ready = None
        return super()._apply(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": None}


class SparseLinear(MatrixForm):
    """A matrix of single weights or of blocks, multiplied by `gonzo.core.ops.sparse_linear`.

    Args:
        weight: (out, in)
        bias: (out,) or None.
        block: edge of a block, a divisor of both sizes; 1 for single weights.
    """

    first: Tensor
    columns: Tensor
    values: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, block: int = 1) -> None:
        super().__init__()
        self.pattern = SparsePattern.from_mask(weight != 0, block=None if block == 1 else block)
        self.register_buffer("first", self.pattern.first)
        self.register_buffer("columns", self.pattern.columns)
        self.register_buffer("values", pack_values(weight, self.pattern).contiguous())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self._ready: Callable[[Tensor], Tensor] | None = None

    def multiply(self, x: Tensor) -> Tensor:
        """Return (rows, out) for x (rows, in)."""
        return (self._ready or self._prepare())(x)

    def _prepare(self) -> Callable[[Tensor], Tensor]:
        if self.values.device.type == "cpu" and self.values.dtype in _PACKED:
            self._ready = PackedLinear(self.values, self.pattern, self.bias)
        else:
            self._ready = self._call_op
        return self._ready

    def _call_op(self, x: Tensor) -> Tensor:
        return sparse_linear(x, self.values, self.pattern, self.bias)

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        self._ready = None
        super()._apply(*arguments, **options)
        self.pattern = self.pattern.to(self.values.device)
        self.first, self.columns = self.pattern.first, self.pattern.columns
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": None}


class Compact(MatrixForm):
    """A dense matrix without its empty rows and columns, between a selection and a scatter.

    Args:
        weight: (out, in)
        bias: (out,) or None.
    """

    rows: Tensor | None
    columns: Tensor | None
    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        rows, columns = (weight != 0).any(1), (weight != 0).any(0)
        self.out_features = len(weight)
        self.register_buffer("rows", None if rows.all() else rows.nonzero()[:, 0])
        self.register_buffer("columns", None if columns.all() else columns.nonzero()[:, 0])
        self.register_buffer("weight", weight.detach()[rows][:, columns].clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def multiply(self, x: Tensor) -> Tensor:
        """Return (rows, out) for x (rows, in)."""
        if self.columns is not None:
            x = x.index_select(1, self.columns)
        if self.rows is None:
            return F.linear(x, self.weight, self.bias)
        y = x.new_zeros(len(x), self.out_features)
        y.index_copy_(1, self.rows, F.linear(x, self.weight))
        return y if self.bias is None else y.add_(self.bias)


class TwoFour(MatrixForm):
    """A matrix with two of every four alive, see `gonzo.pruning.two_four`.

    Args:
        weight: (out, in) that `fits_two_four`.
        bias: (out,) or None.
    """

    values: Any
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.values = nn.Parameter(two_four_values(weight), requires_grad=False)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def multiply(self, x: Tensor) -> Tensor:
        """Return (rows, out) for x (rows, in)."""
        return F.linear(x, self.values, self.bias)


def forms_of(
    weight: Tensor, bias: Tensor | None, rows: int, wanted: tuple[str, ...] = FORMS
) -> Iterator[tuple[str, Callable[[], MatrixForm]]]:
    """Yield the forms that could pay for a matrix: what each is called, and what makes it.

    Args:
        weight: (out, in), pruned weights zero.
        bias: (out,) or None.
        rows: of x.
        wanted: some of `FORMS`.
    """
    for name in wanted:
        if name == "csr":
            label = "csr matrix-vector" if rows == 1 else "csr @ x.T"
            yield label, lambda: TorchSparse(weight, bias)
        elif name == "sparse_linear":
            yield name, lambda: SparseLinear(weight, bias)
            for block in _blocks_that_pay(weight):
                yield f"{name}, blocks of {block}", lambda b=block: SparseLinear(weight, bias, b)
        elif name == "bsr":
            for block in _blocks_that_pay(weight):
                yield f"bsr of {block} @ x.T", lambda b=block: TorchSparse(weight, bias, b)
        elif name == "compact" and _part_left(weight) <= _FULLEST:
            yield "smaller dense", lambda: Compact(weight, bias)
        elif name == "2:4" and fits_two_four(weight):
            yield "2:4", lambda: TwoFour(weight, bias)


def _blocks_that_pay(weight: Tensor) -> Iterator[int]:
    n_out, n_in = weight.shape
    for block in _BLOCKS:
        if n_out % block == 0 and n_in % block == 0:
            blocks = (weight != 0).view(n_out // block, block, n_in // block, block)
            if blocks.any(3).any(1).double().mean() <= _FULLEST:
                yield block


def _part_left(weight: Tensor) -> float:
    alive = weight != 0
    return float(alive.any(0).double().mean() * alive.any(1).double().mean())
