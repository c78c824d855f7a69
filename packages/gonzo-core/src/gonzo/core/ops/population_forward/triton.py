"""A program takes one network and one block of samples, node after node.

Values lie in memory that every launch writes again, as much as the second-level cache holds, and
there are as many launches as that takes. A thread may read what another wrote, so a barrier follows
every row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gonzo.core.triton_kernels import launch

from .triton_functions import (
    MAX,
    MAXABS,
    MEAN,
    MEDIAN,
    MIN,
    PRODUCT,
    SUM,
    activate,
    bounded,
    constants,
    slope,
)

_SCRATCH_BYTES = 32 << 20


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
    """See `gonzo.core.ops.population_forward`; indices are not checked, which would wait."""
    out = weight.new_empty(weight.shape[0], inputs.shape[-2], outputs.shape[1])
    if not out.numel():
        return out
    block = _block(weight.dtype)
    n_input, n_node = inputs.shape[-1], bias.shape[1]
    tasks, programs = _tasks(out, n_input + n_node)
    scratch = weight.new_empty(programs, n_input + n_node, block)
    network = (
        inputs.contiguous(),
        torch.cat([weight, bias, response], 1),
        torch.cat([source, first, activation, aggregation, outputs, nodes[:, None]], 1),
    )
    for task in range(0, tasks, programs):
        launch(
            _forward,
            (min(programs, tasks - task),),
            *(*network, out, scratch, constants(weight.dtype, weight.device)),
            *(task, inputs.shape[-2], n_node, weight.shape[1]),
            N_INPUT=n_input,
            N_OUTPUT=outputs.shape[1],
            SHARED=inputs.ndim == 2,
            BLOCK=block,
            num_warps=1,
        )
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
    """Gradients of inputs (empty unless asked for), weight, bias and response.

    Sums over samples are left by block, and those over networks by network, for torch to add.
    """
    size, samples, n_input = weight.shape[0], inputs.shape[-2], inputs.shape[-1]
    n_edge, n_node, block = weight.shape[1], bias.shape[1], _block(weight.dtype)
    sums = weight.new_zeros(size, triton.cdiv(samples, block), n_edge + 2 * n_node)
    d_inputs = inputs.new_zeros((size, samples, n_input) if input_gradient else 0)
    if grad.numel():
        tasks, programs = _tasks(grad, 3 * (n_input + n_node))
        scratch = weight.new_empty(programs, 3, n_input + n_node, block)
        network = (
            grad.contiguous(),
            inputs.contiguous(),
            torch.cat([weight, bias, response], 1),
            torch.cat([source, first, activation, aggregation, outputs, nodes[:, None]], 1),
        )
        for task in range(0, tasks, programs):
            launch(
                _backward,
                (min(programs, tasks - task),),
                *(*network, d_inputs, sums, scratch, constants(weight.dtype, weight.device)),
                *(task, samples, n_node, n_edge),
                N_INPUT=n_input,
                N_OUTPUT=outputs.shape[1],
                SHARED=inputs.ndim == 2,
                WANTED=input_gradient,
                BLOCK=block,
                num_warps=1,
            )
    if input_gradient and inputs.ndim == 2:
        d_inputs = d_inputs.sum(0)
    return d_inputs, *sums.sum(1).split([n_edge, n_node, n_node], 1)


def _tasks(out: Tensor, n_row: int) -> tuple[int, int]:
    """How many networks times blocks of samples there are, and how many have room at once."""
    block = _block(out.dtype)
    fits = _SCRATCH_BYTES // (max(n_row, 1) * block * out.element_size())
    tasks = out.shape[0] * triton.cdiv(out.shape[1], block)
    return tasks, min(tasks, max(512, fits // 16 * 16))


def _block(dtype: torch.dtype) -> int:
    """Samples of one warp, which needs no barrier between warps."""
    return 32 if dtype == torch.float64 else 64


@triton.jit
def _load_inputs(inputs, rows, p, s, mask, samples, n_input, SHARED: tl.constexpr,
                 BLOCK: tl.constexpr):  # fmt: skip
    """Row i of the scratch = samples of input i, 0 past the last one."""
    i = tl.arange(0, BLOCK)
    at = s.to(tl.int64) * n_input
    if not SHARED:
        at += p * samples * n_input
    for n in range(n_input):
        tl.store(rows + n * BLOCK + i, tl.load(inputs + at + n, mask, 0.0))
    tl.debug_barrier()


@triton.jit
def _entering(weight, source, rows, e, BLOCK: tl.constexpr):
    """What enters by edge e, and the slot that it reads."""
    s = tl.load(source + e).to(tl.int64)
    return tl.load(weight + e) * tl.load(rows + s * BLOCK + tl.arange(0, BLOCK)), s


@triton.jit
def _ranks(weight, source, rows, e, start, stop, BLOCK: tl.constexpr):
    """What enters by edge e, how much comes before it in stable order, and the others' product."""
    v, _ = _entering(weight, source, rows, e, BLOCK)
    rank, others = tl.full([BLOCK], 0, tl.int32), tl.full([BLOCK], 1.0, v.dtype)
    for other in range(start, stop):
        u, _ = _entering(weight, source, rows, other, BLOCK)
        rank += ((u < v) | ((u == v) & (other < e))).to(tl.int32)
        others *= tl.where(other == e, 1.0, u)
    return v, rank, others


