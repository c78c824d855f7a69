"""Networks of a population: closed forms, the definition by hand, and laws of one network."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from gonzo.core.backends import backend
from gonzo.core.bench import peak_memory
from gonzo.core.ops.population_forward import population_forward, reference
from gonzo.core.ops.population_forward.functions import (
    ACTIVATIONS,
    AGGREGATIONS,
    activate,
    aggregate,
    slope,
)
from gonzo.core.testing import assert_close, compare_backends, poisoned_allocations

F32, F64 = torch.float32, torch.float64
SMOOTH = ["identity", "sigmoid", "tanh", "sin", "gauss", "softplus", "square", "cube", "elu",
          "neat_sigmoid", "steep_sigmoid", "steep_tanh", "steep_sin", "steep_gauss",
          "steep_softplus"]  # fmt: skip
TAME = [*SMOOTH[:6], "relu", "abs", "clamped", "hat", "lelu", "selu", *SMOOTH[8:]]
PARAMETERS = ("weight", "bias", "response")


def population(
    size, *, n_input=3, n_output=2, hidden=6, edges=14, nodes=None, capacity=None, dtype=F64,
    activations=TAME, aggregations=AGGREGATIONS, scale=0.6, seed=0,
):  # fmt: skip
    """Random networks; the last ones have fewer nodes and edges. Padding holds NaN and -1."""
    draw = np.random.default_rng(seed)
    nodes, capacity = nodes or hidden + n_output + 3, capacity or edges + 5
    case = {
        "weight": np.full((size, capacity), np.nan),
        "bias": np.full((size, nodes), np.nan),
        "response": np.full((size, nodes), np.nan),
        "source": np.full((size, capacity), -1),
        "first": np.full((size, nodes + 1), -1),
        "nodes": np.full(size, hidden + n_output),
        "activation": np.full((size, nodes), -1),
        "aggregation": np.full((size, nodes), -1),
        "outputs": np.zeros((size, n_output)),
    }
    for p in range(size):
        own = max(n_output, hidden + n_output - p % 3)
        case["nodes"][p] = own
        possible = [(j, s) for j in range(own) for s in range(n_input + j)]
        count = min(edges - p % 4 if edges > 4 else edges, len(possible))
        chosen = sorted(draw.choice(len(possible), count, replace=False))
        targets = [possible[i][0] for i in chosen]
        case["source"][p, :count] = [possible[i][1] for i in chosen]
        case["first"][p, : own + 1] = np.searchsorted(targets, np.arange(own + 1))
        case["weight"][p, :count] = scale * draw.normal(size=count)
        case["bias"][p, :own] = scale * draw.normal(size=own)
        case["response"][p, :own] = 1 + 0.2 * draw.normal(size=own)
        names = [ACTIVATIONS.index(name) for name in activations]
        case["activation"][p, :own] = draw.choice(names, own)
        names = [AGGREGATIONS.index(name) for name in aggregations]
        case["aggregation"][p, :own] = draw.choice(names, own)
        case["outputs"][p] = draw.choice(own, n_output, replace=False)
    return {
        name: torch.from_numpy(array).to(dtype if name in PARAMETERS else torch.int32)
        for name, array in case.items()
    }


def one_node(activation="identity", aggregation="sum", *, bias, weights, response=1.0, dtype=F64):
    """One network of one node that reads input i by an edge of weight weights[i]."""
    return {
        "weight": torch.tensor([list(weights)], dtype=dtype).reshape(1, -1),
        "bias": torch.tensor([[bias]], dtype=dtype),
        "response": torch.tensor([[response]], dtype=dtype),
        "source": torch.arange(len(weights), dtype=torch.int32)[None],
        "first": torch.tensor([[0, len(weights)]], dtype=torch.int32),
        "nodes": torch.ones(1, dtype=torch.int32),
        "activation": torch.tensor([[ACTIVATIONS.index(activation)]], dtype=torch.int32),
        "aggregation": torch.tensor([[AGGREGATIONS.index(aggregation)]], dtype=torch.int32),
        "outputs": torch.zeros(1, 1, dtype=torch.int32),
    }


def samples(*shape, dtype=F64, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).to(dtype)


def leaves(case):
    return {name: value.clone().requires_grad_(name in PARAMETERS) for name, value in case.items()}


def grown(case, nodes, edges, fill):
    """The same networks with more columns, which hold `fill`."""
    wide = {}
    for name, value in case.items():
        more = (
            0 if name in ("nodes", "outputs") else edges if name in ("weight", "source") else nodes
        )
        filler = float("nan") if value.is_floating_point() else fill
        wide[name] = (
            torch.cat([value, value.new_full((len(value), more), filler)], 1) if more else value
        )
    return wide


def clip(u, limit=60.0):
    return min(max(u, -limit), limit)


BY_HAND = {
    "identity": lambda z: z,
    "sigmoid": lambda z: expit(clip(z)),
    "tanh": lambda z: math.tanh(z),
    "relu": lambda z: max(z, 0.0),
    "sin": lambda z: math.sin(clip(z)),
    "gauss": lambda z: math.exp(-(z**2)),
    "softplus": lambda z: math.log1p(math.exp(clip(z))),
    "abs": abs,
    "clamped": lambda z: clip(z, 1.0),
    "square": lambda z: z**2,
    "cube": lambda z: z**3,
    "exp": lambda z: math.exp(clip(z)),
    "log": lambda z: math.log(max(z, 1e-7)),
    "inv": lambda z: 1 / z if z else 0.0,
    "hat": lambda z: max(0.0, 1 - abs(z)),
    "elu": lambda z: z if z > 0 else math.exp(z) - 1,
    "lelu": lambda z: z if z > 0 else 0.005 * z,
    "selu": lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * math.expm1(z)),
    "neat_sigmoid": lambda z: expit(clip(4.9 * z)),
    "steep_sigmoid": lambda z: expit(clip(5 * z)),
    "steep_tanh": lambda z: math.tanh(clip(2.5 * z)),
    "steep_sin": lambda z: math.sin(clip(5 * z)),
    "steep_gauss": lambda z: math.exp(-5 * z**2),
    "steep_softplus": lambda z: 0.2 * math.log1p(math.exp(clip(5 * z))),
}
TOGETHER = {
    "sum": math.fsum,
    "product": math.prod,
    "max": max,
    "min": min,
    "maxabs": lambda v: max(v, key=abs),
    "median": np.median,
    "mean": np.mean,
}


def by_hand(case, p, x):
    """Values of the outputs of network p for one sample, in Python's floats."""
    values = list(x)
    for j in range(int(case["nodes"][p])):
        edges = range(int(case["first"][p, j]), int(case["first"][p, j + 1]))
        entering = [float(case["weight"][p, e]) * values[int(case["source"][p, e])] for e in edges]
        name = AGGREGATIONS[int(case["aggregation"][p, j])]
        nothing = 1.0 if name == "product" else 0.0
        a = TOGETHER[name](entering) if entering else nothing
        z = float(case["bias"][p, j]) + float(case["response"][p, j]) * a
        values.append(float(BY_HAND[ACTIVATIONS[int(case["activation"][p, j])]](z)))
    return [values[len(x) + int(j)] for j in case["outputs"][p]]


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_it_is_the_definition(name):
    case, x = population(12, activations=[n for n in ACTIVATIONS if n != "inv"]), samples(5, 3)
    y = population_forward(x, **case, backend=name)
    expected = [[by_hand(case, p, row) for row in x.tolist()] for p in range(12)]
    assert_close(y, torch.tensor(expected, dtype=F64))


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_exclusive_or_from_two_steps(name):
    """An or and an and: their difference is 1 where one input is."""
    case = {
        "weight": [[1.0, 1.0, 1.0, 1.0, 1.0, -1.0]], "bias": [[0.0, -1.0, 0.0]],
        "response": [[1.0, 1.0, 1.0]], "source": [[0, 1, 0, 1, 2, 3]], "first": [[0, 2, 4, 6]],
        "nodes": [3], "activation": [[8, 3, 0]], "aggregation": [[0, 0, 0]], "outputs": [[2]],
    }  # fmt: skip
    case = {
        k: torch.tensor(v, dtype=F64 if k in PARAMETERS else torch.int32) for k, v in case.items()
    }
    x = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=F64)
    y = population_forward(x, **case, backend=name)
    assert y[0, :, 0].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name):
    """Over the line, where it is clamped too: both backends, and the slope by autograd."""
    line = torch.cat(
        [torch.linspace(-70, 70, 1401, dtype=F64), torch.linspace(-1, 1, 500, dtype=F64)]
    )
    expected = torch.tensor([BY_HAND[name](z) for z in line.tolist()], dtype=F64).clamp(-1e18, 1e18)
    case = one_node(name, bias=0.0, weights=[1.0])
    for which in ("reference", "cpu"):
        assert_close(population_forward(line[:, None], **case, backend=which)[0, :, 0], expected)
    single = {k: v.float() if k in PARAMETERS else v for k, v in case.items()}
    exact = population_forward(line.float().double()[:, None], **case)[0, :, 0]
    error = (population_forward(line.float()[:, None], **single)[0, :, 0].double() - exact).abs()
    rounded = 1.2e-7 * (line * slope(name, line)).abs()  # what a last digit of z or k z changes
    assert (error <= 6e-7 * exact.abs().clamp(min=0.1) + rounded).all()
    z = line.clone().requires_grad_()
    (by_autograd,) = torch.autograd.grad(activate(name, z).sum(), z)
    assert_close(slope(name, line), by_autograd)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3, 8, 77])
