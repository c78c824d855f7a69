"""The torch library that all ops are registered in.

Inside an op, conjugate with ``conj_physical``: while a compiled graph runs, torch leaves out the
keys that resolve a lazy ``conj``, and the conjugate is silently the number itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from gonzo.core.autocast import outside_autocast

LIBRARY = torch.library.Library("gonzo", "FRAGMENT")


def implement(op: str, function: Callable[..., Any]) -> None:
    """Let `function` compute `op` on every device, in the precision that its tensors have.

    Autocast would reach the matrix products inside an op, in a backward pass under it too.
    """

    @functools.wraps(function)
    def in_its_precision(tensor: Tensor, *rest: Any) -> Any:
        if not torch.is_autocast_enabled(tensor.device.type):  # a context would cost a step 2 µs
            return function(tensor, *rest)
        with outside_autocast(tensor.device):
            return function(tensor, *rest)

    LIBRARY.impl(op, in_its_precision, "CompositeExplicitAutograd")


def forbid_second_derivative(op: str) -> None:
    """Make differentiating ``<op>_backward`` an error; torch would warn and go on without it."""

    def refuse(ctx: Any, *grads: object) -> NoReturn:
        raise NotImplementedError(
            f"{op}: second derivatives are not implemented; "
            "call .backward() or torch.autograd.grad(...) without create_graph=True"
        )

    torch.library.register_autograd(f"gonzo::{op}_backward", refuse, lib=LIBRARY)