@triton.jit
def _aggregate(name, weight, source, rows, start, stop, BLOCK: tl.constexpr):
    """What enters by edges start … stop - 1, brought together."""
    acc = tl.full([BLOCK], 0.0, weight.dtype.element_ty)
    if name == MEDIAN:
        for e in range(start, stop):
            v, rank, _ = _ranks(weight, source, rows, e, start, stop, BLOCK)
            low, high = (stop - start - 1) // 2, (stop - start) // 2
            acc += tl.where(rank == low, 0.5 * v, 0.0) + tl.where(rank == high, 0.5 * v, 0.0)
            acc = tl.where(v != v, v, acc)
    else:
        if name == PRODUCT:
            acc += 1
        for e in range(start, stop):
            v, _ = _entering(weight, source, rows, e, BLOCK)
            if (name == SUM) | (name == MEAN):
                acc += v
            elif name == PRODUCT:
                acc *= v
            else:
                better = (tl.abs(v) > tl.abs(acc)) & (name == MAXABS)
                better = better | ((v > acc) & (name == MAX)) | ((v < acc) & (name == MIN))
                acc = tl.where(better | (v != v) | (e == start), v, acc)
        if (name == MEAN) & (stop > start):
            acc /= (stop - start).to(acc.dtype)
    return acc


@triton.jit
def _argument(bias, response, acc, table):
    """Z of a node; a NaN of the product is 0."""
    t = response * acc
    return bounded(bias + tl.where(t == t, t, 0.0), table)


@triton.jit
def _node(whole, j, n_node, n_edge):
    """Where the edges of node j begin and end, and the ids of its aggregation and activation."""
    first = whole + n_edge + j
    kind, name = first + n_node + 1, first + 2 * n_node + 1
    return tl.load(first), tl.load(first + 1), tl.load(name), tl.load(kind)