def test_backends_agree(dtype, own, count):
    case = population(7, dtype=dtype)
    x = samples(7, count, 3, dtype=dtype) if own else samples(count, 3, dtype=dtype)
    compare_backends(population_forward, {"inputs": x, **case}, backends=["cpu", None])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_backends_agree_on_each_aggregation(aggregation):
    case = population(9, aggregations=[aggregation], edges=24)
    compare_backends(population_forward, {"inputs": samples(20, 3), **case}, backends=["cpu"])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_each_activation_agree(activation):
    case = population(3, hidden=0, edges=6, activations=[activation], aggregations=["sum"])
    for dtype in (F32, F64):
        single = {k: v.to(dtype) if k in PARAMETERS else v for k, v in case.items()}
        x = samples(50, 3, dtype=dtype)
        compare_backends(population_forward, {"inputs": x, **single}, backends=["cpu"])


@pytest.mark.parametrize(("size", "count"), [(1, 5), (130, 3), (2, 1200)])
def test_backends_agree_at_odd_sizes(size, count):
    """More networks than groups of a shared gradient; more samples than a block."""
    case = population(size, hidden=3, edges=7, n_output=1)
    compare_backends(population_forward, {"inputs": samples(count, 3), **case}, backends=["cpu"])


@pytest.mark.parametrize("seed", range(4))
def test_the_backward_of_the_reference_is_autograds(seed):
    case, x = leaves(population(5, seed=seed)), samples(6, 3).requires_grad_()
    grad = samples(5, 6, 2)
    wanted = [x, *(case[name] for name in PARAMETERS)]
    y = population_forward(x, **case, backend="reference")
    direct = reference.forward(x, *case.values())
    assert torch.equal(y, direct)
    expected = torch.autograd.grad(direct, wanted, grad)
    for actual, other in zip(torch.autograd.grad(y, wanted, grad), expected, strict=True):
        assert_close(actual.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize("own", [False, True])
def test_gradcheck(own):
    smooth = ("sum", "product", "mean")
    case = leaves(population(3, activations=SMOOTH, aggregations=smooth, capacity=14, nodes=8))
    for name in PARAMETERS:  # padding too: its numerical gradient must be a number
        case[name] = case[name].detach().nan_to_num(0.5).requires_grad_()
    x = samples(*((3, 4, 3) if own else (4, 3))).requires_grad_()
    fixed = list(case.values())[3:]
    assert torch.autograd.gradcheck(
        lambda *real: population_forward(*real, *fixed), (x, *(case[n] for n in PARAMETERS))
    )


def test_opcheck():
    case, x = leaves(population(3)), samples(4, 3).requires_grad_()
    for name in PARAMETERS:
        case[name] = case[name].detach().nan_to_num().requires_grad_()
    op = torch.ops.gonzo
    torch.library.opcheck(op.population_forward.default, (x, *case.values(), ""))
    plain = (x.detach(), *(v.detach() for v in case.values()))
    torch.library.opcheck(op.population_forward_inference.default, (*plain, ""))
    for name in ("reference", "cpu"):
        for wanted in (True, False):
            arguments = (samples(3, 4, 2), *plain, wanted, name)
            torch.library.opcheck(op.population_forward_backward.default, arguments)


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiles_as_one_graph():
    case, x = leaves(population(3)), samples(4, 3).requires_grad_()
    compiled = torch.compile(population_forward, fullgraph=True)
    y, expected = compiled(x, **case), population_forward(x, **case)
    assert_close(y, expected)
    grad = samples(3, 4, 2)
    wanted = [x, *(case[name] for name in PARAMETERS)]
    for actual, other in zip(
        torch.autograd.grad(y, wanted, grad), torch.autograd.grad(expected, wanted, grad),
        strict=True,
    ):  # fmt: skip
        assert_close(actual, other)
    with torch.no_grad():
        assert_close(compiled(x, **case), expected.detach())


@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_network_has_the_same_bits_in_any_company(dtype):
    """Other networks, other samples, wider padding, more threads."""
    case, x = population(40, dtype=dtype), samples(45, 3, dtype=dtype)
    y = population_forward(x, **case)
    rows = torch.tensor([31, 2, 17])
    some = {name: value[rows] for name, value in case.items()}
    assert torch.equal(population_forward(x, **some), y[rows])
    for part in (slice(0, 1), slice(3, 8), slice(1, 33), slice(20, 45)):
        assert torch.equal(population_forward(x[part], **case), y[:, part])
    assert torch.equal(population_forward(x.expand(40, 45, 3), **case), y)
    assert torch.equal(population_forward(x, **grown(case, 40, 70, 99)), y)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(population_forward(x, **case), y)
    finally:
        torch.set_num_threads(threads)


def test_gradients_do_not_depend_on_threads():
    case, x = leaves(population(150)), samples(20, 3).requires_grad_()
    wanted = [x, *(case[name] for name in PARAMETERS)]
    one = torch.autograd.grad(population_forward(x, **case).sum(), wanted)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = torch.autograd.grad(population_forward(x, **case).sum(), wanted)
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, one, two))
    assert all(grad.isfinite().all() for grad in one)  # padding has a gradient of 0


