"""How far two outputs of a model are apart."""

from __future__ import annotations

import math
from typing import Any

import torch

from .frozen_copy import tensors_in

__all__ = ["output_error"]


def output_error(got: Any, expected: Any) -> float:
    """Return the largest relative RMS error over the tensors of two outputs.

    Infinite where shapes or dtypes differ, where integers do, and where a value is not a number.

    Args:
        got: tensors, or sequences and mappings of tensors.
        expected: the same.
    """
    ours, theirs = list(tensors_in(got)), list(tensors_in(expected))
    if len(ours) != len(theirs):
        return math.inf
    largest = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return math.inf
        if not b.numel():
            continue
        if not b.is_floating_point():
            largest = max(largest, 0.0 if torch.equal(a, b) else math.inf)
            continue
        difference = float((a.double() - b.double()).square().mean().sqrt())
        scale = float(b.double().square().mean().sqrt()) or 1.0
        wrong = difference / scale
        largest = max(largest, math.inf if math.isnan(wrong) else wrong)
    return largest
