"""The first generation: genomes of one plan with random numbers."""

from __future__ import annotations

import torch
from torch import Generator

from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS

from .config import NEATConfig
from .draws import choose, draw
from .genome import Genome
from .mutation import mutate_numbers
from .population import Population


def initial_population(
    inputs: int,
    outputs: int,
    config: NEATConfig,
    generator: Generator,
    *,
    dtype: torch.dtype = torch.float32,
) -> Population:
    """`config.population` genomes on the generator's device.

    Connections of the plan have the innovation numbers 0, 1, … in every genome.
    """
    size, device = config.population, generator.device
    keys = torch.arange(outputs + config.initial_hidden, device=device)
    ends = _plan(inputs, outputs, config)
    source, target = torch.tensor(ends, dtype=torch.int64, device=device).reshape(-1, 2).unbind(1)
    nodes, edges = (size, len(keys)), (size, len(ends))
    genomes = Population(
        inputs,
        outputs,
        node_key=keys.expand(nodes).contiguous(),
        node_mask=torch.ones(nodes, dtype=torch.bool, device=device),
        bias=draw(config.bias, nodes, generator, dtype),
        response=draw(config.response, nodes, generator, dtype),
        time_constant=draw(config.time_constant, nodes, generator, dtype),
        activation=choose(config.activation, ACTIVATIONS, nodes, generator, initial=True),
        aggregation=choose(config.aggregation, AGGREGATIONS, nodes, generator, initial=True),
        innovation=torch.arange(len(ends), device=device).expand(edges).contiguous(),
        source=source.expand(edges).contiguous(),
        target=target.expand(edges).contiguous(),
        connection_mask=torch.ones(edges, dtype=torch.bool, device=device),
        enabled=torch.ones(edges, dtype=torch.bool, device=device),
        weight=draw(config.weight, edges, generator, dtype),
    )
    if config.initial_connections == "partial":
        kept = torch.rand(edges, generator=generator, device=device) < config.initial_fraction
        return genomes.keep(None, kept).crop()
    if config.initial_connections == "one-input":
        chosen = torch.randint(inputs, (size, 1), generator=generator, device=device)
        return genomes.keep(None, genomes.source == -1 - chosen).crop()
    return genomes


def descend(
    ancestor: Genome,
    config: NEATConfig,
    generator: Generator,
    *,
    dtype: torch.dtype = torch.float32,
) -> Population:
    """`config.population` genomes: the ancestor first, then mutants of its numbers."""
    one = Population.from_genomes([ancestor], dtype=dtype, device=generator.device)
    rows = torch.zeros(config.population, dtype=torch.int64, device=generator.device)
    mutants = mutate_numbers(one.select(rows[1:]), config, generator)
    return Population.cat([one, mutants])


def _plan(inputs: int, outputs: int, config: NEATConfig) -> list[tuple[int, int]]:
    if config.initial_connections == "unconnected":
        return []
    hidden = range(outputs, outputs + config.initial_hidden)
    sources = [-1 - i for i in range(inputs)]
    if config.initial_connections == "one-input":
        if not inputs:
            raise ValueError('NEAT: initial_connections="one-input" expects at least one input')
        return [(i, o) for i in sources for o in (*range(outputs), *hidden)]
    direct = [(i, o) for i in sources for o in range(outputs)]
    if not hidden:
        return direct
    layers = [(i, h) for i in sources for h in hidden] + [
        (h, o) for h in hidden for o in range(outputs)
    ]
    return layers + (direct if config.initial_direct else [])
