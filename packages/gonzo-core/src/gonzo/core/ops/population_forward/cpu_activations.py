"""Activations and their slopes over a row of samples, for loops of the CPU.

`functions` has the definitions. Each loop has no branch that LLVM could not turn into a selection,
so it is vectorised; ids of functions that differ by a slope alone share a loop.
"""

from __future__ import annotations

import numpy as np

from gonzo.core.numba_kernels import kernel

from .cpu_elementary import cos, exp, expm1, log, log1p_exp, sin, tanh
from .functions import ACTIVATIONS, BOUND, LEAK, LIMIT, SELU_ALPHA, SELU_SCALE, SMALLEST, STEEPNESS

_K = np.array([STEEPNESS.get(name, 1.0) for name in ACTIVATIONS])
_KIND = np.array(
    [ACTIVATIONS.index(name.removeprefix("steep_").removeprefix("neat_")) for name in ACTIVATIONS]
)
_SIGMOID, _TANH, _RELU, _SIN, _GAUSS, _SOFTPLUS, _ABS, _CLAMPED = range(1, 9)
_SQUARE, _CUBE, _EXP, _LOG, _INV, _HAT, _ELU, _LELU, _SELU = range(9, 18)


@kernel(allocates=False)
def activate_row(name, rows, at, width):
    """Replace rows[at, :width] by the value of activation `name` there, clamped."""
    number = rows.dtype.type
    kind, k = _KIND[name], number(_K[name])
    zero, one, bound, limit = number(0), number(1), number(BOUND), number(LIMIT)
    if kind == _SIGMOID:
        for i in range(width):
            u = k * rows[at, i]
            u = u if u < limit else limit
            rows[at, i] = one / (one + exp(-(u if u > -limit else -limit)))
    elif kind == _TANH:
        for i in range(width):
            rows[at, i] = tanh(k * rows[at, i])
    elif kind == _RELU:
        for i in range(width):
            z = rows[at, i]
            rows[at, i] = z if z > zero else zero
    elif kind == _SIN:
        for i in range(width):
            u = k * rows[at, i]
            u = u if u < limit else limit
            rows[at, i] = sin(u if u > -limit else -limit)
    elif kind == _GAUSS:
        for i in range(width):
            z = rows[at, i]
            rows[at, i] = exp(-k * z * z)
    elif kind == _SOFTPLUS:
        for i in range(width):
            u = k * rows[at, i]
            u = u if u < limit else limit
            u = u if u > -limit else -limit
            rows[at, i] = ((u if u > zero else zero) + log1p_exp(-abs(u))) / k
    elif kind == _ABS:
        for i in range(width):
            rows[at, i] = abs(rows[at, i])
    elif kind == _CLAMPED:
        for i in range(width):
            z = rows[at, i]
            z = z if z < one else one
            rows[at, i] = z if z > -one else -one
    elif kind == _SQUARE:
        for i in range(width):
            y = rows[at, i] * rows[at, i]
            rows[at, i] = y if y < bound else bound
    elif kind == _CUBE:
        for i in range(width):
            y = rows[at, i] * rows[at, i] * rows[at, i]
            y = y if y < bound else bound
            rows[at, i] = y if y > -bound else -bound
    elif kind == _EXP:
        for i in range(width):
            u = rows[at, i]
            u = u if u < limit else limit
            y = exp(u if u > -limit else -limit)
            rows[at, i] = y if y < bound else bound
    elif kind == _LOG:
        smallest = number(SMALLEST)
        for i in range(width):
            z = rows[at, i]
            rows[at, i] = log(z if z > smallest else smallest)
    elif kind == _INV:
        for i in range(width):
            z = rows[at, i]
            y = one / z if z != zero else zero
            y = y if y < bound else bound
            rows[at, i] = y if y > -bound else -bound
    elif kind == _HAT:
        for i in range(width):
            y = one - abs(rows[at, i])
            rows[at, i] = y if y > zero else zero
    elif kind in (_ELU, _SELU):
        scale = number(SELU_SCALE) if kind == _SELU else one
        alpha = number(SELU_SCALE * SELU_ALPHA) if kind == _SELU else one
        for i in range(width):
            z = rows[at, i]
            y = scale * z if z > zero else alpha * expm1(z if z < zero else zero)
            rows[at, i] = y if y < bound else bound
    elif kind == _LELU:
        leak = number(LEAK)
        for i in range(width):
            z = rows[at, i]
            rows[at, i] = z if z > zero else leak * z


