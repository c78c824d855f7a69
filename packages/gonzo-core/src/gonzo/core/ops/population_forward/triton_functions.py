"""Activations and their slopes in Triton; `functions` has the definitions.

The id is one number for the whole program, so a branch costs only what it does. Coefficients stand
in a table in memory: the compiler would keep them all in registers otherwise, which are too few.
"""

from __future__ import annotations

import functools
import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .functions import (
    ACTIVATIONS,
    AGGREGATIONS,
    BOUND,
    LEAK,
    LIMIT,
    SELU_ALPHA,
    SELU_SCALE,
    SMALLEST,
    STEEPNESS,
)

SUM, PRODUCT, MAX, MIN, MAXABS, MEDIAN, MEAN = map(tl.constexpr, range(len(AGGREGATIONS)))
_TERMS = 17  # of the longest series in float64, that of artanh at 1/3
_NUMBERS = (BOUND, LIMIT, SMALLEST, LEAK, SELU_SCALE, SELU_SCALE * SELU_ALPHA)
_PI = (1 / math.pi, 3.140625, 0.0009675025939941406, 1.5099579909783765e-07)
_SERIES = (
    [1 / math.factorial(n + 1) for n in range(_TERMS)],  # (e^x - 1) / x
    [1 / (2 * n + 1) for n in range(_TERMS)],  # artanh √x / √x
    [(-1) ** n / math.factorial(2 * n + 1) for n in range(_TERMS)],  # sin √x / √x
)
_AT_BOUND = tl.constexpr(len(ACTIVATIONS))
_AT_LIMIT = tl.constexpr(len(ACTIVATIONS) + 1)
_AT_NUMBERS = tl.constexpr(len(ACTIVATIONS) + 2)
_AT_PI = tl.constexpr(len(ACTIVATIONS) + len(_NUMBERS))
_AT_SERIES = tl.constexpr(len(ACTIVATIONS) + len(_NUMBERS) + len(_PI))
_LENGTH = tl.constexpr(_TERMS)


