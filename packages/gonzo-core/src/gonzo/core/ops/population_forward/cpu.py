"""Networks one after the other, each on blocks of samples whose values stay in cache.

The backward computes the values again: nothing of size networks · nodes · samples is stored.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel, run_rows

from . import cpu_networks as networks
from .cpu_networks import differentiate, evaluate, find_fault, load_inputs
from .functions import ACTIVATIONS, AGGREGATIONS

_BLOCK_BYTES = 1 << 17  # values of one network and one block: a part of the second-level cache
_LANES = 8
_GROUPS = 64  # partial sums of the gradient of shared inputs, whatever the number of threads


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
    samples, n_input = inputs.shape[-2:]
    n_row = n_input + bias.shape[1]
    out = weight.new_empty(weight.shape[0], samples, outputs.shape[1])
    if not out.shape[0]:
        return out
    fault = np.zeros(4, np.int64)
    run_rows(
        out.shape[0],
        _forward_piece,
        n_row,
        _width(samples, n_row, weight.dtype),
        _array(inputs[None] if inputs.ndim == 2 else inputs),
        *(_array(t) for t in (weight, bias, response, source, first, nodes)),
        *(_array(t) for t in (activation, aggregation, outputs, out)),
        fault,
    )
    if fault[0]:
        _refuse(fault, bias.shape[1], n_input)
    return out


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
    shared = inputs.ndim == 2
    samples, n_input = inputs.shape[-2:]
    n_row = n_input + bias.shape[1]
    size = weight.shape[0]
    groups = min(size, _GROUPS)
    d_weight, d_bias, d_response = (torch.zeros_like(t) for t in (weight, bias, response))
    wanted = (groups if shared else size) if input_gradient else 0
    d_inputs = inputs.new_zeros(wanted, samples, n_input)
    fault = np.zeros(4, np.int64)
    if size:
        run_rows(
            groups,
            _backward_piece,
            n_row,
            _width(samples, 3 * n_row, weight.dtype),
            _array(inputs[None] if shared else inputs),
            *(_array(t) for t in (weight, bias, response, source, first, nodes)),
            *(_array(t) for t in (activation, aggregation, outputs, grad)),
            groups,
            *(t.numpy() for t in (d_inputs, d_weight, d_bias, d_response)),
            fault,
        )
    if fault[0]:
        _refuse(fault, bias.shape[1], n_input)
    if not input_gradient:
        d_inputs = inputs.new_empty(0)
    elif shared:
        d_inputs = d_inputs.sum(0)
    return d_inputs, d_weight, d_bias, d_response


def _array(tensor: Tensor) -> np.ndarray:
    return (tensor if tensor.is_contiguous() else tensor.contiguous()).numpy()


def _width(samples: int, rows: int, dtype: torch.dtype) -> int:
    """Samples of a block: one, or a multiple of a vector's lanes, so that few loops have a rest."""
    if samples == 1:
        return 1
    fits = max(32, min(512, _BLOCK_BYTES // (max(rows, 1) * dtype.itemsize) // _LANES * _LANES))
    return min(-(-samples // _LANES) * _LANES, fits)


def _refuse(fault: np.ndarray, n_node: int, n_input: int) -> None:
    network, at, what, value = (int(number) for number in fault)
    says = {
        networks.NODES: f"has {value} nodes, expected 0 … {n_node}",
        networks.EDGES: f"has edges of node {at} that end at {value}: `first` decreases or leaves "
        "the edges",
        networks.SOURCE: f"has an edge into node {at} that reads slot {value}, expected 0 … "
        f"{n_input + at - 1}: inputs and earlier nodes; are its nodes in topological order?",
        networks.ACTIVATION: f"has activation {value} at node {at}, expected 0 … "
        f"{len(ACTIVATIONS) - 1}",
        networks.AGGREGATION: f"has aggregation {value} at node {at}, expected 0 … "
        f"{len(AGGREGATIONS) - 1}",
        networks.OUTPUT: f"has output {at} at node {value}, which is not one of its nodes",
    }
    raise ValueError(f"population_forward: network {network - 1} {says[what]}")


def _forward_piece(start: int, stop: int, n_row: int, width: int, *arrays: np.ndarray) -> None:
    dtype = arrays[0].dtype
    rows, aggregated = np.empty((n_row, width), dtype), np.empty((1, width), dtype)
    sort = np.empty(arrays[1].shape[1], np.int64)
    _forward_rows(start, stop, width, rows, aggregated, sort, *arrays)


def _backward_piece(start: int, stop: int, n_row: int, width: int, *arrays: np.ndarray) -> None:
    dtype = arrays[0].dtype
    rows, grads, aggregated = (np.empty((n_row, width), dtype) for _ in range(3))
    spare, sort = np.empty((1, width), dtype), np.empty(arrays[1].shape[1], np.int64)
    _backward_groups(start, stop, width, rows, aggregated, grads, spare, sort, *arrays)


@kernel(allocates=False)
def _forward_rows(
    start, stop, width, rows, aggregated, sort, inputs, weight, bias, response, source, first,
    nodes, activation, aggregation, outputs, out, fault,
):  # fmt: skip
    n_input, samples = inputs.shape[2], inputs.shape[1]
    shared = inputs.shape[0] == 1
    for p in range(start, stop):
        if find_fault(p, n_input, source, first, nodes, activation, aggregation, outputs, fault):
            return
    for sample in range(0, samples, max(width, 1)):
        taken = min(width, samples - sample)
        for p in range(start, stop):
            if not shared or p == start:
                load_inputs(inputs, 0 if shared else p, sample, rows, width)
            evaluate(p, n_input, width, weight, bias, response, source, first, nodes, activation,
                     aggregation, rows, aggregated, 0, sort)  # fmt: skip
            for o in range(outputs.shape[1]):
                at = n_input + outputs[p, o]
                for s in range(taken):
                    out[p, sample + s, o] = rows[at, s]


@kernel(allocates=False)
def _backward_groups(
    start, stop, width, rows, aggregated, grads, spare, sort, inputs, weight, bias, response,
    source, first, nodes, activation, aggregation, outputs, grad, groups, d_inputs, d_weight,
    d_bias, d_response, fault,
):  # fmt: skip
    """A group is some networks in a row, which share d_inputs where the inputs are shared."""
    n_input, samples, size = inputs.shape[2], inputs.shape[1], weight.shape[0]
    shared = inputs.shape[0] == 1
    for group in range(start, stop):
        for p in range(size * group // groups, size * (group + 1) // groups):
            if find_fault(p, n_input, source, first, nodes, activation, aggregation, outputs,
                          fault):  # fmt: skip
                return
            for sample in range(0, samples, max(width, 1)):
                taken = min(width, samples - sample)
                load_inputs(inputs, 0 if shared else p, sample, rows, width)
                evaluate(p, n_input, width, weight, bias, response, source, first, nodes,
                         activation, aggregation, rows, aggregated, 1, sort)  # fmt: skip
                for n in range(n_input + nodes[p]):
                    for s in range(width):
                        grads[n, s] = 0
                for o in range(outputs.shape[1]):
                    at = n_input + outputs[p, o]
                    for s in range(taken):
                        grads[at, s] += grad[p, sample + s, o]
                differentiate(p, n_input, width, weight, bias, response, source, first, nodes,
                              activation, aggregation, rows, aggregated, grads, spare, sort,
                              d_weight, d_bias, d_response)  # fmt: skip
                if d_inputs.shape[0]:
                    to = group if shared else p
                    for i in range(n_input):
                        for s in range(taken):
                            d_inputs[to, sample + s, i] += grads[i, s]
