"""Crossover of many pairs of parents, their genes aligned by innovation numbers.

A child has the structure of the fitter parent. Of genes that both have, every number comes from
either; one that is disabled in either parent is disabled with probability `disabled`.

Deviation: where both parents' genes are inherited (`equal_parents="both"`) and that would close a
cycle in a feed-forward network, connect two nodes twice or have no room, the child has the
structure of the first parent.

Source:
    Stanley and Miikkulainen (2002), section 3.2 and figure 4.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .config import NEATConfig
from .order import has_cycle
from .population import CONNECTION_FIELDS, KEYS, NODE_FIELDS, PAD, Population

_NUMBERS = ("bias", "response", "time_constant", "activation", "aggregation")


def crossover(
    first: Population,
    second: Population,
    equal: Tensor,
    config: NEATConfig,
    generator: Generator,
    *,
    alone: Tensor | None = None,
) -> tuple[Population, Tensor]:
    """Cross M pairs.

    Args:
        first: the fitter parents, M of them.
        second: the others.
        equal: (M,) bool, the two are equally fit; with `config.equal_parents="both"`, the child
            has the genes of both.
        config: the rules.
        generator: of the coins.
        alone: (M,) bool, there is one parent, given twice, and the child is its copy.

    Returns:
        M children, and (M,) bool: had no room for the genes of both.
    """
    children = _matching(first, second, config, generator, alone)
    refused = torch.zeros_like(equal)
    if config.equal_parents != "both":
        return children, refused
    rows = (equal if alone is None else equal & ~alone).nonzero()[:, 0]
    if not len(rows):
        return children, refused
    both, twice = _union(children.select(rows), second.select(rows))
    bad = twice
    if config.kind == "feed-forward":
        bad = bad | has_cycle(both)
    over = _over(both, config)
    refused[rows] = over & ~bad
    good = ~(bad | over)
    return children.replace_rows(rows[good], both.select(good)).crop(), refused


def _matching(
    first: Population,
    second: Population,
    config: NEATConfig,
    generator: Generator,
    alone: Tensor | None,
) -> Population:
    device = generator.device
    changes: dict[str, Tensor] = {}
    varied = [name for name in _NUMBERS if _varies(config, name)]
    if varied:
        at, both = _align(first.node_key, first.node_mask, second.node_key)
        coins = torch.rand(len(varied), *at.shape, generator=generator, device=device)
        for name, coin in zip(varied, coins, strict=True):
            other = getattr(second, name).gather(1, at)
            changes[name] = torch.where(both & (coin < 0.5), other, getattr(first, name))
    if first.innovation.shape[1]:
        at, both = _align(first.innovation, first.connection_mask, second.innovation)
        coins = torch.rand(2, *at.shape, generator=generator, device=device)
        other = second.weight.gather(1, at)
        changes["weight"] = torch.where(both & (coins[0] < 0.5), other, first.weight)
        if alone is not None:
            both &= ~alone[:, None]
        alive = first.enabled & second.enabled.gather(1, at) | (coins[1] >= config.disabled)
        changes["enabled"] = torch.where(both, alive, first.enabled)
    return first.with_(**changes)


def _varies(config: NEATConfig, name: str) -> bool:
    rule = getattr(config, name)
    if name in ("activation", "aggregation"):
        return len(rule.options) > 1 or (name == "activation" and bool(config.split_activation))
    return not rule.constant


def _align(keys: Tensor, live: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (M, C) in the sorted `others` of the same keys, and where there are such."""
    at = torch.searchsorted(others.contiguous(), keys.contiguous()).clamp_(max=others.shape[1] - 1)
    return at, live & (others.gather(1, at) == keys)


def _union(children: Population, second: Population) -> tuple[Population, Tensor]:
    """Children with the second parents' own genes too, and which have a connection twice."""
    changes: dict[str, Tensor] = {}
    for names, key, mask in (
        (NODE_FIELDS, "node_key", "node_mask"),
        (CONNECTION_FIELDS, "innovation", "connection_mask"),
    ):
        own = getattr(second, mask)
        if getattr(children, key).shape[1]:
            _, common = _align(getattr(second, key), own, getattr(children, key))
            own = own & ~common
        live = torch.cat([getattr(children, mask), own], 1)
        keys = torch.cat([getattr(children, key), getattr(second, key)], 1)
        order = keys.masked_fill(~live, PAD).argsort(dim=1, stable=True)
        for name in names:
            joined = torch.cat([getattr(children, name), getattr(second, name)], 1)
            fill = PAD if name in KEYS else 0
            changes[name] = joined.masked_fill(~live, fill).gather(1, order)
    union = children.with_(**changes).crop()
    ends = (union.source * 2**32 + union.target).masked_fill(~union.connection_mask, PAD)
    ends = ends.sort(dim=1).values
    twice = ((ends[:, 1:] == ends[:, :-1]) & (ends[:, 1:] != PAD)).any(1)
    return union, twice


def _over(population: Population, config: NEATConfig) -> Tensor:
    over = torch.zeros(len(population), dtype=torch.bool, device=population.device)
    if config.max_nodes:
        over |= population.node_mask.sum(1) > config.max_nodes
    if config.max_connections:
        over |= population.connection_mask.sum(1) > config.max_connections
    return over
