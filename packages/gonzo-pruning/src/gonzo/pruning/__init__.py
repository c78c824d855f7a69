"""Lottery tickets: found by the paper's protocol, kept in a file, and made fast.

The names load on first use, each with what it needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .controls import Controls
    from .early_bird import EarlyBird
    from .lottery import LotteryRun
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
    "Controls": "controls",
    "EarlyBird": "early_bird",
    "LotteryRun": "lottery",
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

# Not of this package's dozen, but looked for here.
_ELSEWHERE = {
    "GraSP": "grasp",
    "GradientMagnitude": "gradient_magnitude",
    "LotteryResult": "lottery_result",
    "Magnitude": "magnitude",
    "Movement": "movement",
    "RandomScores": "random_scores",
    "SNIP": "snip",
    "SynFlow": "synflow",
    "Trial": "trials",
    "batch_norm_scales": "channels",
    "channel_weight_masks": "channels",
    "from_torch_prune": "torch_masks",
    "instability": "mode_connectivity",
    "prune_by_magnitude": "selection",
    "remove_torch_prune": "torch_masks",
    "to_torch_prune": "torch_masks",
}

__all__ = [
    "Controls",
    "EarlyBird",
    "LotteryRun",
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
        message = f"module 'gonzo.pruning' has no attribute {name!r}"
        if name in _ELSEWHERE:
            message += f"; from gonzo.pruning.{_ELSEWHERE[name]} import {name}"
        raise AttributeError(message)
    value = getattr(importlib.import_module(f"gonzo.pruning.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
