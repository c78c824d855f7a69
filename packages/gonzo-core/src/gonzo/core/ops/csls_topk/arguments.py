"""What the functions of `csls_topk` refuse, and in which words."""

from __future__ import annotations

import torch
from torch import Tensor


def check_vocabularies(op: str, source: Tensor, target: Tensor) -> None:
    """Check shapes, dtypes and devices of the two matrices of vectors."""
    for name, vectors in (("source", source), ("target", target)):
        if vectors.ndim != 2:
            raise ValueError(
                f"{op}: expected {name} of shape (words, dimensions), got {tuple(vectors.shape)}"
            )
        if vectors.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"{op}: expected {name} in float32 or float64, got {vectors.dtype}; "
                f"scores of close words differ by less than 16 bits show, use {name}.float()"
            )
        if not vectors.numel():
            raise ValueError(f"{op}: {name} is empty, its shape is {tuple(vectors.shape)}")
    if source.shape[1] != target.shape[1]:
        raise ValueError(
            f"{op}: source and target must have vectors of one length, got {source.shape[1]} and "
            f"{target.shape[1]} dimensions"
        )
    if source.dtype != target.dtype or source.device != target.device:
        raise TypeError(
            f"{op}: source and target must share dtype and device, got {source.dtype} on "
            f"{source.device} and {target.dtype} on {target.device}"
        )


def check_count(op: str, name: str, count: int) -> None:
    """Check that `count` is at least 1."""
    if count < 1:
        raise ValueError(f"{op}: expected {name} of at least 1, got {count}")


def check_k(op: str, k: int, words: int, where: str) -> None:
    """Check that there are `k` words to be found."""
    check_count(op, "k", k)
    if k > words:
        raise ValueError(f"{op}: k is {k}, but {where} has only {words} words; lower k")


def check_temperature(op: str, temperature: float) -> None:
    """Check that the temperature is a positive number."""
    if not 0 < temperature < float("inf"):
        raise ValueError(f"{op}: expected a positive temperature, got {temperature}")


def check_rows(op: str, name: str, rows: Tensor | None, vectors: Tensor) -> None:
    """Check shape, dtype and device of a choice of rows; `check_values` looks at its values."""
    if rows is None:
        return
    if rows.ndim != 1:
        raise ValueError(f"{op}: expected {name} of shape (rows,), got {tuple(rows.shape)}")
    if rows.dtype != torch.int64:
        hint = f"{name}.nonzero()[:, 0]" if rows.dtype == torch.bool else f"{name}.long()"
        raise TypeError(f"{op}: expected {name} in int64, got {rows.dtype}; use {hint}")
    if rows.device != vectors.device:
        raise TypeError(
            f"{op}: expected {name} on {vectors.device}, where the vectors are, got {rows.device}"
        )


def check_values(op: str, **vectors: Tensor) -> None:
    """Check that all vectors are finite."""
    for name, tensor in vectors.items():
        low, high = tensor.aminmax(dim=1)
        bad = (~(low.isfinite() & high.isfinite())).nonzero()[:, 0]
        if bad.numel():
            raise ValueError(
                f"{op}: {name} holds NaN or infinite values in {bad.numel()} of {len(tensor)} rows,"
                f" the first is row {bad[0].item()}"
            )


def check_range(op: str, name: str, rows: Tensor | None, words: int) -> None:
    """Check that every row asked for exists."""
    if rows is None or not rows.numel():
        return
    low, high = (int(x) for x in rows.aminmax())
    if low < 0 or high >= words:
        wrong = low if low < 0 else high
        raise ValueError(f"{op}: {name} asks for row {wrong}, expected 0 … {words - 1}")
