"""One network on a block of samples: values of its slots as rows, and gradients of them back again.

Loops run along a row, so LLVM vectorises them; sums over edges keep their order. Nothing is
reassociated but the sums over samples in gradients of parameters, where only the order of additions
that has no meaning changes.
"""

from __future__ import annotations

import numpy as np

from gonzo.core.numba_kernels import kernel

from .cpu_activations import activate_row, slope_row
from .functions import ACTIVATIONS, AGGREGATIONS, BOUND

_SUM, _PRODUCT, _MAX, _MIN, _MAXABS, _MEDIAN, _MEAN = range(len(AGGREGATIONS))
_ACTIVATIONS, _AGGREGATIONS = len(ACTIVATIONS), len(AGGREGATIONS)

# What `find_fault` finds, and `cpu.py` says.
NODES, EDGES, SOURCE, ACTIVATION, AGGREGATION, OUTPUT = range(1, 7)


@kernel(allocates=False)
def find_fault(p, n_input, source, first, nodes, activation, aggregation, outputs, fault):
    """Note in `fault` (network, node, what, value) what is out of range; False where nothing is."""
    count = nodes[p]
    what, at, value = 0, 0, 0
    if count < 0 or count > activation.shape[1]:
        what, value = NODES, count
    else:
        for j in range(count):
            start, stop = first[p, j], first[p, j + 1]
            if start < 0 or stop < start or stop > source.shape[1]:
                what, at, value = EDGES, j, stop
                break
            if activation[p, j] < 0 or activation[p, j] >= _ACTIVATIONS:
                what, at, value = ACTIVATION, j, activation[p, j]
            if aggregation[p, j] < 0 or aggregation[p, j] >= _AGGREGATIONS:
                what, at, value = AGGREGATION, j, aggregation[p, j]
            for e in range(start, stop):
                if source[p, e] < 0 or source[p, e] >= n_input + j:
                    what, at, value = SOURCE, j, source[p, e]
        for o in range(outputs.shape[1]):
            if outputs[p, o] < 0 or outputs[p, o] >= count:
                what, at, value = OUTPUT, o, outputs[p, o]
    if what:
        fault[0], fault[1], fault[2], fault[3] = p + 1, at, what, value
    return what != 0


@kernel(allocates=False)
def load_inputs(inputs, p, sample, rows, width):
    """rows[i] = samples from `sample` on of input i; 0 past the last one."""
    taken = min(width, inputs.shape[1] - sample)
    for i in range(inputs.shape[2]):
        for s in range(taken):
            rows[i, s] = inputs[p, sample + s, i]
        for s in range(taken, width):
            rows[i, s] = 0


@kernel(allocates=False)
def evaluate(
    p, n_input, width, weight, bias, response, source, first, nodes, activation, aggregation,
    rows, aggregated, keep, sort,
):  # fmt: skip
    """Fill rows[n_input + j] with the value of node j, and aggregated[j] if `keep`, else [0]."""
    for j in range(nodes[p]):
        at, kept, start, stop = n_input + j, j * keep, first[p, j], first[p, j + 1]
        if aggregation[p, j] == _SUM and start < stop:  # here, since a call takes as long
            w, s = weight[p, start], source[p, start]
            for i in range(width):
                aggregated[kept, i] = w * rows[s, i]
            for e in range(start + 1, stop):
                w, s = weight[p, e], source[p, e]
                for i in range(width):
                    aggregated[kept, i] += w * rows[s, i]
        else:
            aggregate(p, start, stop, aggregation[p, j], width, weight, source, rows, aggregated,
                      kept, sort)  # fmt: skip
        scale_row(bias[p, j], response[p, j], aggregated, kept, rows, at, width)
        activate_row(activation[p, j], rows, at, width)


@kernel(allocates=False)
def scale_row(bias, response, aggregated, kept, rows, at, width):
    """rows[at] = bias + response · aggregated[kept], clamped; a NaN of the product is 0."""
    zero, bound = rows.dtype.type(0), rows.dtype.type(BOUND)
    for i in range(width):
        t = response * aggregated[kept, i]
        z = bias + (t if t == t else zero)
        z = bound if z > bound else z
        rows[at, i] = -bound if z < -bound else z


@kernel(allocates=False)
def aggregate(p, start, stop, name, width, weight, source, rows, out, at, sort):
    """out[at, :width] = what enters by edges start … stop - 1, brought together; not for a sum."""
    number = rows.dtype.type
    if start == stop or name == _PRODUCT:
        nothing = number(1) if name == _PRODUCT else number(0)
        for i in range(width):
            out[at, i] = nothing
        for e in range(start, stop):
            w, s = weight[p, e], source[p, e]
            for i in range(width):
                out[at, i] *= w * rows[s, i]
        return
    if name == _MEDIAN:
        for i in range(width):
            out[at, i] = middle(p, start, stop, i, weight, source, rows, sort)
        return
    w, s = weight[p, start], source[p, start]
    for i in range(width):
        out[at, i] = w * rows[s, i]
    if name == _MEAN:
        for e in range(start + 1, stop):
            w, s = weight[p, e], source[p, e]
            for i in range(width):
                out[at, i] += w * rows[s, i]
        count = number(stop - start)
        for i in range(width):
            out[at, i] /= count
    elif name == _MAX:
        for e in range(start + 1, stop):
            w, s = weight[p, e], source[p, e]
            for i in range(width):
                v = w * rows[s, i]
                out[at, i] = v if (v > out[at, i]) | (v != v) else out[at, i]
    elif name == _MIN:
        for e in range(start + 1, stop):
            w, s = weight[p, e], source[p, e]
            for i in range(width):
                v = w * rows[s, i]
                out[at, i] = v if (v < out[at, i]) | (v != v) else out[at, i]
    elif name == _MAXABS:
        for e in range(start + 1, stop):
            w, s = weight[p, e], source[p, e]
            for i in range(width):
                v = w * rows[s, i]
                out[at, i] = v if (abs(v) > abs(out[at, i])) | (v != v) else out[at, i]