@functools.cache
def constants(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The table: steepness of each activation, numbers of `functions`, parts of π, series."""
    rows = [[STEEPNESS.get(name, 1.0) for name in ACTIVATIONS], _NUMBERS, _PI, *_SERIES]
    return torch.tensor([x for row in rows for x in row], dtype=dtype, device=device)


@triton.jit
def clamped(x, bound):
    """X within ± bound; NaN stays."""
    x = tl.where(x > bound, bound, x)
    return tl.where(x < -bound, -bound, x)


@triton.jit
def bounded(x, table):
    """X within the bound of values and arguments."""
    return clamped(x, tl.load(table + _AT_BOUND))


@triton.jit
def _family(name):
    """The id that the activation `name` shares with the steeper ones."""
    kind = tl.where((name == 18) | (name == 19), 1, name)
    kind = tl.where(name == 20, 2, kind)
    return tl.where(name >= 21, name - 17, kind)  # sin 4, gauss 5, softplus 6


@triton.jit
def _series(x, which, table):
    """The series number `which`, by Horner's rule."""
    terms: tl.constexpr = _LENGTH if x.dtype == tl.float64 else 9
    table += _AT_SERIES + which * _LENGTH
    y = x * 0
    for n in range(terms):
        y = y * x + tl.load(table + (terms - 1 - n))
    return y


@triton.jit
def _turned_sin(x, half, table):
    """(-1)^n sin r with x = (n + half) π + r, for |x| <= 60; sin of the library needs a stack."""
    table += _AT_PI
    n = tl.floor(x * tl.load(table) - half + 0.5)
    turns = n + half
    r = x - turns * tl.load(table + 1) - turns * tl.load(table + 2) - turns * tl.load(table + 3)
    odd = n - 2 * tl.floor(n / 2)
    return (1 - 2 * odd) * r * _series(r * r, 2, table - _AT_PI)


@triton.jit
def _exponential(kind, u, z, k, table):
    """The functions of one e^x and one quotient, so that the code of both stands here alone.

    tanh |u| is (1 - e^x) / (1 + e^x) with x = -2 |u|; log(1 + e^x) is 2 artanh(e^x / (2 + e^x)).
    """
    x = tl.where(kind == 1, -u, u)
    x = tl.where((kind == 2) | (kind == 6), -tl.abs(u) * tl.where(kind == 2, 2, 1), x)
    x = tl.where(kind == 5, -k * z * z, x)
    x = tl.where(kind >= 15, tl.where(z < 0, z, 0.0), x)
    e = tl.exp(x)
    near = tl.abs(x) < 0.5
    m = tl.where(near, x * _series(tl.where(near, x, 0.0), 0, table), e - 1)  # with all digits
    above = tl.where(kind == 1, 1.0, tl.where(kind == 2, -m, e))
    q = above / tl.where(kind == 1, 1 + e, 2 + tl.where(kind == 2, m, e))
    y = tl.where(kind == 1, q, tl.where(kind == 2, tl.where(z < 0, -q, q), e))
    if kind == 6:
        y = (tl.where(u > 0, u, 0.0) + 2 * q * _series(q * q, 1, table)) / k
    scale = tl.where(kind == 15, 1.0, tl.load(table + _AT_NUMBERS + 2))
    low = tl.where(kind == 15, 1.0, tl.load(table + _AT_NUMBERS + 3))
    return tl.where(kind >= 15, tl.where(z > 0, scale * z, low * m), y)


@triton.jit
def activate(name, z, table):
    """The value of activation `name`, clamped."""
    kind, k, limit = _family(name), tl.load(table + name), tl.load(table + _AT_LIMIT)
    u = clamped(k * z, limit)
    y = z
    smooth = (kind == 1) | (kind == 2) | (kind == 5) | (kind == 6)
    if smooth | (kind == 11) | (kind == 15) | (kind == 17):
        y = _exponential(kind, u, z, k, table)
    if kind == 3:
        y = tl.where(z > 0, z, 0.0)
    if kind == 4:
        y = _turned_sin(u, 0.0, table)
    if kind == 7:
        y = tl.abs(z)
    if kind == 8:
        y = clamped(z, 1.0)
    if kind == 9:
        y = z * z
    if kind == 10:
        y = z * z * z
    if kind == 12:
        smallest = tl.load(table + _AT_NUMBERS)
        y = tl.log(tl.where(z < smallest, smallest, z))
    if kind == 13:
        y = tl.where(z == 0, 0.0, 1 / tl.where(z == 0, 1.0, z))
    if kind == 14:
        y = 1 - tl.abs(z)
        y = tl.where(y > 0, y, 0.0)
    if kind == 16:
        y = tl.where(z > 0, z, tl.load(table + _AT_NUMBERS + 1) * z)
    return bounded(y, table)


@triton.jit
def slope(name, z, y, table):
    """dy/dz at argument z and value y; 0 where a clamp holds either."""
    kind, k, limit = _family(name), tl.load(table + name), tl.load(table + _AT_LIMIT)
    u = clamped(k * z, limit)
    one = z * 0 + 1
    sign = tl.where(z > 0, one, tl.where(z < 0, -one, 0.0))
    d = one
    if (kind == 1) | (kind == 2):
        d = k * (1 - y) * tl.where(kind == 1, y, 1 + y)
    if kind == 3:
        d = tl.where(z > 0, one, 0.0)
    if kind == 4:
        d = -k * _turned_sin(u, 0.5, table)
    if kind == 5:
        d = -2 * k * z * y
    if kind == 6:
        d = 1 - tl.exp(-k * y)
    if kind == 7:
        d = sign
    if kind == 8:
        d = tl.where(tl.abs(z) <= 1, one, 0.0)
    if kind == 9:
        d = 2 * z
    if kind == 10:
        d = 3 * z * z
    if kind == 11:
        d = y
    if kind == 12:
        low = z < tl.load(table + _AT_NUMBERS)
        d = tl.where(low, 0.0, 1 / tl.where(low, 1.0, z))
    if kind == 13:
        d = -y * y
    if kind == 14:
        d = tl.where(tl.abs(z) < 1, -sign, 0.0)
    if (kind == 15) | (kind == 17):
        scale = tl.where(kind == 15, 1.0, tl.load(table + _AT_NUMBERS + 2))
        low = tl.where(kind == 15, 1.0, tl.load(table + _AT_NUMBERS + 3))
        d = tl.where(z > 0, scale, y + low)
    if kind == 16:
        d = tl.where(z > 0, one, tl.load(table + _AT_NUMBERS + 1))
    limited = (kind == 1) | (kind == 2) | (kind == 4) | (kind == 6) | (kind == 11)
    bound = tl.load(table + _AT_BOUND)
    free = (tl.abs(z) < bound) & (tl.abs(y) < bound)
    free = free & ((tl.abs(k * z) <= limit) | (limited == 0))
    return tl.where(free, d, 0.0)
