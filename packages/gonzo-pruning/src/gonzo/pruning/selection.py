"""Exact selection: the floor(rate · alive) lowest scores go, ties in order, and nothing else.

Per layer, per group of layers, or over all of them, as in Frankle and Carbin, The Lottery Ticket
Hypothesis (2019), section 1. Nothing is compared with a rounded or interpolated threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Literal

from torch import Tensor

from .masks import Masks
from .plan import unknown_name
from .radix_selection import keep_highest
from .rates import Rate, exact_rate

__all__ = ["prune", "prune_by_magnitude"]


def prune(
    scores: Mapping[str, Tensor],
    masks: Masks,
    rates: Rate | Mapping[str, Rate],
    *,
    scope: Literal["layer", "global"] | Mapping[str, str] = "layer",
) -> Masks:
    """Return the masks without the lowest scores among the alive weights.

    Of every layer or group exactly floor(rate · alive) weights go, in exact arithmetic. Of equal
    scores the earlier goes: by the order of ``masks``, then by flat index. 0.0 equals -0.0, ±inf
    are scores like others, and what pruned weights score is not looked at.

    Args:
        scores: By parameter, in its shape, floating point; higher means keep, so weights with
            their signs are no scores: see `prune_by_magnitude`. The new masks are on their device.
            Those of different precision in one group are compared exactly.
        masks: What is alive now; not changed.
        rates: For all, or by parameter name, such as ``plan.rates``; see `exact_rate`.
        scope: ``"layer"``: every parameter by itself. ``"global"``: all together. Or the name of a
            group for every parameter. A group has one rate.

    Raises:
        TypeError: Scores that are not floating point.
        ValueError: Scores, rates or groups of other parameters than those of ``masks``, scores of
            another shape or without values (on the meta device), a score of an alive weight that is
            NaN, a rate outside [0, 1], or two rates in one group.
    """
    return _prune(scores, masks, rates, scope, magnitude=False)


def prune_by_magnitude(
    weights: Mapping[str, Tensor],
    masks: Masks,
    rates: Rate | Mapping[str, Rate],
    *,
    scope: Literal["layer", "global"] | Mapping[str, str] = "layer",
) -> Masks:
    """Return what `prune` returns for the scores |weight|, which are not stored for it.

    Args:
        weights: By parameter, in its shape, floating point.
        masks: As of `prune`, and so the rest.
        rates: For all, or by parameter name.
        scope: ``"layer"``, ``"global"``, or groups by parameter name.

    Raises:
        TypeError: Weights that are not floating point.
        ValueError: As of `prune`.
    """
    return _prune(weights, masks, rates, scope, magnitude=True)


def _prune(
    scores: Mapping[str, Tensor],
    masks: Masks,
    rates: Rate | Mapping[str, Rate],
    scope: Literal["layer", "global"] | Mapping[str, str],
    magnitude: bool,
) -> Masks:
    _check_scores(scores, masks)
    exact = _exact_rates(rates, masks)
    kept: dict[str, Tensor] = {}
    for names in _groups(masks, scope):
        rate = _one_rate(names, exact)
        group = {name: scores[name].detach() for name in names}
        kept |= keep_highest(group, masks, rate, magnitude=magnitude)
    return Masks._own({name: kept[name] for name in masks})


def _check_scores(scores: Mapping[str, Tensor], masks: Masks) -> None:
    _check_names("scores", scores, masks)
    for name, mask in masks.items():
        score = scores[name]
        if not isinstance(score, Tensor) or not score.is_floating_point():
            got = score.dtype if isinstance(score, Tensor) else type(score).__name__
            raise TypeError(f"the scores of {name}: expected floating point, got {got}")
        if score.is_meta:
            raise ValueError(f"the scores of {name} are on the meta device and have no values")
        if score.shape != mask.shape:
            raise ValueError(
                f"the scores of {name} have shape {tuple(score.shape)}, "
                f"its mask has {tuple(mask.shape)}"
            )


def _check_names(what: str, given: Iterable[str], masks: Masks) -> None:
    given = list(given)
    for name in given:
        if name not in masks:
            raise ValueError(f"{what}: {unknown_name(name, 'the masks', masks)}")
    missing = [name for name in masks if name not in given]
    if missing:
        raise ValueError(f"{what}: none for {', '.join(missing)}, which the masks have")


def _exact_rates(rates: Rate | Mapping[str, Rate], masks: Masks) -> dict[str, Fraction]:
    if not isinstance(rates, Mapping):
        return dict.fromkeys(masks, exact_rate(rates))
    _check_names("rates", rates, masks)
    return {name: exact_rate(rate) for name, rate in rates.items()}


def _groups(
    masks: Masks, scope: Literal["layer", "global"] | Mapping[str, str]
) -> list[tuple[str, ...]]:
    if isinstance(scope, Mapping):
        _check_names("scope", scope, masks)
        members: dict[str, list[str]] = {}
        for name in masks:
            members.setdefault(scope[name], []).append(name)
        return [tuple(names) for names in members.values()]
    if scope == "layer":
        return [(name,) for name in masks]
    if scope == "global":
        return [tuple(masks)] if len(masks) else []
    raise ValueError(
        f"expected the scope 'layer', 'global' or a group for every parameter, got {scope!r}"
    )


def _one_rate(names: tuple[str, ...], rates: Mapping[str, Fraction]) -> Fraction:
    rate = rates[names[0]]
    for name in names:
        if rates[name] != rate:
            raise ValueError(
                f"{names[0]} and {name} are ranked together but have the rates {rate} and "
                f"{rates[name]}; give them one, or scope='layer'"
            )
    return rate