def test_a_tick_of_a_recurrent_network_is_the_same_op():
    """h' = tanh(w_in x + w h): the state is a further input, and every node is an output."""
    w = torch.tensor([[0.5, -1.2, 0.7, 0.3]], dtype=F64)  # x and h0 to node 0, h0 and h1 to 1
    case = {
        "weight": w, "bias": torch.zeros(1, 2, dtype=F64), "response": torch.ones(1, 2, dtype=F64),
        "source": torch.tensor([[0, 1, 1, 2]]).int(), "first": torch.tensor([[0, 2, 4]]).int(),
        "nodes": torch.tensor([2]).int(), "activation": torch.full((1, 2), 2).int(),
        "aggregation": torch.zeros(1, 2).int(), "outputs": torch.tensor([[0, 1]]).int(),
    }  # fmt: skip
    x, state, expected = (
        samples(1, 5, 4),
        torch.zeros(1, 5, 2, dtype=F64),
        torch.zeros(5, 2).double(),
    )
    for t in range(4):
        state = population_forward(torch.cat([x[..., t : t + 1], state], -1), **case)
        first = torch.tanh(0.5 * x[0, :, t] - 1.2 * expected[:, 0])
        expected = torch.stack([first, torch.tanh(0.7 * expected[:, 0] + 0.3 * expected[:, 1])], -1)
    assert_close(state[0], expected)


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_node_that_nothing_enters_has_the_value_of_its_bias(name, aggregation):
    case = one_node("tanh", aggregation, bias=0.3, weights=[], response=0.5)
    y = population_forward(samples(4, 2), **case, backend=name)
    expected = math.tanh(0.8 if aggregation == "product" else 0.3)
    assert_close(y, torch.full((1, 4, 1), expected, dtype=F64))


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nothing_overflows_into_nan(name, dtype, activation):
    """Huge weights, of both signs, through every function, and back again."""
    case = leaves(population(4, activations=[activation], dtype=dtype, scale=1e30))
    x = 1e5 * samples(6, 3, dtype=dtype)
    y = population_forward(x, **case, backend=name)
    assert (y.abs() <= 1e18).all()
    wanted = [case[name] for name in PARAMETERS]
    assert not any(g.isnan().any() for g in torch.autograd.grad(y.sum(), wanted))


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_what_is_not_a_number_counts_as_nothing(name, aggregation):
    case = one_node("identity", aggregation, bias=0.25, weights=[1.0, 1.0])
    x = torch.tensor([[float("nan"), 1.0], [2.0, float("nan")]], dtype=F64)
    assert population_forward(x, **case, backend=name).flatten().tolist() == [0.25, 0.25]


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("aggregation", "values", "expected"),
    [
        ("max", [2, 2, 1], [1, 0, 0]),
        ("min", [3, -1, -1], [0, 1, 0]),
        ("maxabs", [1, -2, 2], [0, 1, 0]),
        ("median", [5, 1, 3], [0, 0, 1]),
        ("median", [4, 1, 2, 9], [0.5, 0, 0.5, 0]),
        ("median", [7, 7, 7], [0, 1, 0]),
        ("mean", [1, 2], [0.5, 0.5]),
        ("product", [0, 3, 5], [15, 0, 0]),
        ("product", [0, 0, 5], [0, 0, 0]),
    ],
)
def test_where_a_gradient_goes(name, aggregation, values, expected):
    case = one_node("identity", aggregation, bias=0.0, weights=[1.0] * len(values))
    x = torch.tensor([values], dtype=F64, requires_grad=True)
    population_forward(x, **case, backend=name).sum().backward()
    assert x.grad.tolist() == [expected]


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_a_clamp_has_no_gradient(name):
    case = one_node("exp", bias=0.0, weights=[1.0])
    x = torch.tensor([[61.0], [45.0], [1.0]], dtype=F64, requires_grad=True)
    y = population_forward(x, **case, backend=name)
    y.sum().backward()
    assert_close(y.flatten().detach(), torch.tensor([1e18, 1e18, math.e], dtype=F64))
    assert_close(x.grad.flatten(), torch.tensor([0.0, 0.0, math.e], dtype=F64))


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize(("size", "count", "inputs"), [(0, 4, 3), (2, 0, 3), (0, 0, 3), (2, 4, 0)])
def test_nothing_to_do(name, size, count, inputs):
    case = leaves(population(size, n_input=inputs, edges=0, capacity=0 if size else None))
    x = samples(count, inputs).requires_grad_()
    y = population_forward(x, **case, backend=name)
    assert y.shape == (size, count, 2)
    grads = torch.autograd.grad(y.sum(), [x, *(case[name] for name in PARAMETERS)])
    assert grads[0].shape == x.shape


