"""Schemas, shapes and gradient of `ssm_scan`.

``ssm_scan_inference`` is the same function without a gradient, and quicker to call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gonzo.core.backends import implementation, recorded
from gonzo.core.ops.library import LIBRARY, forbid_second_derivative, implement

_INPUTS = "Tensor u, Tensor state, Tensor system, Tensor? lengths, str backend"
LIBRARY.define(f"ssm_scan({_INPUTS}) -> (Tensor, Tensor)")
LIBRARY.define(f"ssm_scan_inference({_INPUTS}) -> (Tensor, Tensor)")
LIBRARY.define(
    f"ssm_scan_backward(Tensor grad_y, Tensor grad_state, {_INPUTS}) -> (Tensor, Tensor, Tensor)"
)


def _forward(
    u: Tensor, state: Tensor, system: Tensor, lengths: Tensor | None, backend: str
) -> tuple[Tensor, Tensor]:
    return implementation("ssm_scan", backend, u.device).forward(u, state, system, lengths)


def _backward(
    grad_y: Tensor, grad_state: Tensor, u: Tensor, *inputs: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *tensors, backend = inputs
    module = implementation("ssm_scan", backend, u.device)
    return module.backward(grad_y, grad_state, u, *tensors)


implement("ssm_scan", _forward)
implement("ssm_scan_inference", _forward)
implement("ssm_scan_backward", _backward)


@torch.library.register_fake("gonzo::ssm_scan_inference", lib=LIBRARY)
@torch.library.register_fake("gonzo::ssm_scan", lib=LIBRARY)
def _(
    u: Tensor, state: Tensor, system: Tensor, lengths: Tensor | None, backend: str
) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), state.new_empty(state.shape)


@torch.library.register_fake("gonzo::ssm_scan_backward", lib=LIBRARY)
def _(
    grad_y: Tensor, grad_state: Tensor, u: Tensor, state: Tensor, system: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return u.new_empty(u.shape), state.new_empty(state.shape), system.new_empty(system.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, backend = inputs
    ctx.save_for_backward(*tensors)
    ctx.backend = recorded("ssm_scan", backend, tensors[0].device)


def _gradient(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor | None, ...]:
    grads = torch.ops.gonzo.ssm_scan_backward(grad_y, grad_state, *ctx.saved_tensors, ctx.backend)
    return *grads, None, None


torch.library.register_autograd("gonzo::ssm_scan", _gradient, setup_context=_setup, lib=LIBRARY)
forbid_second_derivative("ssm_scan")