@kernel(allocates=False)
def slope_row(name, z, rows, at, grads, to, width):
    """Multiply grads[to, :width] by dy/dz, from arguments z and values y = rows[at].

    Where a clamp holds z or y, it becomes 0.
    """
    number = rows.dtype.type
    kind, k = _KIND[name], number(_K[name])
    zero, one, two, bound = number(0), number(1), number(2), number(BOUND)
    limit = number(LIMIT)
    for i in range(width):
        free = (abs(z[i]) < bound) & (abs(rows[at, i]) < bound)
        grads[to, i] = grads[to, i] if free else zero
    if kind in (_SIGMOID, _TANH, _SIN, _SOFTPLUS, _EXP):
        for i in range(width):
            grads[to, i] = grads[to, i] if abs(k * z[i]) <= limit else zero
    if kind == _SIGMOID:
        for i in range(width):
            y = rows[at, i]
            grads[to, i] *= k * y * (one - y)
    elif kind == _TANH:
        for i in range(width):
            y = rows[at, i]
            grads[to, i] *= k * (one - y) * (one + y)
    elif kind == _RELU:
        for i in range(width):
            grads[to, i] = grads[to, i] if z[i] > zero else zero
    elif kind == _SIN:
        for i in range(width):
            u = k * z[i]
            u = u if u < limit else limit
            grads[to, i] *= k * cos(u if u > -limit else -limit)
    elif kind == _GAUSS:
        for i in range(width):
            grads[to, i] *= -two * k * z[i] * rows[at, i]
    elif kind == _SOFTPLUS:
        for i in range(width):
            u = k * z[i]
            u = u if u < limit else limit
            grads[to, i] *= one / (one + exp(-(u if u > -limit else -limit)))
    elif kind == _ABS:
        for i in range(width):
            g = grads[to, i] if z[i] != zero else zero
            grads[to, i] = g if z[i] > zero else -g
    elif kind == _CLAMPED:
        for i in range(width):
            grads[to, i] = grads[to, i] if abs(z[i]) <= one else zero
    elif kind == _SQUARE:
        for i in range(width):
            grads[to, i] *= two * z[i]
    elif kind == _CUBE:
        three = number(3)
        for i in range(width):
            grads[to, i] *= three * z[i] * z[i]
    elif kind == _EXP:
        for i in range(width):
            grads[to, i] *= rows[at, i]
    elif kind == _LOG:
        smallest = number(SMALLEST)
        for i in range(width):
            inside = z[i] >= smallest
            grads[to, i] = grads[to, i] / z[i] if inside else zero
    elif kind == _INV:
        for i in range(width):
            grads[to, i] *= -rows[at, i] * rows[at, i]
    elif kind == _HAT:
        for i in range(width):
            g = grads[to, i] if (abs(z[i]) < one) & (z[i] != zero) else zero
            grads[to, i] = -g if z[i] > zero else g
    elif kind in (_ELU, _SELU):
        scale = number(SELU_SCALE) if kind == _SELU else one
        alpha = number(SELU_SCALE * SELU_ALPHA) if kind == _SELU else one
        for i in range(width):
            low = alpha * exp(z[i] if z[i] < zero else zero)
            grads[to, i] *= scale if z[i] > zero else low
    elif kind == _LELU:
        leak = number(LEAK)
        for i in range(width):
            grads[to, i] *= one if z[i] > zero else leak
