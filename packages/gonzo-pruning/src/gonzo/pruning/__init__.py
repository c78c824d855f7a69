"""Lottery tickets: found by the paper's protocol, kept in a file, and made fast.

The names load on first use, each with what it needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .early_bird import EarlyBird
    from .lottery import LotteryRun
    from .magnitude import Magnitude
    from .mask_guard import guard_masks
    from .masks import Masks
    from .mode_connectivity import linear_mode_connectivity
    from .plan import plan_pruning
    from .pruning_at_init import prune_at_init
    from .selection import prune
    from .sparse_compiler import compile_sparse
    from .tickets import Ticket
    from .training import Training

_HOME = {
    "EarlyBird": "early_bird",
    "LotteryRun": "lottery",
    "Magnitude": "magnitude",
    "Masks": "masks",
    "Ticket": "tickets",
    "Training": "training",
    "compile_sparse": "sparse_compiler",
    "guard_masks": "mask_guard",
    "linear_mode_connectivity": "mode_connectivity",
    "plan_pruning": "plan",
    "prune": "selection",
    "prune_at_init": "pruning_at_init",
}

__all__ = [
    "EarlyBird",
    "LotteryRun",
    "Magnitude",
    "Masks",
    "Ticket",
    "Training",
    "compile_sparse",
    "guard_masks",
    "linear_mode_connectivity",
    "plan_pruning",
    "prune",
    "prune_at_init",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gonzo.pruning' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gonzo.pruning.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
