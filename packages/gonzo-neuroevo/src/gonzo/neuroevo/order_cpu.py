"""Compiled loops over genomes: evaluation order, and whether a new edge closes a cycle."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel, run_rows

from .population import Population


def order(population: Population, acyclic: bool) -> tuple[Tensor, ...]:
    """See `gonzo.neuroevo.order.evaluation_order`; not cropped."""
    size, width = population.node_key.shape
    edges = population.weight.shape[1]
    node_gene = torch.zeros(size, width, dtype=torch.int64)
    edge_gene = torch.zeros(size, edges, dtype=torch.int64)
    source = torch.zeros(size, edges, dtype=torch.int32)
    first = torch.empty(size, width + 1, dtype=torch.int32)
    nodes = torch.empty(size, dtype=torch.int32)
    outputs = torch.zeros(size, population.outputs, dtype=torch.int32)
    cyclic = torch.zeros(size, dtype=torch.bool)
    results = (node_gene, edge_gene, source, first, nodes, outputs, cyclic)
    genes = (
        population.node_key,
        population.node_mask,
        population.source,
        population.target,
        population.connection_mask & population.enabled,
    )
    run_rows(
        size,
        _order,
        population.inputs,
        acyclic,
        *(g.contiguous().numpy() for g in genes),
        *(r.numpy() for r in results),
    )
    return results


def closes_cycle(population: Population, source: Tensor, target: Tensor) -> Tensor:
    """Whether the connection from node column `source` (P,) to `target` (P,) closes a cycle.

    A negative source is an input, which closes none. Disabled connections count: a mutation can
    enable them later.
    """
    size = len(population)
    cyclic = torch.empty(size, dtype=torch.bool)
    genes = (
        population.node_key,
        population.node_mask,
        population.source,
        population.target,
        population.connection_mask,
    )
    run_rows(
        size,
        _closes_cycle,
        *(g.contiguous().numpy() for g in genes),
        source.numpy(),
        target.numpy(),
        cyclic.numpy(),
    )
    return cyclic


@kernel
def _column(keys, count, key):
    """Position of `key` in the sorted `keys[:count]`, which hold it."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _order(
    start,
    stop,
    inputs,
    acyclic,
    node_key,
    node_mask,
    source_key,
    target_key,
    live,
    node_gene,
    edge_gene,
    source,
    first,
    nodes,
    outputs,
    cyclic,
):
    width, edges = node_key.shape[1], source_key.shape[1]
    slot = np.empty(edges, np.int64)  # source: an input, or inputs + node column
    target = np.empty(edges, np.int64)
    begin = np.empty(width + 2, np.int64)
    grouped = np.empty(edges, np.int64)  # connection columns by target
    position = np.empty(width, np.int64)  # -1 not met, -2 being walked, else its place
    stack = np.empty(width, np.int64)
    progress = np.empty(width, np.int64)
    for p in range(start, stop):
        count = 0
        while count < width and node_mask[p, count]:
            count += 1
        for n in range(count + 2):
            begin[n] = 0
        for e in range(edges):
            if live[p, e]:
                t = _column(node_key[p], count, target_key[p, e])
                s = source_key[p, e]
                slot[e] = -1 - s if s < 0 else inputs + _column(node_key[p], count, s)
                target[e] = t
                begin[t + 2] += 1
        for n in range(count):
            begin[n + 2] += begin[n + 1]
        for e in range(edges):  # within a node in the order of the genes, on every device
            if live[p, e]:
                t = target[e]
                grouped[begin[t + 1]] = e
                begin[t + 1] += 1
        # now begin[t] … begin[t + 1] are the edges of t
        placed = 0
        if acyclic:
            for n in range(count):
                position[n] = -1
            for output in range(outputs.shape[1]):
                if position[output] != -1:
                    continue
                depth = 0
                stack[0] = output
                progress[output] = begin[output]
                position[output] = -2
                while depth >= 0:
                    n = stack[depth]
                    if progress[n] == begin[n + 1]:
                        position[n] = placed
                        node_gene[p, placed] = n
                        placed += 1
                        depth -= 1
                        continue
                    s = slot[grouped[progress[n]]] - inputs
                    progress[n] += 1
                    if s < 0 or position[s] >= 0:
                        continue
                    if position[s] == -2:
                        cyclic[p] = True
                        continue
                    depth += 1
                    stack[depth] = s
                    progress[s] = begin[s]
                    position[s] = -2
        else:
            placed = count
            for n in range(count):
                position[n] = n
                node_gene[p, n] = n
        written = 0
        for at in range(placed):
            n = node_gene[p, at]
            first[p, at] = written
            for i in range(begin[n], begin[n + 1]):
                e = grouped[i]
                edge_gene[p, written] = e
                s = slot[e]
                source[p, written] = s if s < inputs else inputs + position[s - inputs]
                written += 1
        for at in range(placed, width + 1):
            first[p, at] = written
        nodes[p] = placed
        for output in range(outputs.shape[1]):
            outputs[p, output] = position[output]


@kernel
def _closes_cycle(
    start, stop, node_key, node_mask, source_key, target_key, live, source, target, cyclic
):
    width, edges = node_key.shape[1], source_key.shape[1]
    reached = np.empty(width, np.bool_)
    tail = np.empty(edges, np.int64)
    head = np.empty(edges, np.int64)
    for p in range(start, stop):
        if source[p] < 0 or source[p] == target[p]:
            cyclic[p] = source[p] >= 0
            continue
        count = 0
        while count < width and node_mask[p, count]:
            count += 1
        inner = 0
        for e in range(edges):
            if live[p, e] and source_key[p, e] >= 0:
                tail[inner] = _column(node_key[p], count, source_key[p, e])
                head[inner] = _column(node_key[p], count, target_key[p, e])
                inner += 1
        for n in range(count):
            reached[n] = False
        reached[target[p]] = True
        grew = True
        while grew and not reached[source[p]]:
            grew = False
            for e in range(inner):
                if reached[tail[e]] and not reached[head[e]]:
                    reached[head[e]] = True
                    grew = True
        cyclic[p] = reached[source[p]]