@triton.jit
def _evaluate(
    real, whole, rows, kept, count, n_input, n_node, n_edge, table,
    KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows of all nodes; where KEEP, what each brings together in a row of `kept`."""
    i = tl.arange(0, BLOCK)
    for j in range(count):
        start, stop, name, kind = _node(whole, j, n_node, n_edge)
        acc = _aggregate(name, real, whole, rows, start, stop, BLOCK)
        if KEEP:
            tl.store(kept + j * BLOCK + i, acc)
        b = tl.load(real + n_edge + j)
        z = _argument(b, tl.load(real + n_edge + n_node + j), acc, table)
        tl.store(rows + (n_input + j) * BLOCK + i, activate(kind, z, table))
        tl.debug_barrier()


@triton.jit
def _forward(
    inputs, real, whole, out, scratch, table, task, samples, n_node, n_edge,
    N_INPUT: tl.constexpr, N_OUTPUT: tl.constexpr, SHARED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(samples, BLOCK)
    program = tl.program_id(0).to(tl.int64)
    p = (program + task) // blocks
    i = tl.arange(0, BLOCK)
    s = ((program + task) % blocks).to(tl.int32) * BLOCK + i
    rows = scratch + program * (N_INPUT + n_node) * BLOCK
    _load_inputs(inputs, rows, p, s, s < samples, samples, N_INPUT, SHARED, BLOCK)
    width = n_edge + 3 * n_node + N_OUTPUT + 2
    whole, real = whole + p * width, real + p * (n_edge + 2 * n_node)
    count = tl.load(whole + width - 1)
    _evaluate(real, whole, rows, rows, count, N_INPUT, n_node, n_edge, table, False, BLOCK)
    to = (p * samples + s) * N_OUTPUT
    for o in range(N_OUTPUT):
        j = tl.load(whole + n_edge + 3 * n_node + 1 + o)
        tl.store(out + to + o, tl.load(rows + (N_INPUT + j) * BLOCK + i), s < samples)


@triton.jit
def _pass_back(d, weight, source, rows, grads, e, d_weight, BLOCK: tl.constexpr):
    """From the gradient d of what enters by edge e to those of its weight and source."""
    s = tl.load(source + e).to(tl.int64)
    at = s * BLOCK + tl.arange(0, BLOCK)
    tl.store(d_weight + e, tl.sum(d * tl.load(rows + at), 0))
    tl.store(grads + at, tl.load(grads + at) + d * tl.load(weight + e))
    tl.debug_barrier()


@triton.jit
def _spread(name, g, acc, weight, source, rows, grads, start, stop, d_weight, BLOCK: tl.constexpr):
    """From the gradient g of an aggregate to those of what enters it."""
    if name == MEAN:
        g /= (tl.where(stop > start, stop - start, 1)).to(g.dtype)
    for e in range(start, stop):
        d = g
        if (name == PRODUCT) | (name == MEDIAN):
            _, rank, others = _ranks(weight, source, rows, e, start, stop, BLOCK)
            low, high = (stop - start - 1) // 2, (stop - start) // 2
            half = tl.where(rank == low, 0.5 * g, 0.0) + tl.where(rank == high, 0.5 * g, 0.0)
            d = tl.where(name == MEDIAN, half, tl.where(g == 0, 0.0, g * others))
        elif (name == MAX) | (name == MIN) | (name == MAXABS):
            v, _ = _entering(weight, source, rows, e, BLOCK)
            d = tl.where(v == acc, g, 0.0)
            g = tl.where(v == acc, 0.0, g)  # the first of equals takes it
        _pass_back(d, weight, source, rows, grads, e, d_weight, BLOCK)


@triton.jit
def _backward(
    grad, inputs, real, whole, d_inputs, sums, scratch, table, task, samples, n_node, n_edge,
    N_INPUT: tl.constexpr, N_OUTPUT: tl.constexpr, SHARED: tl.constexpr, WANTED: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(samples, BLOCK)
    program = tl.program_id(0).to(tl.int64)
    p = (program + task) // blocks
    i = tl.arange(0, BLOCK)
    s = ((program + task) % blocks).to(tl.int32) * BLOCK + i
    mask = s < samples
    n_slot = N_INPUT + n_node
    rows = scratch + program * 3 * n_slot * BLOCK
    grads, kept = rows + n_slot * BLOCK, rows + 2 * n_slot * BLOCK
    _load_inputs(inputs, rows, p, s, mask, samples, N_INPUT, SHARED, BLOCK)
    width = n_edge + 3 * n_node + N_OUTPUT + 2
    whole, real = whole + p * width, real + p * (n_edge + 2 * n_node)
    sums += (program + task) * (n_edge + 2 * n_node)
    count = tl.load(whole + width - 1)
    _evaluate(real, whole, rows, kept, count, N_INPUT, n_node, n_edge, table, True, BLOCK)
    for n in range(N_INPUT + count):
        tl.store(grads + n * BLOCK + i, tl.full([BLOCK], 0.0, grad.dtype.element_ty))
    tl.debug_barrier()
    for o in range(N_OUTPUT):
        j = tl.load(whole + n_edge + 3 * n_node + 1 + o)
        at = (N_INPUT + j) * BLOCK + i
        g = tl.load(grad + (p * samples + s) * N_OUTPUT + o, mask, 0.0)
        tl.store(grads + at, tl.load(grads + at) + g)
        tl.debug_barrier()
    for n in range(count):
        j = count - 1 - n
        start, stop, name, kind = _node(whole, j, n_node, n_edge)
        at = (N_INPUT + j) * BLOCK + i
        acc = tl.load(kept + j * BLOCK + i)
        r = tl.load(real + n_edge + n_node + j)
        z = _argument(tl.load(real + n_edge + j), r, acc, table)
        g = slope(kind, z, tl.load(rows + at), table) * tl.load(grads + at)
        tl.store(sums + n_edge + j, tl.sum(g, 0))
        g = tl.where(r * acc == r * acc, g, 0.0)
        finite = tl.where(tl.abs(acc) < float("inf"), acc, 0.0)
        tl.store(sums + n_edge + n_node + j, tl.sum(g * finite, 0))
        _spread(name, g * r, acc, real, whole, rows, grads, start, stop, sums, BLOCK)
    if WANTED:
        to = (p * samples + s) * N_INPUT
        for n in range(N_INPUT):
            tl.store(d_inputs + to + n, tl.load(grads + n * BLOCK + i), mask)
