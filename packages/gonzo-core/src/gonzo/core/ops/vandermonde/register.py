"""Schema, shapes and gradient of `vandermonde`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gonzo.core.backends import implementation, recorded
from gonzo.core.ops.library import LIBRARY, forbid_second_derivative, implement

LIBRARY.define(
    "vandermonde(Tensor c, Tensor z, SymInt length, ScalarType dtype, str backend) -> Tensor"
)
LIBRARY.define(
    "vandermonde_backward(Tensor grad, Tensor c, Tensor z, str backend) -> (Tensor, Tensor)"
)


def _forward(c: Tensor, z: Tensor, length: int, dtype: torch.dtype, backend: str) -> Tensor:
    return implementation("vandermonde", backend, z.device).forward(c, z, length, dtype)


def _backward(grad: Tensor, c: Tensor, z: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    return implementation("vandermonde", backend, z.device).backward(grad, c, z)


implement("vandermonde", _forward)
implement("vandermonde_backward", _backward)


@torch.library.register_fake("gonzo::vandermonde", lib=LIBRARY)
def _(c: Tensor, z: Tensor, length: int, dtype: torch.dtype, backend: str) -> Tensor:
    return z.new_empty(z.shape[0], length, dtype=dtype)


@torch.library.register_fake("gonzo::vandermonde_backward", lib=LIBRARY)
def _(grad: Tensor, c: Tensor, z: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    return c.new_empty(c.shape), z.new_empty(z.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    c, z, _, _, backend = inputs
    ctx.save_for_backward(c, z)
    ctx.backend = recorded("vandermonde", backend, z.device)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    dc, dz = torch.ops.gonzo.vandermonde_backward(grad, *ctx.saved_tensors, ctx.backend)
    return dc, dz, None, None, None


torch.library.register_autograd("gonzo::vandermonde", _gradient, setup_context=_setup, lib=LIBRARY)
forbid_second_derivative("vandermonde")
