"""Mutation of a whole generation: numbers and functions of genes, then nodes and connections.

Structural mutations happen to the rows that a coin picks, all at once. What is new gets its keys
and innovation numbers from `Innovations`, which gives the same ones to the same change in two
genomes of a generation.

Deviation: genes are deleted first and added then, so that new genes stay the last of their row.
Numbers mutate before structure does, so a new gene keeps its first weight for a generation; and in
recurrent networks a new connection may start at an output. neat-python does neither.

Source:
    Stanley and Miikkulainen (2002), sections 3.1 and 3.2.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS

from .config import Choice, NEATConfig, Number
from .draws import choose, draw
from .innovation import Innovations
from .order import closes_cycle
from .population import CONNECTION_FIELDS, Population


class Mutated(NamedTuple):
    """Children after mutation.

    Attributes:
        population: the children.
        refused: how many nodes or connections had no room under `max_nodes`, `max_connections`.
    """

    population: Population
    refused: int


def mutate(
    children: Population, config: NEATConfig, innovations: Innovations, generator: Generator
) -> Mutated:
    """Mutate every genome; `innovations` moves on."""
    children = mutate_numbers(children, config, generator)
    delete_node, delete_edge, add_node, add_edge = _coins(len(children), config, generator)
    children = delete_genes(children, delete_node, delete_edge, generator)
    children, first = split_connections(children, add_node, config, innovations, generator)
    children, second = add_connections(children, add_edge, config, innovations, generator)
    return Mutated(children.crop(), first + second)


def _coins(size: int, config: NEATConfig, generator: Generator) -> list[Tensor]:
    """Rows (M,) bool for: delete a node, delete a connection, add a node, add a connection."""
    rates = (
        config.delete_node,
        config.delete_connection,
        config.add_node,
        config.add_connection,
    )
    device = generator.device
    if not config.single_structural_mutation:
        chance = torch.rand(4, size, generator=generator, device=device)
        return [chance[i] < rate for i, rate in enumerate(rates)]
    chance = torch.rand(size, generator=generator, device=device) * max(1.0, sum(rates))
    edges = itertools.accumulate(rates, initial=0.0)
    return [(chance >= low) & (chance < high) for low, high in itertools.pairwise(edges)]


def mutate_numbers(children: Population, config: NEATConfig, generator: Generator) -> Population:
    """Mutate weights, biases and other numbers, functions, and which connections are enabled."""
    size, device = len(children), generator.device
    weight = _mutate_number(children.weight, config.weight, generator)
    if config.weights_probability < 1:
        changed = torch.rand(size, 1, generator=generator, device=device)
        weight = torch.where(changed < config.weights_probability, weight, children.weight)
    changes = {"weight": weight.masked_fill_(~children.connection_mask, 0)}
    for name in ("bias", "response", "time_constant"):
        rule = getattr(config, name)
        if rule.mutate or rule.replace:
            value = _mutate_number(getattr(children, name), rule, generator)
            changes[name] = value.masked_fill_(~children.node_mask, 0)
    for name, names in (("activation", ACTIVATIONS), ("aggregation", AGGREGATIONS)):
        rule: Choice = getattr(config, name)
        if rule.mutate and len(rule.options) > 1:
            old = getattr(children, name)
            new = choose(rule, names, tuple(old.shape), generator)
            chance = torch.rand(old.shape, generator=generator, device=device)
            changes[name] = torch.where((chance < rule.mutate) & children.node_mask, new, old)
    if config.enabled_mutate:
        chance = torch.rand(children.enabled.shape, generator=generator, device=device)
        # One number decides both: below half the rate it is enabled, below the rate disabled.
        enabled = children.enabled & (chance >= config.enabled_mutate)
        enabled |= chance < config.enabled_mutate / 2
        changes["enabled"] = enabled & children.connection_mask
    return children.with_(**changes)


def _mutate_number(value: Tensor, rule: Number, generator: Generator) -> Tensor:
    chance = torch.rand(value.shape, generator=generator, device=value.device)
    noise = torch.empty_like(value).normal_(generator=generator).mul_(rule.power)
    new = torch.where(chance < rule.mutate, value + noise, value)
    if rule.replace:
        fresh = draw(rule, tuple(value.shape), generator, value.dtype)
        new = torch.where(chance >= 1 - rule.replace, fresh, new)
    return new.clamp_(rule.low, rule.high)


def delete_genes(
    children: Population, node_rows: Tensor, edge_rows: Tensor, generator: Generator
) -> Population:
    """Delete a random hidden node with its connections, and a random connection, in some rows."""
    device = generator.device
    size = len(children)
    chance = torch.rand(2, size, generator=generator, device=device, dtype=torch.float64)
    kept_nodes, kept_edges = children.node_mask, children.connection_mask
    hidden = kept_nodes.sum(1) - children.outputs
    doomed = children.outputs + (chance[0] * hidden).long()
    key = children.node_key.gather(1, doomed.clamp(max=kept_nodes.shape[1] - 1)[:, None])
    gone = (node_rows & (hidden > 0))[:, None]
    kept_nodes = kept_nodes & ~(gone & (children.node_key == key))
    kept_edges = kept_edges & ~(gone & ((children.source == key) | (children.target == key)))
    column = torch.arange(kept_edges.shape[1], device=device)
    doomed = (chance[1] * children.connection_mask.sum(1)).long()
    kept_edges = kept_edges & ~(edge_rows[:, None] & (column == doomed[:, None]))
    return _replace_rows(children, gone[:, 0] | edge_rows, kept_nodes, kept_edges)


def _replace_rows(
    children: Population, rows: Tensor, kept_nodes: Tensor, kept_edges: Tensor
) -> Population:
    """Close the gaps in some rows; sorting only these is what makes deletions cheap."""
    where = rows.nonzero()[:, 0]
    if not len(where):
        return children
    closed = children.select(where).keep(kept_nodes[where], kept_edges[where])
    return children.replace_rows(where, closed)


def split_connections(
    children: Population,
    rows: Tensor,
    config: NEATConfig,
    innovations: Innovations,
    generator: Generator,
) -> tuple[Population, int]:
    """Split a random connection by a new node in some rows.

    The old connection is disabled; the new one into the node weighs 1, the one out of it what the
    old one did.

    Returns:
        The children, and how many had no room.
    """
    device = generator.device
    splittable = children.connection_mask
    if config.split == "enabled":
        splittable = splittable & children.enabled
    nodes, edges = children.node_mask.sum(1), children.connection_mask.sum(1)
    chance = torch.rand(splittable.shape, generator=generator, device=device)
    wanted = rows & splittable.any(1) if splittable.shape[1] else rows & False
    room = _room(nodes + 1, config.max_nodes) & _room(edges + 2, config.max_connections)
    where = (wanted & room).nonzero()[:, 0]
    refused = int((wanted & ~room).sum()) if config.max_nodes or config.max_connections else 0
    if not len(where):
        return children, refused
    old = chance.masked_fill(~splittable, -1)[where].argmax(1)
    source, target = children.source[where, old], children.target[where, old]
    node, into, out = innovations.split(source, target)
    weight = children.weight[where, old]
    dtype = weight.dtype
    count = (len(where),)
    grown = children.resize(children.node_key.shape[1] + 1, children.weight.shape[1] + 2)
    grown = grown.map(lambda _, tensor: tensor.clone())
    grown.enabled[where, old] = False
    activation = choose(config.activation, ACTIVATIONS, count, generator, initial=True)
    if config.split_activation:
        activation = activation.fill_(ACTIVATIONS.index(config.split_activation))
    place = (where, nodes[where])
    grown.node_key[place] = node
    grown.node_mask[place] = True
    grown.bias[place] = 0
    grown.response[place] = _new_response(config, count, generator, dtype)
    grown.time_constant[place] = draw(config.time_constant, count, generator, dtype)
    grown.activation[place] = activation
    grown.aggregation[place] = choose(
        config.aggregation, AGGREGATIONS, count, generator, initial=True
    )
    ones = torch.ones_like(weight)
    _append(grown, (where, edges[where]), into, source, node, ones)
    _append(grown, (where, edges[where] + 1), out, node, target, weight)
    return grown, refused


def _new_response(
    config: NEATConfig, count: tuple[int], generator: Generator, dtype: torch.dtype
) -> Tensor:
    """1 where a split is to leave the function as it is."""
    if config.split_activation:
        return torch.ones(count, dtype=dtype, device=generator.device)
    return draw(config.response, count, generator, dtype)


def add_connections(
    children: Population,
    rows: Tensor,
    config: NEATConfig,
    innovations: Innovations,
    generator: Generator,
) -> tuple[Population, int]:
    """Connect a random source to a random node in some rows, where that is new and allowed.

    Sources are inputs and nodes, but no outputs in feed-forward networks, where a connection that
    closes a cycle (also over disabled ones) is not made.

    Returns:
        The children, and how many had no room.
    """
    device = generator.device
    nodes = children.node_mask.sum(1)
    where = rows.nonzero()[:, 0]
    if not len(where):
        return children, 0
    chance = torch.rand(2, len(where), generator=generator, device=device, dtype=torch.float64)
    acyclic = config.kind == "feed-forward"
    skipped = children.outputs if acyclic else 0
    available = children.inputs + nodes[where] - skipped
    slot = (chance[0] * available).long()
    source_column = torch.where(slot < children.inputs, -1, slot - children.inputs + skipped)
    source_column = source_column.clamp(max=children.node_key.shape[1] - 1)  # where there is none
    target_column = (chance[1] * nodes[where]).long()
    keys = children.node_key[where]
    source = torch.where(
        source_column < 0, -1 - slot, keys.gather(1, source_column.clamp(min=0)[:, None])[:, 0]
    )
    target = keys.gather(1, target_column[:, None])[:, 0]
    part = children.select(where)
    same = (part.source == source[:, None]) & (part.target == target[:, None])
    exists = same.any(1)
    allowed = ~exists & (available > 0)
    if acyclic:
        allowed &= ~closes_cycle(part, source_column, target_column)
    edges = part.connection_mask.sum(1)
    room = _room(edges + 1, config.max_connections)
    refused = int((allowed & ~room).sum()) if config.max_connections else 0
    grown = children.resize(keys.shape[1], children.weight.shape[1] + 1)
    grown = grown.with_(**{name: getattr(grown, name).clone() for name in CONNECTION_FIELDS})
    if config.enable_existing:
        grown.enabled[where, : same.shape[1]] |= same
    made = (allowed & room).nonzero()[:, 0]
    if len(made):
        weight = draw(config.weight, (len(made),), generator, children.weight.dtype)
        source, target = source[made], target[made]
        number = innovations.connect(source, target)
        _append(grown, (where[made], edges[made]), number, source, target, weight)
    return grown, refused


def _append(
    grown: Population,
    place: tuple[Tensor, Tensor],
    innovation: Tensor,
    source: Tensor,
    target: Tensor,
    weight: Tensor,
) -> None:
    grown.innovation[place] = innovation
    grown.source[place] = source
    grown.target[place] = target
    grown.connection_mask[place] = True
    grown.enabled[place] = True
    grown.weight[place] = weight


def _room(count: Tensor, most: int) -> Tensor:
    return count <= most if most else torch.ones_like(count, dtype=torch.bool)
