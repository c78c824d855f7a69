"""Random values of genes, by the rules of a config."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .config import Choice, Number


def draw(rule: Number, shape: tuple[int, ...], generator: Generator, dtype: torch.dtype) -> Tensor:
    """Initial values of a number."""
    device = generator.device
    if rule.std == 0:
        value = min(max(rule.mean, rule.low), rule.high)
        return torch.full(shape, value, dtype=dtype, device=device)
    noise = torch.empty(shape, dtype=dtype, device=device)
    if rule.distribution == "normal":
        noise.normal_(rule.mean, rule.std, generator=generator)
    else:
        noise.uniform_(rule.mean - 2 * rule.std, rule.mean + 2 * rule.std, generator=generator)
    return noise.clamp_(rule.low, rule.high)


def choose(
    rule: Choice,
    names: tuple[str, ...],
    shape: tuple[int, ...],
    generator: Generator,
    *,
    initial: bool = False,
) -> Tensor:
    """Random functions, as int32 positions in `names`; with `initial`, those of a new node."""
    device = generator.device
    if initial and rule.initial != "random":
        return torch.full(shape, names.index(rule.initial), dtype=torch.int32, device=device)
    options = torch.tensor(
        [names.index(name) for name in rule.options], dtype=torch.int32, device=device
    )
    return options[torch.randint(len(options), shape, generator=generator, device=device)]
