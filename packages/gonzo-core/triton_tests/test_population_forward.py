"""The kernels of `population_forward` against the reference."""

import pytest
import torch

from gonzo.core.ops.population_forward import population_forward
from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS
from gonzo.core.testing import compare_backends, poisoned_allocations

F32, F64 = torch.float32, torch.float64
TAME = ("identity", "sigmoid", "tanh", "relu", "sin", "gauss", "softplus", "hat", "selu")
PARAMETERS = ("weight", "bias", "response")


def population(device, size, *, hidden=3, edges=9, activations=TAME, aggregations=AGGREGATIONS,
               dtype=F64, scale=0.6):  # fmt: skip
    """Random networks of 2 inputs and 2 outputs, with a column of padding that holds NaN and -1."""
    own = hidden + 2
    possible = [(j, s) for j in range(own) for s in range(2 + j)]
    edges = min(edges, len(possible))
    source = torch.full((size, edges + 1), -1)
    first = torch.full((size, own + 2), -1)
    for p in range(size):
        chosen = [possible[i] for i in sorted(torch.randperm(len(possible))[:edges].tolist())]
        source[p, :edges] = torch.tensor([s for _, s in chosen])
        targets = torch.tensor([j for j, _ in chosen])
        first[p, :-1] = torch.searchsorted(targets, torch.arange(own + 1))
    real = [scale * torch.randn(size, n, dtype=F64) for n in (edges + 1, own + 1, own + 1)]
    real[2] += 1
    for tensor in real:
        tensor[:, -1] = float("nan")
    chosen = ((ACTIVATIONS, activations), (AGGREGATIONS, aggregations))
    ids = [torch.tensor([names.index(name) for name in some]) for names, some in chosen]
    kinds = [i[torch.randint(len(i), (size, own + 1))] for i in ids]
    whole = (source, first, torch.full((size,), own), *kinds)
    outputs = torch.rand(size, own).argsort(1)[:, :2]
    names = ("source", "first", "nodes", "activation", "aggregation", "outputs")
    case = {n: t.to(dtype) for n, t in zip(PARAMETERS, real, strict=True)}
    case |= {n: t.int() for n, t in zip(names, (*whole, outputs), strict=True)}
    return {name: tensor.to(device) for name, tensor in case.items()}


def agrees(x, case):
    compare_backends(population_forward, {"inputs": x, **case}, backends=["triton"])


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("count", [1, 5, 67])
def test_it_agrees_with_the_reference(device, dtype, own, count):
    x = torch.randn(*((3, count, 2) if own else (count, 2)), dtype=dtype, device=device)
    agrees(x, population(device, 3, dtype=dtype))


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_agrees(device, dtype, activation):
    case = population(
        device, 6, hidden=0, activations=[activation], aggregations=["sum"], dtype=dtype
    )
    if activation == "inv":
        case["bias"] += 4  # away from its pole, where nothing keeps its digits
    agrees(torch.randn(30, 2, dtype=dtype, device=device), case)


@pytest.mark.parametrize("activation", ["exp", "sin", "tanh", "softplus", "log", "square", "selu"])
def test_clamps_agree(device, activation):
    case = population(device, 1, hidden=0, activations=[activation], aggregations=["sum"], scale=1)
    agrees(100 * torch.randn(30, 2, dtype=F64, device=device), case)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_every_aggregation_agrees(device, aggregation):
    case = population(device, 2, hidden=2, edges=10, aggregations=[aggregation])
    agrees(torch.randn(4, 2, dtype=F64, device=device), case)


def test_more_tasks_than_have_room(device, monkeypatch):
    from gonzo.core.ops.population_forward import triton

    monkeypatch.setattr(triton, "_tasks", lambda out, _: (out.shape[0], 2))
    agrees(torch.randn(3, 2, dtype=F64, device=device), population(device, 5))


def test_strides_do_not_matter(device):
    case = population(device, 2)
    x = torch.randn(2, 3, 4, dtype=F64, device=device).permute(1, 2, 0)[:2]
    agrees(x, {k: v.repeat_interleave(2, -1)[..., ::2] for k, v in case.items()})


@pytest.mark.parametrize(("size", "count"), [(0, 3), (2, 0)])
def test_nothing_to_do(device, size, count):
    case = population(device, size)
    x = torch.randn(count, 2, dtype=F64, device=device, requires_grad=True)
    y = population_forward(x, **case, backend="triton")
    assert y.shape == (size, count, 2)
    y.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")  # NumPy's, interpreting
def test_nothing_overflows_into_nan(device):
    case = population(device, 3, activations=ACTIVATIONS, dtype=F32, scale=1e30)
    case = {k: v.requires_grad_(k in PARAMETERS) for k, v in case.items()}
    with poisoned_allocations():
        y = population_forward(torch.randn(4, 2, device=device), **case, backend="triton")
    assert (y.abs() <= 1e18).all()
    grads = torch.autograd.grad(y.sum(), [case[n] for n in PARAMETERS])
    assert not any(g.isnan().any() for g in grads)


def test_a_network_has_the_same_bits_in_any_company(device):
    case, x = population(device, 5, dtype=F32), torch.randn(70, 2, device=device)
    y = population_forward(x, **case, backend="triton")
    rows = torch.tensor([4, 1], device=device)
    some = {k: v[rows] for k, v in case.items()}
    assert torch.equal(population_forward(x, **some, backend="triton"), y[rows])


def test_it_repeats_bit_for_bit(device):
    case, x = population(device, 3, dtype=F32), torch.randn(70, 2, device=device).requires_grad_()
    case = {k: v.requires_grad_(k in PARAMETERS) for k, v in case.items()}
    runs = []
    for _ in range(2):
        y = population_forward(x, **case, backend="triton")
        runs.append([y, *torch.autograd.grad(y.sum(), [x, *(case[n] for n in PARAMETERS)])])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
