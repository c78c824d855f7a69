"""Gradient descent on the weights of many networks of different topologies at once.

Every network has a loss of its own. Adam works element by element and the gradient of the losses'
sum with respect to a network's weights is that of its own loss, so networks do not see each other:
what one becomes is the same to the last bit alone and among others.

    m ← β₁ m + (1 - β₁) g,   v ← β₂ v + (1 - β₂) g²,   w ← w - η m̂ / (√v̂ + ε)

Source:
    Kingma and Ba: Adam (2015), algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .phenotypes import Networks
from .population import Population
from .row_sums import row_sums

__all__ = ["FineTuned", "fine_tune", "mean_squared_error"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class FineTuned(NamedTuple):
    """What `fine_tune` returns.

    Attributes:
        population: the genomes with their best weights and biases.
        before: (P,) losses of the genomes as they came.
        after: (P,) losses of `population`, never above `before`.
    """

    population: Population
    before: Tensor
    after: Tensor


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of each network over samples and outputs: (P, S, O) and (S, O) → (P,)."""
    if targets.shape not in (outputs.shape, outputs.shape[1:]):
        hint = "; did you mean y[:, None]?" if targets.ndim == 1 else ""
        raise ValueError(
            f"expected targets of shape {tuple(outputs.shape[1:])} (samples, outputs), got "
            f"{tuple(targets.shape)}{hint}"
        )
    error = (outputs - targets).flatten(1)
    return row_sums(error * error) / error.shape[1]


def fine_tune(
    networks: Networks,
    x: Tensor,
    y: Tensor,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = mean_squared_error,
    steps: int = 100,
    learning_rate: float = 0.01,
    response: bool = False,
    bounds: tuple[float, float] = (-30.0, 30.0),
) -> FineTuned:
    """Train the weights and biases of P networks, each for itself, and keep the best of each.

    ``fine_tune(networks(population), x, y).population`` goes on evolving, with the same keys and
    innovation numbers. Only connections that are enabled and lead to an output are trained. A
    network whose loss or gradient is not finite keeps the best it had before.

    Args:
        networks: of P genomes, of any kind; recurrent ones are trained through their ticks.
        x: (S, inputs) for all networks, or (P, S, inputs).
        y: targets, whatever `loss` wants; (S, outputs) for the default.
        loss: of outputs (P, S, outputs) and `y`, (P,) to be minimised. A network's loss must depend
            on its own outputs alone.
        steps: how often the weights change.
        learning_rate: η.
        response: whether the nodes' responses are trained, too.
        bounds: smallest and largest value of what is trained.

    Raises:
        ValueError: fewer than 0 steps, a learning rate not above 0, bounds that are not in order,
            or a loss of another shape.
    """
    if steps < 0 or not 0 < learning_rate < math.inf or not bounds[0] < bounds[1]:
        raise ValueError(
            "fine_tune: expected steps of at least 0, a learning_rate above 0 and bounds in order, "
            f"got {steps}, {learning_rate} and {bounds}"
        )
    x, y = (_like(networks.weight, data) for data in (x, y))
    start = (networks.weight, networks.bias, networks.response)
    values = [each.detach().clone() for each in start]
    trained = values if response else values[:2]
    moments = [[torch.zeros_like(each), torch.zeros_like(each)] for each in trained]
    best = [each.clone() for each in values]
    before = least = torch.empty(0)
    for step in range(steps + 1):
        with torch.enable_grad():
            leaves = [each.requires_grad_() for each in trained]
            weight, bias, responses = [*leaves, *values[len(leaves) :]]
            losses = _losses(networks.with_parameters(weight, bias, responses), x, y, loss)
            gradients = torch.autograd.grad(losses.sum(), leaves) if step < steps else ()
        losses = losses.detach()
        if step == 0:
            before = least = losses
        else:
            better = (losses < least) | (least.isnan() & ~losses.isnan())
            least = losses.where(better, least)
            best = [
                new.detach().where(better[:, None], old)
                for new, old in zip(values, best, strict=True)
            ]
        trained = [
            _adam(leaf.detach(), gradient, moment, step + 1, learning_rate).clamp_(*bounds)
            for leaf, gradient, moment in zip(leaves, gradients, moments, strict=False)
        ]
        values = [*trained, *values[len(trained) :]]
    tuned = networks.with_parameters(*best).population()
    return FineTuned(tuned, before, least)


def _losses(
    networks: Networks, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    losses = loss(networks(x), y)
    if losses.shape != (len(networks),):
        raise ValueError(
            f"fine_tune: expected a loss of shape ({len(networks)},), one for each network, got "
            f"{tuple(losses.shape)}"
        )
    return losses


def _adam(
    value: Tensor, gradient: Tensor, moments: Sequence[Tensor], step: int, rate: float
) -> Tensor:
    """One step. Plain additions, products, quotients and roots: each is rounded alone, everywhere.

    Fused forms, as in torch.optim, round otherwise in the last few elements of an array.
    """
    first, second = moments
    first.mul_(_BETA1).add_(gradient * (1 - _BETA1))
    second.mul_(_BETA2).add_(gradient * gradient * (1 - _BETA2))
    root = (second / (1 - _BETA2**step)).sqrt_().add_(_EPSILON)
    return value - first / (1 - _BETA1**step) / root * rate


def _like(weight: Tensor, data: Tensor) -> Tensor:
    """Samples on the networks' device; classes stay integers."""
    return data.to(weight.device, weight.dtype if data.is_floating_point() else None)
