"""Arithmetic in the precision that its tensors have, whatever autocast would make of it."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch


def outside_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast for `device`; nothing where there is none to leave."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return contextlib.nullcontext()
