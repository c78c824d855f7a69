"""Many small networks of different shapes at once: y = f(b + r · ⊕ w x), node after node."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor

from . import register  # noqa: F401  (registers the op)


def population_forward(
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
    *,
    backend: str | None = None,
) -> Tensor:
    """Evaluate P networks of any topology without cycles, each on S samples.

    Node j of a network takes the values that enter it, each times the weight of its edge, brings
    them together to a, and has the value ``f(bias_j + response_j * a)``. A network's outputs are
    equal bit for bit whatever the other networks and samples of the call, however wide the padding,
    and for any number of threads. One tick of a recurrent network is the same op: the values of the
    last tick are further inputs, no edge reads a node, and all nodes are outputs.

    No NaN leaves a network whose parameters are finite: ``response_j * a`` that is NaN counts as 0,
    and the argument and the value of every node are clamped to ±1e18. Where a clamp holds a value,
    its gradient is 0; that of max, min and maxabs goes to the first of equals.

    Args:
        inputs: (S, I) the same samples for all networks, or (P, S, I); float32 or float64.
        weight: (P, E) of each edge, of the dtype of `inputs`, as are:
        bias: (P, N)
        response: (P, N)
        source: (P, E) int32, the slot that an edge reads: ``i < I`` an input, ``I + j`` node j.
            Edges are grouped by the node that they enter, and nodes are in an order in which every
            edge reads an earlier slot.
        first: (P, N + 1) int32; the edges of node j are ``first[p, j]`` … ``first[p, j + 1] - 1``.
            Edges from the last of these on are padding and never read.
        nodes: (P,) int32; columns of nodes from there on are padding and never read.
        activation: (P, N) int32, positions in `functions.ACTIVATIONS`.
        aggregation: (P, N) int32, positions in `functions.AGGREGATIONS`.
        outputs: (P, O) int32, the node whose value is each output.
        backend: see `gonzo.core.backend`.

    Returns:
        (P, S, O)

    Raises:
        ValueError: wrong shapes; on a CPU also an edge that reads its own or a later node, and
            any other index out of range.
        TypeError: wrong dtypes, or tensors on several devices.

    Source:
        Stanley, Miikkulainen: Evolving Neural Networks through Augmenting Topologies (2002),
        whose networks these are. https://doi.org/10.1162/106365602320169811
    """
    shape = weight.shape
    edges = first.shape
    if not (
        inputs.dtype == weight.dtype == bias.dtype == response.dtype
        and (weight.dtype is torch.float32 or weight.dtype is torch.float64)
        and source.dtype == first.dtype == nodes.dtype == activation.dtype == aggregation.dtype
        and outputs.dtype is nodes.dtype is torch.int32
        and len(shape) == 2
        and source.shape == shape
        and len(edges) == 2
        and edges[1] > 0
        and bias.shape == response.shape == (shape[0], edges[1] - 1)
        and activation.shape == aggregation.shape == bias.shape
        and edges[0] == shape[0]
        and nodes.shape == shape[:1]
        and outputs.ndim == 2
        and outputs.shape[0] == shape[0]
        and (inputs.ndim == 2 or (inputs.ndim == 3 and inputs.shape[0] == shape[0]))
        and inputs.device == weight.device == bias.device == response.device == source.device
        and first.device == nodes.device == activation.device == aggregation.device
        and outputs.device == nodes.device == weight.device
    ):
        _explain(
            inputs=inputs, weight=weight, bias=bias, response=response, source=source, first=first,
            nodes=nodes, activation=activation, aggregation=aggregation, outputs=outputs,
        )  # fmt: skip
    learns = torch.is_grad_enabled() and (
        weight.requires_grad or bias.requires_grad or response.requires_grad or inputs.requires_grad
    )
    ops = torch.ops.gonzo
    op = ops.population_forward.default if learns else ops.population_forward_inference.default
    return op(
        inputs, weight, bias, response, source, first, nodes, activation, aggregation, outputs,
        backend or "",
    )  # fmt: skip


def _explain(**tensors: Tensor) -> NoReturn:
    """Raise the error that says which tensor is wrong; one check for all is quicker."""
    inputs, weight, bias = (tensors[name] for name in ("inputs", "weight", "bias"))
    for name, tensor in tensors.items():
        if name in ("inputs", "weight", "bias", "response"):
            if tensor.dtype not in (torch.float32, torch.float64):
                raise TypeError(
                    f"population_forward: expected {name} in float32 or float64, got "
                    f"{tensor.dtype}; use {name}.float()"
                )
            if tensor.dtype != inputs.dtype:
                raise TypeError(
                    f"population_forward: inputs and {name} must share a dtype, got "
                    f"{inputs.dtype} and {tensor.dtype}"
                )
        elif tensor.dtype != torch.int32:
            raise TypeError(
                f"population_forward: expected {name} in int32, got {tensor.dtype}; "
                f"use {name}.int()"
            )
        if tensor.device != inputs.device:
            raise TypeError(
                f"population_forward: all tensors must be on one device, got inputs on "
                f"{inputs.device} and {name} on {tensor.device}"
            )
    if weight.ndim != 2:
        _refuse("weight", "(networks, edges)", weight)
    if bias.ndim != 2 or bias.shape[0] != weight.shape[0]:
        _refuse("bias", f"({weight.shape[0]}, nodes)", bias)
    if inputs.ndim not in (2, 3) or (inputs.ndim == 3 and inputs.shape[0] != weight.shape[0]):
        _refuse("inputs", f"(samples, inputs) or ({weight.shape[0]}, samples, inputs)", inputs)
    if tensors["outputs"].ndim != 2 or tensors["outputs"].shape[0] != weight.shape[0]:
        _refuse("outputs", f"({weight.shape[0]}, outputs)", tensors["outputs"])
    per_node, per_edge = tuple(bias.shape), tuple(weight.shape)
    expected = {
        "response": per_node,
        "source": per_edge,
        "first": (per_node[0], per_node[1] + 1),
        "nodes": per_node[:1],
        "activation": per_node,
        "aggregation": per_node,
    }
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            _refuse(name, str(shape), tensors[name])
    raise AssertionError("the quick check and this one disagree")


def _refuse(name: str, shape: str, tensor: Tensor) -> NoReturn:
    raise ValueError(
        f"population_forward: expected {name} of shape {shape}, got {tuple(tensor.shape)}"
    )
