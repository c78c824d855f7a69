"""Compatibility distance between genomes, aligned by innovation numbers.

    canonical      c1·E/N + c2·D/N + c3·W̄   E excess, D disjoint, W̄ mean weight difference of
                                             matching genes; N genes of the larger genome, or 1
                                             where both have fewer than 20
    neat-python    the same of nodes and connections: (c1·unmatched + c3·Σ differences) / N each,
                   where a node's difference counts bias, response, time constant and functions, a
                   connection's its weight and 1 for another enabled flag

Deviation: neat-python aligns connections by their two ends in its distance and by innovation
numbers in crossover; here both are by innovation numbers.

Source:
    Stanley and Miikkulainen (2002), equation 1; neat-python 2.0.0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .config import NEATConfig
from .population import Population

FEW_GENES = 20


def distance(population: Population, others: Population, config: NEATConfig) -> Tensor:
    """Distances (R, P) float32 of P genomes to R others."""
    shape = (len(others), len(population))
    result = torch.empty(shape, dtype=torch.float32, device=population.device)
    if population.device.type == "cpu":
        from . import distance_cpu

        distance_cpu.distance(population, others, config, result)
        return result
    for row in range(len(others)):
        other = others.select(slice(row, row + 1))
        if config.distance == "canonical":
            result[row] = _canonical(population, other, config)
        else:
            result[row] = _neat_python(population, other, config)
    return result


def _match(keys: Tensor, live: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Which keys (P, C) are among the sorted `others` (1, C'), and where."""
    if not others.shape[1]:
        return torch.zeros_like(live), torch.zeros_like(keys)
    at = torch.searchsorted(others[0].contiguous(), keys.contiguous()).clamp_(
        max=others.shape[1] - 1
    )
    return live & (others[0][at] == keys), at


def _canonical(population: Population, other: Population, config: NEATConfig) -> Tensor:
    live, keys = population.connection_mask, population.innovation
    matched, at = _match(keys, live, other.innovation)
    count, other_count = live.sum(1), other.connection_mask.sum(1)
    last = keys.masked_fill(~live, -1).amax(1) if keys.shape[1] else count - 1
    other_keys = other.innovation.masked_fill(~other.connection_mask, -1)
    other_last = other_keys.amax(1) if other_keys.shape[1] else other_count - 1
    pairs = matched.sum(1)
    excess = (live & (keys > other_last[:, None])).sum(1)
    excess += (other.connection_mask & (other_keys > last[:, None])).sum(1)
    disjoint = count + other_count - 2 * pairs - excess
    genes = torch.maximum(count, other_count)
    genes = torch.where(genes < FEW_GENES, 1, genes)
    gap = (population.weight - other.weight[0][at]).abs().masked_fill(~matched, 0).sum(1)
    mean = gap / pairs.clamp(min=1)
    return (config.excess * excess + config.disjoint * disjoint) / genes + config.difference * mean


def _neat_python(population: Population, other: Population, config: NEATConfig) -> Tensor:
    matched, at = _match(population.node_key, population.node_mask, other.node_key)
    gap = torch.zeros_like(population.bias)
    for name in ("bias", "response", "time_constant"):
        gap += (getattr(population, name) - getattr(other, name)[0][at]).abs()
    for name in ("activation", "aggregation"):
        gap += getattr(population, name) != getattr(other, name)[0][at]
    nodes = _share(matched, gap, population.node_mask, other.node_mask, config)
    matched, at = _match(population.innovation, population.connection_mask, other.innovation)
    if other.weight.shape[1]:
        gap = (population.weight - other.weight[0][at]).abs()
        gap = gap + (population.enabled != other.enabled[0][at])
    else:
        gap = torch.zeros_like(population.weight)
    return nodes + _share(matched, gap, population.connection_mask, other.connection_mask, config)


def _share(
    matched: Tensor, gap: Tensor, live: Tensor, other_live: Tensor, config: NEATConfig
) -> Tensor:
    count, other_count = live.sum(1), other_live.sum(1)
    unmatched = count + other_count - 2 * matched.sum(1)
    total = config.excess * unmatched + config.difference * gap.masked_fill(~matched, 0).sum(1)
    return total / torch.maximum(count, other_count).clamp(min=1)
