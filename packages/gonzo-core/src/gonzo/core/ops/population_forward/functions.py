"""The functions that a node of an evolved network may have, by name; its id is its position.

Those of Stanley and Miikkulainen (2002, `neat_sigmoid`) and of neat-python, whose sigmoid, tanh,
sin, gauss and softplus are steeper than the plain ones and are called ``steep_*`` here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

BOUND = 1e18
"""Values and arguments of nodes are clamped to ± this, whose square is finite in float32."""

LIMIT = 60.0
"""Arguments of exp, sigmoid, tanh, sin and softplus are clamped to ± this, after their slope."""

STEEPNESS = {
    "neat_sigmoid": 4.9, "steep_sigmoid": 5.0, "steep_tanh": 2.5, "steep_sin": 5.0,
    "steep_gauss": 5.0, "steep_softplus": 5.0,
}  # fmt: skip
"""The slopes of those activations that are a plain one made steeper."""

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
LEAK, SMALLEST = 0.005, 1e-7


class _Function(NamedTuple):
    """y(z) and dy/dz; the slope is 0 where y does not depend on z because of a clamp."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _clamped(k: float, z: Tensor) -> Tensor:
    return (k * z).clamp(-LIMIT, LIMIT)


def _inside(k: float, z: Tensor) -> Tensor:
    return ((k * z).abs() <= LIMIT).to(z.dtype)


def _sigmoid(k: float) -> _Function:
    def slope(z: Tensor) -> Tensor:
        u = _clamped(k, z)
        return k * torch.sigmoid(u) * torch.sigmoid(-u) * _inside(k, z)

    return _Function(lambda z: torch.sigmoid(_clamped(k, z)), slope)


def _tanh(k: float) -> _Function:
    def slope(z: Tensor) -> Tensor:
        return k * torch.cosh(_clamped(k, z)) ** -2 * _inside(k, z)

    return _Function(lambda z: torch.tanh(_clamped(k, z)), slope)


def _sin(k: float) -> _Function:
    def slope(z: Tensor) -> Tensor:
        return k * torch.cos(_clamped(k, z)) * _inside(k, z)

    return _Function(lambda z: torch.sin(_clamped(k, z)), slope)


def _gauss(k: float) -> _Function:
    return _Function(lambda z: torch.exp(-k * z * z), lambda z: -2 * k * z * torch.exp(-k * z * z))


def _softplus(k: float) -> _Function:
    def value(z: Tensor) -> Tensor:
        u = _clamped(k, z)
        return torch.logaddexp(u, torch.zeros_like(u)) / k

    return _Function(value, lambda z: torch.sigmoid(_clamped(k, z)) * _inside(k, z))


def _elu(scale: float, alpha: float) -> _Function:
    def value(z: Tensor) -> Tensor:
        return scale * torch.where(z > 0, z, alpha * torch.expm1(z.clamp(max=0)))

    def slope(z: Tensor) -> Tensor:
        return scale * torch.where(z > 0, 1.0, alpha * torch.exp(z.clamp(max=0)))

    return _Function(value, slope)


def _inv(z: Tensor) -> Tensor:
    return torch.where(z == 0, 0.0, 1 / torch.where(z == 0, 1.0, z))


