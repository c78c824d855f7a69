"""Which implementation of an op runs: the argument, then ``with backend(...)``, then the device.

Every op of `gonzo.core.ops` has a ``reference`` (plain torch, the judge of the others), a ``cpu``
and a ``triton`` implementation, one module each. The choice is made when the op runs, not when it
is traced, so a compiled graph obeys the context it is called in.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

import torch

BACKENDS = ("reference", "cpu", "triton")

_chosen: ContextVar[str] = ContextVar("gonzo_backend", default="")


def check_backend(name: str) -> str:
    """Return `name` if it is a backend, else raise a ``ValueError`` that lists them."""
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; expected one of {', '.join(BACKENDS)}")
    return name


@contextmanager
def backend(name: str) -> Generator[None]:
    """Run every op inside the block, backward passes included, with one backend.

    Args:
        name: ``"reference"``, ``"cpu"`` or ``"triton"``.

    Raises:
        ValueError: `name` is not a backend.
    """
    token = _chosen.set(check_backend(name))
    try:
        yield
    finally:
        _chosen.reset(token)


def implementation(op: str, argument: str, device: torch.device) -> ModuleType:
    """Import and return the module that computes `op`, as `choose` decides."""
    return importlib.import_module(f"gonzo.core.ops.{op}.{choose(op, argument, device)[0]}")


def choose(op: str, argument: str, device: torch.device) -> tuple[str, str]:
    """Return the backend for `op` on `device` and the reason, in words.

    Raises:
        ValueError: the backend asked for does not exist, or cannot run on `device`.
    """
    if argument:
        name, why = check_backend(argument), "the backend argument asks for it"
    elif _chosen.get():
        name, why = _chosen.get(), "the enclosing `with gonzo.core.backend(...)` asks for it"
    else:
        return _default(op, device)
    if name == "cpu" and device.type != "cpu":
        raise ValueError(f"{op}: backend 'cpu' needs tensors on the CPU, got {device}")
    if name == "triton" and (reason := _no_triton(op, device)):
        raise ValueError(f"{op}: {reason}")
    return name, why


def triton_is_interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")


def recorded(op: str, argument: str, device: torch.device) -> str:
    """Return the backend argument for the backward of an op that just ran forward.

    Autograd may run the backward after the enclosing `backend` block has ended, or in a thread that
    does not see it; so the forward's choice is written down. While a compiler traces, nothing has
    run yet: both passes then choose when they run.
    """
    return argument if _is_traced() else choose(op, argument, device)[0]


def explain(op: object, *tensors: object) -> str:
    """Say which backend `op` would use for these arguments, and why.

    Args:
        op: an op of `gonzo.core.ops` (``linear_scan``) or its name.
        *tensors: the arguments of the call; the first tensor's device decides.

    Returns:
        One line, for instance ``linear_scan on cpu: 'cpu', the default for this device``.
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", "")
    if not name or importlib.util.find_spec(f"gonzo.core.ops.{name}") is None:
        raise ValueError(f"{op!r} is not an op of gonzo.core.ops")
    found = [t for t in tensors if isinstance(t, torch.Tensor)]
    device = found[0].device if found else torch.device("cpu")
    chosen, why = choose(name, "", device)
    return f"{name} on {device}: {chosen!r}, {why}"


def _is_traced() -> bool:
    return torch.compiler.is_compiling()


def _default(op: str, device: torch.device) -> tuple[str, str]:
    if device.type == "cpu":
        return "cpu", "the default for this device"
    if reason := _no_triton(op, device):
        return "reference", reason
    return "triton", "the default for this device"


def _no_triton(op: str, device: torch.device) -> str:
    """Why Triton cannot run `op` on `device`; empty where it can."""
    if device.type not in ("cpu", "cuda"):
        return f"there are kernels for cpu and cuda, not for {device.type}"
    if not _exists(f"gonzo.core.ops.{op}.triton"):
        return "there is no triton kernel yet"
    if not _exists("triton"):
        return "Triton is not installed; on Linux, `pip install triton`"
    if device.type == "cpu" and not triton_is_interpreted():
        return (
            "backend 'triton' needs tensors on a GPU, got cpu; to try its kernels without one, "
            "start Python with TRITON_INTERPRET=1 (slow)"
        )
    return ""


@functools.cache
def _exists(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
