"""The bits of floating-point numbers as integers of the same order.

An IEEE number is a sign and a magnitude whose bits ascend with it, so u & positive orders the
magnitudes, and its negative for a set sign bit orders everything, with -0.0 equal to 0.0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["DIGIT", "ORDERS", "Order"]

DIGIT = 16
"""Bits of a digit of the keys."""


@dataclass(frozen=True)
class Order:
    """How to read one precision as integers.

    Attributes:
        integer: The integers of the same width.
        bits: That width.
        infinity: The bits of +inf; a magnitude above it is NaN.
    """

    integer: torch.dtype
    bits: int
    infinity: int

    @property
    def positive(self) -> int:
        """All bits but the sign."""
        return (1 << (self.bits - 1)) - 1

    def keys(self, values: Tensor, magnitude: bool) -> Tensor:
        """Integers in the order of the numbers (or of their magnitudes) with these bits."""
        size = values & self.positive
        if magnitude:
            return size
        sign = values >> (self.bits - 1)  # 0 or -1
        return (size ^ sign) - sign


ORDERS = {
    torch.float16: Order(torch.int16, 16, 0x7C00),
    torch.bfloat16: Order(torch.int16, 16, 0x7F80),
    torch.float32: Order(torch.int32, 32, 0x7F800000),
    torch.float64: Order(torch.int64, 64, 0x7FF0000000000000),
}
