"""Pruning to a density, in one go or in rounds, without training: SNIP, GraSP, SynFlow and others.

The exponential schedule is that of Tanaka et al. 2020, algorithm 1: after round k of n the share
ρ^(k/n) of the weights is alive.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from torch import nn

from gonzo.pruning.criterion import Criterion
from gonzo.pruning.masks import Masks
from gonzo.pruning.plan import plan_pruning
from gonzo.pruning.rates import Rate, count_to_prune, exact_rate
from gonzo.pruning.selection import prune

Scope = Literal["layer", "global"]
Schedule = Literal["exponential", "linear"]


class LayerCollapseWarning(UserWarning):
    """A whole parameter was pruned, and what follows it may be cut off from the input."""


def prune_at_init(
    model: nn.Module,
    criterion: Criterion,
    density: Rate,
    *,
    rounds: int = 1,
    schedule: Schedule = "exponential",
    scope: Scope = "global",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Masks:
    """Return masks with an exact share of the weights alive, chosen by a criterion alone.

    The paper's ways: `SNIP` and `GraSP` in one round, `SynFlow` in 100. The model is left as it
    was; `masks.apply_(model)` zeroes what is pruned.

    Args:
        model: a model, usually before training.
        criterion: gives scores, anew in each round, for the weights that are left.
        density: what is alive at the end, of the weights that may be pruned: "0.05" for 5 %.
            Exactly floor((1 - density) · n) of n weights are pruned.
        rounds: of scoring and pruning.
        schedule: what is alive after round k of n: ρ^(k/n), or 1 - (1 - ρ) · k/n.
        scope: ranks weights of all parameters together, or within each.
        include: names, modules or globs that are pruned although the rule leaves them out.
        exclude: names, modules or globs that are not pruned.

    Raises:
        ValueError: a density outside (0, 1], fewer than one round, an unknown word, or what
            `plan_pruning` and the criterion refuse.

    Warns:
        LayerCollapseWarning: a parameter has no weight left.
    """
    share = exact_rate(density)
    if share == 0:
        raise ValueError("prune_at_init: expected a density above 0, got 0: nothing would be left")
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise ValueError(f"prune_at_init: expected at least one round, got {rounds!r}")
    if schedule not in ("exponential", "linear"):
        raise ValueError(
            f"prune_at_init: expected the schedule 'exponential' or 'linear', got {schedule!r}"
        )
    if scope not in ("layer", "global"):
        raise ValueError(f"prune_at_init: expected the scope 'layer' or 'global', got {scope!r}")
    masks = Masks.full(model, plan_pruning(model, include=include, exclude=exclude))
    for done in range(1, rounds + 1):
        totals = _totals(masks, scope)
        rates = {
            name: _rate(total, alive, share, done / rounds, schedule)
            for name, (total, alive) in totals.items()
        }
        if not any(rates.values()):
            continue
        scores = criterion.scores(model, masks)
        masks = prune(scores, masks, rates if scope == "layer" else rates["*"], scope=scope)
    collapsed = [name for name in masks if masks.alive_of(name) == 0]
    if collapsed:
        warnings.warn(
            f"{', '.join(collapsed)}: no weight is left at density {float(share):g}; prune less, "
            "with scope='layer', or with SynFlow in 100 rounds",
            LayerCollapseWarning,
            stacklevel=2,
        )
    return masks


def _totals(masks: Masks, scope: Scope) -> dict[str, tuple[int, int]]:
    """Return how many weights there are, and how many alive, of each group that is ranked."""
    if scope == "global":
        return {"*": (masks.total, masks.alive)}
    return {name: (mask.numel(), masks.alive_of(name)) for name, mask in masks.items()}


def _rate(total: int, alive: int, share: Fraction, progress: float, schedule: Schedule) -> Fraction:
    """Return the share of the alive to prune now; exact, so that the count is."""
    last = total - count_to_prune(1 - share, total)
    if progress == 1:
        left = last
    else:
        kept = (
            float(share) ** progress
            if schedule == "exponential"
            else 1 - (1 - float(share)) * progress
        )
        left = min(alive, max(last, math.ceil(kept * total)))
    return Fraction(alive - left, alive) if alive else Fraction(0)
