"""y = f(b + r · ⊕ w x), node after node, as it is written: the judge of the other backends.

Its forward is plain torch, which autograd can follow too; its backward is the chain rule by hand.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .functions import ACTIVATIONS, AGGREGATIONS, BOUND, activate, aggregate, picked, slope


class _Node(NamedTuple):
    """What is known of one node of one network: its edges, and (S,) values on the way."""

    edges: slice
    sources: list[int]
    entering: Tensor  # weight times value, (S, edges)
    aggregated: Tensor
    argument: Tensor
    unclamped: Tensor
    value: Tensor


def forward(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor,
    response: Tensor,
    source: Tensor,
    first: Tensor,
    nodes: Tensor,
    activation: Tensor,
    aggregation: Tensor,
    outputs: Tensor,
) -> Tensor:
    """See `gonzo.core.ops.population_forward`."""
    rows = []
    for p in range(weight.shape[0]):
        values, _ = _network(
            p, inputs, weight, bias, response, source, first, nodes, activation, aggregation
        )
        n_input = inputs.shape[-1]
        columns = [values[n_input + j] for j in _indices(outputs[p], int(nodes[p]), "outputs")]
        rows.append(torch.stack(columns, -1) if columns else weight.new_empty(inputs.shape[-2], 0))
    if rows:
        return torch.stack(rows)
    return weight.new_empty(0, inputs.shape[-2], outputs.shape[1])


def backward(
    grad: Tensor,
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor,
    response: Tensor,
    source: Tensor,
    first: Tensor,
    nodes: Tensor,
    activation: Tensor,
    aggregation: Tensor,
    outputs: Tensor,
    input_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of inputs (empty unless asked for), weight, bias and response."""
    d_weight, d_bias, d_response = (torch.zeros_like(t) for t in (weight, bias, response))
    d_inputs = torch.zeros_like(inputs) if input_gradient else inputs.new_empty(0)
    for p in range(weight.shape[0]):
        values, network = _network(
            p, inputs, weight, bias, response, source, first, nodes, activation, aggregation
        )
        n_input = inputs.shape[-1]
        d_values = [torch.zeros_like(grad[p, :, 0]) for _ in values] if grad.shape[-1] else []
        for o, j in enumerate(_indices(outputs[p], int(nodes[p]), "outputs")):
            d_values[n_input + j] = d_values[n_input + j] + grad[p, :, o]
        for j in reversed(range(len(network))) if d_values else ():
            node = network[j]
            name = ACTIVATIONS[int(activation[p, j])]
            g = torch.where(node.value == node.unclamped, d_values[n_input + j], 0.0)
            g = g * slope(name, node.argument)
            unclamped = bias[p, j] + (response[p, j] * node.aggregated).nan_to_num(0.0, None, None)
            g = torch.where(node.argument == unclamped, g, 0.0)
            d_bias[p, j] = g.sum()
            g = torch.where((response[p, j] * node.aggregated).isnan(), 0.0, g)
            d_response[p, j] = torch.where(g == 0, 0.0, g * node.aggregated).sum()
            share = _share(AGGREGATIONS[int(aggregation[p, j])], node.entering)
            entering = torch.where(
                (g == 0)[:, None] | (share == 0), 0.0, (response[p, j] * g)[:, None] * share
            )
            for e, s, d in zip(
                range(node.edges.start, node.edges.stop), node.sources, entering.unbind(1),
                strict=True,
            ):  # fmt: skip
                d_weight[p, e] = (d * values[s]).sum()
                d_values[s] = d_values[s] + d * weight[p, e]
        if input_gradient and d_values:
            own = torch.stack(d_values[:n_input], -1) if n_input else inputs.new_empty(0)
            if inputs.ndim == 3:
                d_inputs[p] = own.reshape(inputs.shape[1:])
            else:
                d_inputs += own.reshape(inputs.shape)
    return d_inputs, d_weight, d_bias, d_response


def _network(
    p: int,
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor,
    response: Tensor,
    source: Tensor,
    first: Tensor,
    nodes: Tensor,
    activation: Tensor,
    aggregation: Tensor,
) -> tuple[list[Tensor], list[_Node]]:
    """Values (S,) of all slots of network `p`, and its nodes."""
    own = inputs[p] if inputs.ndim == 3 else inputs
    values = list(own.unbind(-1))
    network = []
    count = _bounded(int(nodes[p]), bias.shape[1] + 1, "nodes")
    edges = first[p, : count + 1].tolist()
    for j in range(count):
        if not 0 <= edges[j] <= edges[j + 1] <= weight.shape[1]:
            raise ValueError(
                f"population_forward: the edges of node {j} of network {p} are "
                f"{edges[j]} … {edges[j + 1]} of {weight.shape[1]}; `first` must not decrease"
            )
        part = slice(edges[j], edges[j + 1])
        sources = _indices(source[p, part], len(values), f"source of node {j}")
        entering = (
            torch.stack([values[s] for s in sources], -1) * weight[p, part]
            if sources
            else weight.new_empty(own.shape[0], 0)
        )
        name = AGGREGATIONS[_bounded(int(aggregation[p, j]), len(AGGREGATIONS), "aggregation")]
        aggregated = aggregate(name, entering)
        scaled = response[p, j] * aggregated
        argument = bias[p, j] + torch.where(scaled.isnan(), 0.0, scaled)
        argument = argument.clamp(-BOUND, BOUND)
        name = ACTIVATIONS[_bounded(int(activation[p, j]), len(ACTIVATIONS), "activation")]
        unclamped = activate(name, argument)
        values.append(unclamped.clamp(-BOUND, BOUND))
        network.append(_Node(part, sources, entering, aggregated, argument, unclamped, values[-1]))
    return values, network


def _share(name: str, entering: Tensor) -> Tensor:
    """Derivative of the aggregate with respect to each value that enters, (S, edges)."""
    count = entering.shape[-1]
    if name == "sum" or count == 0:
        return torch.ones_like(entering)
    if name == "mean":
        return torch.full_like(entering, 1 / count)
    if name == "product":
        others = [
            torch.cat([entering[:, :e], entering[:, e + 1 :]], -1).prod(-1) for e in range(count)
        ]
        return torch.stack(others, -1)
    chosen = picked(name, entering)
    part = torch.full_like(entering[:, :1], 1 / chosen.shape[1]).expand(chosen.shape)
    return torch.zeros_like(entering).scatter_add(-1, chosen, part)


def _indices(tensor: Tensor, stop: int, what: str) -> list[int]:
    return [_bounded(i, stop, what) for i in tensor.tolist()]


def _bounded(index: int, stop: int, what: str) -> int:
    if not 0 <= index < stop:
        raise ValueError(f"population_forward: {what} holds {index}, expected 0 … {stop - 1}")
    return index
