"""Schema, shapes and gradient of `long_conv`.

The op has one row of taps per channel: tap i has lag ``i - ahead``, so the first `ahead` of them
look into the future.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gonzo.core.backends import implementation, recorded
from gonzo.core.ops.library import LIBRARY, forbid_second_derivative, implement

LIBRARY.define("long_conv(Tensor u, Tensor taps, SymInt ahead, str backend) -> Tensor")
LIBRARY.define(
    "long_conv_backward(Tensor grad, Tensor u, Tensor taps, SymInt ahead, str backend) "
    "-> (Tensor, Tensor)"
)


def _forward(u: Tensor, taps: Tensor, ahead: int, backend: str) -> Tensor:
    module = implementation("long_conv", backend, u.device)
    return _laid_out_like(u, module.forward(u, taps, ahead)) if u.numel() else torch.empty_like(u)


def _backward(
    grad: Tensor, u: Tensor, taps: Tensor, ahead: int, backend: str
) -> tuple[Tensor, Tensor]:
    module = implementation("long_conv", backend, u.device)
    if not u.numel():
        return torch.empty_like(u), taps.new_zeros(taps.shape)
    du, dtaps = module.backward(grad, u, taps, ahead)
    return _laid_out_like(u, du), dtaps


def _laid_out_like(u: Tensor, result: Tensor) -> Tensor:
    """A layer hands in a transposed (batch, time, d); what follows wants it back in that order."""
    order = torch.empty_like(u, device="meta").stride()
    return result if result.stride() == order else torch.empty_like(u).copy_(result)


implement("long_conv", _forward)
implement("long_conv_backward", _backward)


@torch.library.register_fake("gonzo::long_conv", lib=LIBRARY)
def _(u: Tensor, taps: Tensor, ahead: int, backend: str) -> Tensor:
    return torch.empty_like(u)


@torch.library.register_fake("gonzo::long_conv_backward", lib=LIBRARY)
def _(grad: Tensor, u: Tensor, taps: Tensor, ahead: int, backend: str) -> tuple[Tensor, Tensor]:
    return torch.empty_like(u), taps.new_empty(taps.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    u, taps, ctx.ahead, backend = inputs
    ctx.save_for_backward(u, taps)
    ctx.backend = recorded("long_conv", backend, u.device)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    du, dtaps = torch.ops.gonzo.long_conv_backward(grad, *ctx.saved_tensors, ctx.ahead, ctx.backend)
    return du, dtaps, None, None


torch.library.register_autograd("gonzo::long_conv", _gradient, setup_context=_setup, lib=LIBRARY)
forbid_second_derivative("long_conv")
