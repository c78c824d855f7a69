"""What Triton kernels share: how their configuration is chosen, and the one way they are launched.

Every launch goes through `launch`. That selects the device, and lets two things happen without a
GPU: Triton's interpreter (``TRITON_INTERPRET=1``) can be led through every configuration, and
`recorded_launches` notes what would be launched, which is then compiled ahead of time for GPUs that
are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from gonzo.core.backends import triton_is_interpreted

# Written out, since Triton 3.10 turns it off by default.
_OPTIONS = {"enable_fp_fusion": True}

_recording: ContextVar[list[Launch] | None] = ContextVar("gonzo_recording", default=None)
_configuration: ContextVar[int] = ContextVar("gonzo_configuration", default=0)


@dataclass(frozen=True)
class Launch:
    """One launch: the kernel, its arguments by name, and options of the compiler."""

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, Any]


def tuned(configs: Sequence[triton.Config], key: Sequence[str]) -> Callable[[Any], Any]:
    """Choose among `configs` by measurement when a kernel first meets a new value of `key`.

    A kernel tuned like this must give the same result however often it runs: it may not add to what
    it finds in memory.

    Args:
        configs: at least one; the first is the one to interpret by default.
        key: names of the arguments that a choice depends on.
    """
    return triton.autotune(configs=list(configs), key=list(key))


def launch(kernel: Any, grid: Any, *arguments: Any, **constants: Any) -> None:
    """Launch `kernel` on the device of its first tensor.

    Args:
        kernel: a ``triton.jit`` function, perhaps `tuned`.
        grid: sizes, or a function of the constants that gives them.
        *arguments: tensors and numbers, in order.
        **constants: compile-time constants by name, and options such as ``num_warps``.
    """
    if (recording := _recording.get()) is not None:
        recording += _described(kernel, arguments, constants)
        return
    configs = getattr(kernel, "configs", [])
    if configs and triton_is_interpreted():
        constants |= configs[_configuration.get() % len(configs)].all_kwargs()
        kernel = kernel.fn
    device = next(a.device for a in arguments if isinstance(a, Tensor))
    with torch.cuda.device(device if device.type == "cuda" else -1):
        kernel[grid](*arguments, **constants, **_OPTIONS)


@contextmanager
def interpreted_configuration(index: int) -> Generator[None]:
    """Let the interpreter run the configuration `index` (modulo their number) of tuned kernels."""
    token = _configuration.set(index)
    try:
        yield
    finally:
        _configuration.reset(token)


@contextmanager
def recorded_launches() -> Generator[list[Launch]]:
    """Note launches instead of doing them; of tuned kernels, one for each configuration.

    Tensors may lie on the meta device: nothing reads them.
    """
    launches: list[Launch] = []
    token = _recording.set(launches)
    try:
        yield launches
    finally:
        _recording.reset(token)


def _described(
    kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any]
) -> Generator[Launch]:
    for config in getattr(kernel, "configs", None) or [triton.Config({})]:
        chosen = config.all_kwargs() if hasattr(kernel, "configs") else {}
        named = dict(zip(kernel.arg_names, arguments, strict=False)) | constants | chosen
        options = {name: named.pop(name) for name in list(named) if name not in kernel.arg_names}
        missing = [name for name in kernel.arg_names if name not in named]
        if missing:
            raise TypeError(f"{kernel} was launched without {', '.join(missing)}")
        inner = kernel.fn if hasattr(kernel, "configs") else kernel
        yield Launch(inner, named, options | _OPTIONS)
