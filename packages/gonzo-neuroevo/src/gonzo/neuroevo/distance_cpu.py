"""Compiled distances: both genomes' genes are sorted, so one walk along both aligns them."""

from __future__ import annotations

from torch import Tensor

from gonzo.core.numba_kernels import kernel, run_rows

from .config import NEATConfig
from .distance import FEW_GENES
from .population import Population


def distance(
    population: Population, others: Population, config: NEATConfig, result: Tensor
) -> None:
    """See `gonzo.neuroevo.distance`; fills `result` (R, P)."""
    canonical = config.distance == "canonical"
    coefficients = (float(config.excess), float(config.disjoint), float(config.difference))
    run_rows(
        len(population),
        _distance,
        FEW_GENES,
        canonical,
        *coefficients,
        _arrays(population),
        _arrays(others),
        result.numpy(),
    )


def _arrays(genomes: Population) -> tuple:
    tensors = (
        genomes.node_key,
        genomes.bias,
        genomes.response,
        genomes.time_constant,
        genomes.activation,
        genomes.aggregation,
        genomes.innovation,
        genomes.weight,
        genomes.enabled,
    )
    counts = (genomes.node_mask.sum(1), genomes.connection_mask.sum(1))
    return tuple(t.detach().contiguous().numpy() for t in (*tensors, *counts))


@kernel
def _distance(start, stop, few, canonical, c1, c2, c3, genomes, others, result):
    node, bias, response, time, act, agg, number, weight, enabled, nodes, edges = genomes
    (
        node_,
        bias_,
        response_,
        time_,
        act_,
        agg_,
        number_,
        weight_,
        enabled_,
        nodes_,
        edges_,
    ) = others
    for p in range(start, stop):
        for r in range(len(node_)):
            total = 0.0
            if not canonical:
                i, j, matched, gap = 0, 0, 0, 0.0
                while i < nodes[p] and j < nodes_[r]:
                    if node[p, i] < node_[r, j]:
                        i += 1
                    elif node[p, i] > node_[r, j]:
                        j += 1
                    else:
                        matched += 1
                        gap += abs(bias[p, i] - bias_[r, j])
                        gap += abs(response[p, i] - response_[r, j])
                        gap += abs(time[p, i] - time_[r, j])
                        if act[p, i] != act_[r, j]:
                            gap += 1.0
                        if agg[p, i] != agg_[r, j]:
                            gap += 1.0
                        i += 1
                        j += 1
                unmatched = nodes[p] + nodes_[r] - 2 * matched
                total += (c1 * unmatched + c3 * gap) / max(nodes[p], nodes_[r], 1)
            i, j, matched, gap = 0, 0, 0, 0.0
            flags = 0
            while i < edges[p] and j < edges_[r]:
                if number[p, i] < number_[r, j]:
                    i += 1
                elif number[p, i] > number_[r, j]:
                    j += 1
                else:
                    matched += 1
                    gap += abs(weight[p, i] - weight_[r, j])
                    if enabled[p, i] != enabled_[r, j]:
                        flags += 1
                    i += 1
                    j += 1
            excess = edges[p] - i + edges_[r] - j  # one of the two has ended
            unmatched = edges[p] + edges_[r] - 2 * matched
            genes = max(edges[p], edges_[r])
            if canonical:
                if genes < few:
                    genes = 1
                total = (c1 * excess + c2 * (unmatched - excess)) / genes
                total += c3 * gap / max(matched, 1)
            else:
                total += (c1 * unmatched + c3 * (gap + flags)) / max(genes, 1)
            result[r, p] = total