@kernel(allocates=False)
def entering(p, e, i, weight, source, rows):
    """What enters by edge e in sample i."""
    return weight[p, e] * rows[source[p, e], i]


@kernel(allocates=False)
def middle(p, start, stop, i, weight, source, rows, sort):
    """The median of what enters in sample i; `sort` has the edges in its order. NaN if any is."""
    count = stop - start
    broken = False
    for n in range(count):
        v = entering(p, start + n, i, weight, source, rows)
        broken = broken or v != v
        k = n
        while k > 0 and entering(p, sort[k - 1], i, weight, source, rows) > v:
            sort[k] = sort[k - 1]
            k -= 1
        sort[k] = start + n
    low = entering(p, sort[(count - 1) // 2], i, weight, source, rows)
    high = entering(p, sort[count // 2], i, weight, source, rows)
    if broken:
        return rows.dtype.type(np.nan)
    half = rows.dtype.type(0.5)
    return half * low + half * high


@kernel(fastmath={"reassoc"}, allocates=False)
def dot(left, at, right, to, width):
    """Σ left[at] right[to] over a row."""
    total = left.dtype.type(0)
    for i in range(width):
        total += left[at, i] * right[to, i]
    return total


@kernel(fastmath={"reassoc"}, allocates=False)
def total_row(rows, at, width):
    """Σ rows[at]."""
    total = rows.dtype.type(0)
    for i in range(width):
        total += rows[at, i]
    return total


@kernel(allocates=False)
def differentiate(
    p, n_input, width, weight, bias, response, source, first, nodes, activation, aggregation,
    rows, aggregated, grads, spare, sort, d_weight, d_bias, d_response,
):  # fmt: skip
    """Carry grads of nodes' values back to those of inputs; add to gradients of parameters."""
    zero = rows.dtype.type(0)
    r, wide = response, rows.dtype.type(np.inf)
    for j in range(nodes[p] - 1, -1, -1):
        at = n_input + j
        scale_row(bias[p, j], r[p, j], aggregated, j, spare, 0, width)
        slope_row(activation[p, j], spare[0], rows, at, grads, at, width)
        d_bias[p, j] += total_row(grads, at, width)
        for i in range(width):
            a = aggregated[j, i]
            t = r[p, j] * a
            g = grads[at, i] if t == t else zero
            spare[0, i] = g * (a if abs(a) < wide else zero)
            grads[at, i] = g * r[p, j]
        d_response[p, j] += total_row(spare, 0, width)
        spread(p, first[p, j], first[p, j + 1], aggregation[p, j], width, weight, source, rows,
               aggregated, j, grads, at, spare, sort, d_weight)  # fmt: skip


@kernel(allocates=False)
def spread(
    p, start, stop, name, width, weight, source, rows, aggregated, kept, grads, at, spare, sort,
    d_weight,
):  # fmt: skip
    """From the gradient grads[at] of an aggregate to those of what enters it."""
    if start == stop:
        return
    number = rows.dtype.type
    zero = number(0)
    if name in (_SUM, _MEAN):
        if name == _MEAN:
            count = number(stop - start)
            for i in range(width):
                grads[at, i] /= count
        for e in range(start, stop):
            pass_back(p, e, width, weight, source, rows, grads, at, grads, d_weight)
    elif name == _PRODUCT:
        for e in range(start, stop):
            for i in range(width):
                spare[0, i] = grads[at, i]
            for other in range(start, stop):
                if other != e:
                    w, s = weight[p, other], source[p, other]
                    for i in range(width):
                        spare[0, i] *= w * rows[s, i]
            for i in range(width):
                spare[0, i] = spare[0, i] if grads[at, i] != zero else zero
            pass_back(p, e, width, weight, source, rows, spare, 0, grads, d_weight)
    elif name == _MEDIAN:
        half = number(0.5)
        for i in range(width):
            middle(p, start, stop, i, weight, source, rows, sort)
            g = half * grads[at, i]
            for e in (sort[(stop - start - 1) // 2], sort[(stop - start) // 2]):
                s = source[p, e]
                d_weight[p, e] += g * rows[s, i]
                grads[s, i] += g * weight[p, e]
    else:  # the first edge whose value was picked takes the gradient, and leaves 0
        for e in range(start, stop):
            w, s = weight[p, e], source[p, e]
            for i in range(width):
                picked = w * rows[s, i] == aggregated[kept, i]
                spare[0, i] = grads[at, i] if picked else zero
                grads[at, i] = zero if picked else grads[at, i]
            pass_back(p, e, width, weight, source, rows, spare, 0, grads, d_weight)


@kernel(allocates=False)
def pass_back(p, e, width, weight, source, rows, entering, at, grads, d_weight):
    """From the gradient entering[at] of what enters by edge e to those of its weight and source."""
    w, s = weight[p, e], source[p, e]
    d_weight[p, e] += dot(entering, at, rows, s, width)
    for i in range(width):
        grads[s, i] += w * entering[at, i]