def test_strides_do_not_matter():
    case, x = population(6), samples(3, 6, 5).permute(1, 2, 0)
    strided = {k: v.repeat_interleave(2, -1)[..., ::2] for k, v in case.items()}
    for arguments in (case, strided):
        compare_backends(population_forward, {"inputs": x, **arguments}, backends=["cpu"])
    assert torch.equal(population_forward(x, **strided), population_forward(x, **case))


def test_all_of_the_output_is_written():
    case = population(5)
    with poisoned_allocations():
        assert population_forward(samples(33, 3), **case).isfinite().all()


def test_autocast_leaves_the_precision():
    case, x = population(4, dtype=F32), samples(9, 3, dtype=F32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(population_forward(x, **case), population_forward(x, **case))
        y = population_forward(x, **case)
    assert torch.equal(y, population_forward(x, **case))


def test_the_backward_has_the_backend_of_the_forward(monkeypatch):
    from gonzo.core.ops.population_forward import cpu

    case = leaves(population(2))
    with backend("reference"):
        y = population_forward(samples(3, 3), **case)
    monkeypatch.setattr(cpu, "backward", None)
    y.sum().backward()
    assert case["bias"].grad.isfinite().all()


def test_no_values_are_kept():
    """Values of all nodes would be 50 times the output."""
    case = population(20, hidden=46, edges=100, n_output=1, aggregations=["sum"])
    real = (samples(4000, 3), *(case.pop(name) for name in PARAMETERS))
    forward, grad = functools.partial(population_forward, **case), samples(20, 4000, 1)
    needed = peak_memory(functools.partial(torch.autograd.functional.vjp, forward, real, grad))
    assert needed <= 12 * grad.nbytes


@given(
    sizes=st.tuples(st.integers(1, 4), st.integers(0, 5), st.integers(1, 3), st.integers(0, 7)),
    edges=st.integers(0, 30),
    count=st.integers(0, 20),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_any_network_agrees(sizes, edges, count, seed):
    size, inputs, outputs, hidden = sizes
    case = population(
        size, n_input=inputs, n_output=outputs, hidden=hidden, edges=edges, seed=seed,
        activations=(*ACTIVATIONS[:3], "relu", "sin", "gauss"),
    )  # fmt: skip
    x = samples(count, inputs, seed=seed)
    compare_backends(population_forward, {"inputs": x, **case}, backends=["cpu"])


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_only_ancestors_of_an_output_matter(seed):
    """Perturbing a node changes no output that does not read it, and renumbering inputs none."""
    case, x = population(1, seed=seed, aggregations=["sum"]), samples(3, 3, seed=seed)
    y = population_forward(x, **case)
    j = seed % int(case["nodes"][0])
    reached = {3 + j}
    for k in range(j + 1, int(case["nodes"][0])):
        read = case["source"][0, case["first"][0, k] : case["first"][0, k + 1]].tolist()
        if reached & set(read):
            reached.add(3 + k)
    case["bias"][0, j] += 0.37
    changed = population_forward(x, **case)
    for o in range(2):
        if 3 + int(case["outputs"][0, o]) not in reached:
            assert torch.equal(changed[..., o], y[..., o])


fine = population(2, seed=3)
x_fine = samples(4, 3)


def broken(name, value, at=(0, 0)):
    case = {k: v.clone() for k, v in fine.items()}
    case[name][at] = value
    return functools.partial(population_forward, x_fine, **case)


def given_instead(**other):
    return functools.partial(population_forward, **{"inputs": x_fine, **fine, **other})


@pytest.mark.parametrize(
    ("kind", "message", "call"),
    [
        (ValueError, r"weight of shape \(networks, edges\), got \(19,\)",
         given_instead(weight=fine["weight"][0])),
        (ValueError, r"bias of shape \(2, nodes\), got \(11,\)",
         given_instead(bias=fine["bias"][0])),
        (ValueError, r"of shape \(samples, inputs\) or \(2, samples, inputs\), got \(3, 4, 3\)",
         given_instead(inputs=x_fine.expand(3, 4, 3))),
        (ValueError, r"outputs of shape \(2, outputs\), got \(2,\)",
         given_instead(outputs=fine["outputs"][0])),
        (ValueError, r"response of shape \(2, 11\), got \(2, 10\)",
         given_instead(response=fine["response"][:, 1:])),
        (ValueError, r"source of shape \(2, 19\), got \(2, 18\)",
         given_instead(source=fine["source"][:, 1:])),
        (ValueError, r"first of shape \(2, 12\), got \(2, 11\)",
         given_instead(first=fine["first"][:, 1:])),
        (ValueError, r"nodes of shape \(2,\), got \(1,\)", given_instead(nodes=fine["nodes"][1:])),
        (ValueError, r"aggregation of shape \(2, 11\), got \(1, 11\)",
         given_instead(aggregation=fine["aggregation"][1:])),
        (TypeError, r"inputs in float32 or float64, got torch.float16; use inputs.float\(\)",
         given_instead(inputs=x_fine.half())),
        (TypeError, "inputs and bias must share a dtype, got torch.float64 and torch.float32",
         given_instead(bias=fine["bias"].float())),
        (TypeError, r"expected source in int32, got torch.int64; use source.int\(\)",
         given_instead(source=fine["source"].long())),
        (TypeError, "must be on one device, got inputs on cpu and nodes on meta",
         given_instead(nodes=fine["nodes"].to("meta"))),
        (ValueError, "unknown backend 'cuda'", given_instead(backend="cuda")),
        (ValueError, "network 0 has an edge into node 0 that reads slot 3, expected 0 … 2: "
         "inputs and earlier nodes; are its nodes in topological order", broken("source", 3)),
        (ValueError, "network 1 has an edge into node . that reads slot -1",
         broken("source", -1, (1, 0))),
        (ValueError, "network 1 has 12 nodes, expected 0 … 11", broken("nodes", 12, 1)),
        (ValueError, "network 0 has edges of node 2 that end at -1: `first` decreases or leaves",
         broken("first", -1, (0, 3))),
        (ValueError, "network 0 has edges of node 1 that end at 20", broken("first", 20, (0, 2))),
        (ValueError, "network 0 has activation 24 at node 0, expected 0 … 23",
         broken("activation", 24)),
        (ValueError, "network 0 has aggregation 7 at node 0, expected 0 … 6",
         broken("aggregation", 7)),
        (ValueError, "network 1 has output 1 at node 9, which is not one of its nodes",
         broken("outputs", 9, (1, 1))),
    ],
)  # fmt: skip
def test_bad_input_is_explained(kind, message, call):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("name", ["source", "nodes", "activation", "aggregation", "outputs"])
def test_the_reference_refuses_bad_indices_too(name):
    call = broken(name, 99, 0 if name == "nodes" else (0, 0))
    with pytest.raises(ValueError, match="holds 99, expected 0 …"):
        call(backend="reference")
    with pytest.raises(ValueError, match="`first` must not decrease"):
        broken("first", 99)(backend="reference")


def test_names_that_do_not_exist_are_refused():
    for call in (activate, slope):
        with pytest.raises(
            ValueError, match="unknown activation 'step'; expected one of identity, "
        ):
            call("step", x_fine)
    with pytest.raises(
        ValueError, match="unknown aggregation 'mode'; expected one of sum, product"
    ):
        aggregate("mode", x_fine)


def test_second_derivatives_are_refused():
    case = leaves(population(2))
    y = population_forward(x_fine, **case)
    (grad,) = torch.autograd.grad(y.square().sum(), case["bias"], create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        grad.sum().backward()