_FUNCTIONS = {
    "identity": _Function(lambda z: z, torch.ones_like),
    "sigmoid": _sigmoid(1.0),
    "tanh": _tanh(1.0),
    "relu": _Function(torch.relu, lambda z: (z > 0).to(z.dtype)),
    "sin": _sin(1.0),
    "gauss": _gauss(1.0),
    "softplus": _softplus(1.0),
    "abs": _Function(torch.abs, torch.sgn),
    "clamped": _Function(lambda z: z.clamp(-1, 1), lambda z: (z.abs() <= 1).to(z.dtype)),
    "square": _Function(lambda z: z * z, lambda z: 2 * z),
    "cube": _Function(lambda z: z * z * z, lambda z: 3 * z * z),
    "exp": _Function(
        lambda z: torch.exp(_clamped(1.0, z)),
        lambda z: torch.exp(_clamped(1.0, z)) * _inside(1.0, z),
    ),
    "log": _Function(
        lambda z: torch.log(z.clamp(min=SMALLEST)),
        lambda z: (z >= SMALLEST).to(z.dtype) / z.clamp(min=SMALLEST),
    ),
    "inv": _Function(_inv, lambda z: -_inv(z) * _inv(z)),
    "hat": _Function(
        lambda z: torch.relu(1 - z.abs()), lambda z: -torch.sgn(z) * (z.abs() < 1).to(z.dtype)
    ),
    "elu": _elu(1.0, 1.0),
    "lelu": _Function(
        lambda z: torch.where(z > 0, z, LEAK * z),
        lambda z: torch.where(z > 0, torch.ones_like(z), LEAK),
    ),
    "selu": _elu(SELU_SCALE, SELU_ALPHA),
    "neat_sigmoid": _sigmoid(STEEPNESS["neat_sigmoid"]),
    "steep_sigmoid": _sigmoid(STEEPNESS["steep_sigmoid"]),
    "steep_tanh": _tanh(STEEPNESS["steep_tanh"]),
    "steep_sin": _sin(STEEPNESS["steep_sin"]),
    "steep_gauss": _gauss(STEEPNESS["steep_gauss"]),
    "steep_softplus": _softplus(STEEPNESS["steep_softplus"]),
}

ACTIVATIONS: tuple[str, ...] = tuple(_FUNCTIONS)
"""Names of activations; the position of a name is its id."""

AGGREGATIONS: tuple[str, ...] = ("sum", "product", "max", "min", "maxabs", "median", "mean")
"""Names of aggregations; the position of a name is its id."""


def activate(name: str, z: Tensor) -> Tensor:
    """The activation `name` of each element of `z`, floating point of any shape.

    Raises:
        ValueError: there is no activation of that name.
    """
    return _function(name).value(z)


def slope(name: str, z: Tensor) -> Tensor:
    """The derivative of the activation `name` at each element of `z`; 0 where it is clamped.

    Raises:
        ValueError: there is no activation of that name.
    """
    return _function(name).slope(z)


def aggregate(name: str, values: Tensor) -> Tensor:
    """Bring the values (…, n) that enter a node together, along the last dimension: (…,).

    Of nothing it is 0, and 1 for ``product``. A NaN among the values gives NaN. ``maxabs`` is the
    value of largest magnitude with its sign, the first of equals; ``median`` of an even number is
    the mean of the middle two.

    Raises:
        ValueError: there is no aggregation of that name.
    """
    if name not in AGGREGATIONS:
        raise ValueError(f"unknown aggregation {name!r}; expected one of {', '.join(AGGREGATIONS)}")
    count = values.shape[-1]
    if name == "product":
        return values.prod(-1)
    if name == "sum" or count == 0:
        return values.sum(-1)
    if name == "mean":
        return values.mean(-1)
    return values.gather(-1, picked(name, values)).mean(-1)


def picked(name: str, values: Tensor) -> Tensor:
    """Where ``max``, ``min``, ``maxabs`` and ``median`` find their value: int64 (…, 1 or 2)."""
    if name == "median":
        order = values.argsort(dim=-1, stable=True)
        count = values.shape[-1]
        middle = order[..., (count - 1) // 2 : count // 2 + 1]
        broken = values.isnan()
        found = broken.to(torch.uint8).argmax(-1, keepdim=True)
        return torch.where(broken.any(-1, keepdim=True), found, middle)
    if name == "min":
        return values.argmin(-1, keepdim=True)
    return (values.abs() if name == "maxabs" else values).argmax(-1, keepdim=True)


def _function(name: str) -> _Function:
    if name not in _FUNCTIONS:
        raise ValueError(f"unknown activation {name!r}; expected one of {', '.join(ACTIVATIONS)}")
    return _FUNCTIONS[name]
