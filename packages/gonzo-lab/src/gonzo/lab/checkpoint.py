"""Checkpoints: one file, replaced atomically, that proves to be whole before it is used.

The file is what `torch.save` writes followed by the SHA-256 of it. torch does not check the
contents of its archives, so without the digest a flipped bit would become a different model.
"""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any, Protocol

import torch

from gonzo.lab.atomic import write_bytes
from gonzo.lab.errors import LabError

_DIGEST_BYTES = 32


class Stateful(Protocol):
    """Whatever a checkpoint can hold: modules, optimizers, schedulers, samplers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors, numbers, strings and containers of these."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take the state over."""
        ...


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path`, atomically.

    Raises:
        TypeError: `state` holds something that `load` would refuse to unpickle. Said here, at
            the first save, and not when somebody wants to continue.
    """
    _require_plain(state, "checkpoint")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    write_bytes(path, payload + hashlib.sha256(payload).digest())


def load(path: Path, *, way_out: str) -> dict[str, Any]:
    """Read what `save` wrote, onto the CPU, without unpickling anything but plain data.

    Raises:
        LabError: the file is truncated, changed, or not a checkpoint.
    """
    content = path.read_bytes()
    payload, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise LabError(
            f"{path} is damaged (its checksum does not match its {len(content):,} bytes). {way_out}"
        )
    try:
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
        raise LabError(f"{path} is not a checkpoint ({error}). {way_out}") from error


def _require_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _require_plain(item, f"{where}[{index}]")
    elif not isinstance(value, torch.Tensor | int | float | complex | str | bytes | None):
        raise TypeError(
            f"{where} is a {type(value).__name__}, which cannot be read back safely; "
            "a state_dict may hold tensors, numbers, strings and containers of these"
        )
