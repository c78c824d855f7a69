"""exp, log, tanh and sin for loops of the CPU: in float32 as polynomials that LLVM vectorises.

Numba calls the C library for each element where no vector library of Intel's is installed, and LLVM
then vectorises nothing. Here float32 is reduced to a short interval, whose polynomials interpolate
the function at Chebyshev nodes, with relative errors below 3e-8; float64 calls the C library.

Nothing is reordered or contracted, so an element has the same bits wherever it stands in a row. The
functions of one argument x are for Numba alone, which chooses by the type of x.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from gonzo.core.numba_kernels import kernel

_f = np.float32
_ZERO, _HALF, _ONE, _TWO = _f(0), _f(0.5), _f(1), _f(2)
_LOG2_E = _f(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = _f(0.693145751953125), _f(1.428606820309417e-06)
_INVERSE_PI = _f(0.3183098861837907)
_PI_HIGH, _PI_MIDDLE, _PI_LOW = _f(3.140625), _f(0.0009675025939941406), _f(1.5099580252e-07)
# Adding 1.5 · 2^23 rounds to an integer, which then stands in the last bits.
_ROUND = _f(12582912.0)
_ROUND_BITS = int(_ROUND.view(np.int32))
_ROOT_HALF_BITS = int(_f(0.5**0.5).view(np.int32))
_LOWEST = _f(-80.0)  # further down, products of e^x are denormal and slow
_SATURATED = _f(-20.0)  # e^-20 + 1 is 1
# (e^r - 1 - r) / r² for |r| <= ln 2 / 2
_E0, _E1, _E2 = _f(0.5), _f(0.1666657702559799), _f(0.041666554662050534)
_E3, _E4 = _f(0.008363173074513711), _f(0.001392617611993558)
# (sin √x / √x - 1) / x for √x <= π / 2
_S0, _S1 = _f(-0.16666665963821187), _f(0.008333242135096938)
_S2, _S3 = _f(-0.00019822739488631103), _f(2.634756391811781e-06)
# (artanh √x / √x - 1) / x for √x <= 1/3, and for √x <= (√2 - 1) / (√2 + 1)
_A0, _A1, _A2 = _f(0.3333333366026371), _f(0.1999985316596486), _f(0.14296178997151418)
_A3, _A4 = _f(0.10853287900440187), _f(0.11612164612011674)
_L0, _L1, _L2 = _f(0.3333334251978793), _f(0.1999439028301099), _f(0.14789974695986394)


@kernel(allocates=False)
def _powers32(x):
    """2^n and e^r - 1 with x = n ln 2 + r, for -80 <= x <= 88."""
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    power = np.int32((np.float32(shifted).view(np.int32) - _ROUND_BITS + 127) << 23)
    q = r * r
    p = (_E0 + r * _E1) + q * ((_E2 + r * _E3) + q * _E4)
    return power.view(np.float32), r + q * p


@kernel(allocates=False)
def _exp32(x):
    """e^x for x <= 88; e^-80 below."""
    power, rest = _powers32(x if x > _LOWEST else _LOWEST)
    return power + power * rest


@kernel(allocates=False)
def _expm1_32(x):
    """e^x - 1 for x <= 88, with all digits near 0."""
    power, rest = _powers32(x if x > _LOWEST else _LOWEST)
    return power * rest + (power - _ONE)


@kernel(allocates=False)
def _tanh32(x):
    u = -_TWO * abs(x)
    power, rest = _powers32(u if u > _SATURATED else _SATURATED)
    m = power * rest + (power - _ONE)
    y = -m / (m + _TWO)
    return y if x >= _ZERO else -y


@kernel(allocates=False)
def _log1p_exp32(x):
    """log(1 + e^x) for x <= 0: 2 artanh(e^x / (2 + e^x))."""
    e = _exp32(x)
    s = e / (_TWO + e)
    q = s * s
    p = _A0 + q * (_A1 + q * (_A2 + q * (_A3 + q * _A4)))
    return _TWO * (s + s * q * p)


@kernel(allocates=False)
def _log32(x):
    """Log x for normal x > 0: with x = 2^n m, n ln 2 + 2 artanh((m - 1) / (m + 1))."""
    bits = np.float32(x).view(np.int32)
    shift = np.int32((bits - _ROOT_HALF_BITS) >> 23)
    m = np.int32(bits - (shift << 23)).view(np.float32)
    n = np.float32(shift)
    s = (m - _ONE) / (m + _ONE)
    q = s * s
    t = _TWO * (s + s * q * (_L0 + q * (_L1 + q * _L2)))
    return n * _LN2_HIGH + (n * _LN2_LOW + t)


@kernel(allocates=False)
def _turned_sin32(x, half):
    """(-1)^n sin r with x = (n + half) π + r, for |x| <= 60."""
    shifted = (x * _INVERSE_PI - half) + _ROUND
    n = (shifted - _ROUND) + half
    r = ((x - n * _PI_HIGH) - n * _PI_MIDDLE) - n * _PI_LOW
    q = r * r
    y = r + r * q * (_S0 + q * (_S1 + q * (_S2 + q * _S3)))
    sign = (np.float32(shifted).view(np.int32) & 1) << 31
    return np.int32(np.float32(y).view(np.int32) ^ sign).view(np.float32)


@kernel(allocates=False)
def _sin32(x):
    return _turned_sin32(x, _ZERO)


@kernel(allocates=False)
def _cos32(x):
    return -_turned_sin32(x, _HALF)


@kernel(allocates=False)
def _exp64(x):
    return math.exp(x)


@kernel(allocates=False)
def _expm1_64(x):
    return math.expm1(x)


@kernel(allocates=False)
def _tanh64(x):
    return math.tanh(x)


@kernel(allocates=False)
def _log1p_exp64(x):
    return math.log1p(math.exp(x))


@kernel(allocates=False)
def _log64(x):
    return math.log(x)


@kernel(allocates=False)
def _sin64(x):
    return math.sin(x)


@kernel(allocates=False)
def _cos64(x):
    return math.cos(x)


def exp(x: Any) -> Any:
    """e^x for x <= 88."""
    raise NotImplementedError


def expm1(x: Any) -> Any:
    """e^x - 1 for x <= 88."""
    raise NotImplementedError


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    raise NotImplementedError


def log1p_exp(x: Any) -> Any:
    """log(1 + e^x) for x <= 0."""
    raise NotImplementedError


def log(x: Any) -> Any:
    """The natural logarithm of a normal x > 0."""
    raise NotImplementedError


def sin(x: Any) -> Any:
    """The sine for |x| <= 60."""
    raise NotImplementedError


def cos(x: Any) -> Any:
    """The cosine for |x| <= 60."""
    raise NotImplementedError


def _choose(name: Any, single: Any, double: Any) -> None:
    """Let kernels that call `name` use `single` for float32 and `double` for float64."""

    @overload(name)
    def _(x):
        if x == types.float32:
            return lambda x: single(x)
        return lambda x: double(x)


for _name, _single, _double in (
    (exp, _exp32, _exp64),
    (expm1, _expm1_32, _expm1_64),
    (tanh, _tanh32, _tanh64),
    (log1p_exp, _log1p_exp32, _log1p_exp64),
    (log, _log32, _log64),
    (sin, _sin32, _sin64),
    (cos, _cos32, _cos64),
):
    _choose(_name, _single, _double)
