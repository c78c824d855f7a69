"""The torch library that all ops are registered in.

Inside an op, conjugate with ``conj_physical``: while a compiled graph runs, torch leaves out the
keys that resolve a lazy ``conj``, and the conjugate is silently the number itself.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch

LIBRARY = torch.library.Library("gonzo", "FRAGMENT")


def forbid_second_derivative(op: str) -> None:
    """Make differentiating ``<op>_backward`` an error; torch would warn and go on without it."""

    def refuse(ctx: Any, *grads: object) -> NoReturn:
        raise NotImplementedError(
            f"{op}: second derivatives are not implemented; "
            "call .backward() or torch.autograd.grad(...) without create_graph=True"
        )

    torch.library.register_autograd(f"gonzo::{op}_backward", refuse, lib=LIBRARY)
