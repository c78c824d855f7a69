"""Schemas, shapes and gradient of `population_forward`.

``population_forward_inference`` is the same function without a gradient, and quicker to call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gonzo.core.backends import implementation, recorded
from gonzo.core.ops.library import LIBRARY, forbid_second_derivative, implement

_INPUTS = (
    "Tensor inputs, Tensor weight, Tensor bias, Tensor response, Tensor source, Tensor first, "
    "Tensor nodes, Tensor activation, Tensor aggregation, Tensor outputs"
)
LIBRARY.define(f"population_forward({_INPUTS}, str backend) -> Tensor")
LIBRARY.define(f"population_forward_inference({_INPUTS}, str backend) -> Tensor")
LIBRARY.define(
    f"population_forward_backward(Tensor grad, {_INPUTS}, bool input_gradient, str backend)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


def _forward(inputs: Tensor, *arguments: Any) -> Tensor:
    *rest, backend = arguments
    return implementation("population_forward", backend, inputs.device).forward(inputs, *rest)


def _backward(grad: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *rest, backend = arguments
    return implementation("population_forward", backend, grad.device).backward(grad, *rest)


implement("population_forward", _forward)
implement("population_forward_inference", _forward)
implement("population_forward_backward", _backward)


@torch.library.register_fake("gonzo::population_forward_inference", lib=LIBRARY)
@torch.library.register_fake("gonzo::population_forward", lib=LIBRARY)
def _(inputs: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    *_, outputs, _ = rest
    return weight.new_empty(weight.shape[0], inputs.shape[-2], outputs.shape[1])


@torch.library.register_fake("gonzo::population_forward_backward", lib=LIBRARY)
def _(
    grad: Tensor, inputs: Tensor, weight: Tensor, bias: Tensor, response: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *_, input_gradient, _ = rest
    return (
        inputs.new_empty(inputs.shape if input_gradient else (0,)),
        weight.new_empty(weight.shape),
        bias.new_empty(bias.shape),
        response.new_empty(response.shape),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, backend = inputs
    ctx.save_for_backward(*tensors)
    ctx.backend = recorded("population_forward", backend, tensors[0].device)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad
    gradients = torch.ops.gonzo.population_forward_backward(
        grad, *ctx.saved_tensors, wanted[0], ctx.backend
    )
    kept = (g if want else None for g, want in zip(gradients, wanted[:4], strict=True))
    return *kept, *(None,) * 7


torch.library.register_autograd(
    "gonzo::population_forward", _gradient, setup_context=_setup, lib=LIBRARY
)
forbid_second_derivative("population_forward")
