"""One pruning of a lottery run: a trained network's scores, and the masks of the next round."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

from torch import Tensor, nn

from .criterion import Criterion
from .masks import Masks
from .pruning_at_init import LayerCollapseWarning
from .selection import prune

__all__ = ["next_masks", "one_shot_masks", "trained_scores", "warn_of_emptied"]


def trained_scores(
    criterion: Criterion, model: nn.Module, masks: Masks, number: int
) -> dict[str, Tensor]:
    """Return the scores of a trained network, on the CPU.

    Args:
        criterion: What a weight is worth.
        model: Trained.
        masks: Of this round.
        number: Of this round.

    Raises:
        ValueError: A parameter has NaN.
    """
    broken = [name for name, p in model.named_parameters() if bool(p.isnan().any())]
    if broken:
        raise ValueError(
            f"the network of round {number} cannot be pruned: {broken[0]} has NaN after the "
            "training, which diverged; train with a lower learning rate"
        )
    scores = criterion.scores(model, masks)
    return {name: scores[name].detach().cpu().contiguous() for name in masks}


def next_masks(
    scores: Mapping[str, Tensor],
    masks: Masks,
    rates: Mapping[str, Fraction],
    scope: Literal["layer", "global"] | Mapping[str, str],
    number: int,
) -> Masks:
    """Return the masks of round ``number + 1``.

    Args:
        scores: Of round ``number``, as the masks.
        masks: See above.
        rates: By parameter.
        scope: See `prune`.
        number: See above.

    Raises:
        ValueError: See `prune`.
    """
    try:
        return prune(scores, masks, rates, scope=scope)
    except ValueError as error:
        raise ValueError(f"the network of round {number} cannot be pruned: {error}") from error


def warn_of_emptied(masks: Masks, number: int) -> None:
    """Warn of the parameters that have no weight left.

    Args:
        masks: Of a ticket that is to be trained.
        number: Of its round.

    Warns:
        LayerCollapseWarning: There is one.
    """
    emptied = [name for name, mask in masks.items() if mask.numel() and not masks.alive_of(name)]
    if emptied:
        warnings.warn(
            f"round {number} trains a ticket without any weight in {', '.join(emptied)}; prune "
            "less, or with scope='layer'",
            LayerCollapseWarning,
            stacklevel=2,
        )


def one_shot_masks(scores: Mapping[str, Tensor], like: Masks) -> Masks:
    """Return masks drawn at once from a dense network's scores, to the counts of others.

    Args:
        scores: Of the trained dense network.
        like: With as many alive weights in each parameter.
    """
    rates = {
        name: Fraction(mask.numel() - like.alive_of(name), mask.numel())
        for name, mask in like.items()
    }
    full = Masks({name: mask.new_ones(mask.shape) for name, mask in like.items()})
    return prune(scores, full, rates, scope="layer")
