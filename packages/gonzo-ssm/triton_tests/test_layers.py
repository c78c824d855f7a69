"""Layers through the Triton kernels give what they give through the loops for the CPU."""

import copy
import functools

import pytest
import torch

import gonzo.core
from gonzo.core.backends import triton_is_interpreted
from gonzo.core.nn import ResidualStack
from gonzo.core.sequence import map_state
from gonzo.core.testing import FORWARD_LAWS, LAWS, SequenceCase, assert_close
from gonzo.core.testing.sequence_case import gradients, step_all, tensors
from gonzo.ssm import H3, LSSL, S4, S4D, S5, Bidirectional, Mega, S4DKernel

D_MODEL, D_STATE = 3, 4
STREAMING = {
    "S4": functools.partial(S4, D_MODEL, D_STATE),
    "S4D": functools.partial(S4D, D_MODEL, D_STATE),
    "S4 of rank 2": functools.partial(S4, D_MODEL, D_STATE, init="legt", channels=2),
    "S5": functools.partial(S5, D_MODEL, D_STATE),
    "H3": functools.partial(H3, 2 * D_MODEL, D_STATE, head_dim=2),
    "LSSL": functools.partial(LSSL, D_MODEL, D_STATE),
    "Mega": functools.partial(Mega, D_MODEL, D_STATE, d_key=2, chunk=3),
}
MAKE = {
    **STREAMING,
    "Bidirectional": lambda: Bidirectional(S4DKernel(D_MODEL, D_STATE)),
    "a stack of both": lambda: ResidualStack([S4(D_MODEL, D_STATE), S4D(D_MODEL, D_STATE)]),
}
# The interpreter takes minutes for all laws of a layer; these run every kernel.
INTERPRETED = ("padding_does_not_matter", "forward_is_scan", "states_stop_at_the_length")


def tried(laws):
    return [law for law in laws if not triton_is_interpreted() or law.__name__ in INTERPRETED]


@pytest.fixture
def case(device):
    """Makes a case on the CPU, and the same one where the kernels run."""
    return lambda make: (
        SequenceCase(make, batch=2, time=7),
        SequenceCase(make, batch=2, time=7, device=device),
    )


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_forward_and_backward(make, case):
    here, there = case(make)
    results = []
    for which, backend in ((here, "cpu"), (there, "triton")):
        layer = which.layer()
        x = which.sequence(layer).requires_grad_()
        with gonzo.core.backend(backend):
            y = layer(x, which.lengths())
            results.append({"y": y} | gradients(layer, x, y))
    expected, actual = results
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert value.device.type == torch.device(there.device).type
        assert_close(value.cpu(), expected[name], name=name)


@pytest.mark.parametrize("make", STREAMING.values(), ids=STREAMING)
def test_float32_is_as_near_to_float64_as_on_the_cpu(make, case):
    _, there = case(make)
    layer = there.layer(torch.float32)
    x = there.sequence(layer, dtype=torch.float32)
    exact = copy.deepcopy(layer).cpu().double()(x.cpu().double())
    with gonzo.core.backend("triton"):
        assert_close(layer(x).cpu(), exact, dtype=torch.float32)


@pytest.mark.parametrize("make", STREAMING.values(), ids=STREAMING)
def test_scan_and_step(make, case):
    """Outputs and states, the chunk padded."""
    results = []
    for which, backend in zip(case(make), ("cpu", "triton"), strict=True):
        layer = which.layer()
        x = which.sequence(layer)
        with gonzo.core.backend(backend), torch.no_grad():
            y, state = layer.scan(x, layer.init_state(which.batch), which.lengths())
            stepped, after = step_all(layer, x[:, :3], state)
        results.append([y, stepped, *tensors(state), *tensors(after)])
    for index, (expected, actual) in enumerate(zip(*results, strict=True)):
        if expected.is_floating_point():
            assert_close(actual.cpu(), expected, name=f"result {index}")
        else:  # what a cache holds
            assert torch.equal(actual.cpu(), expected), index


@pytest.mark.parametrize("make", STREAMING.values(), ids=STREAMING)
def test_gradients_of_scan(make, case):
    """Through the recurrence's own backward, from a state that learns as well."""
    results = []
    for which, backend in zip(case(make), ("cpu", "triton"), strict=True):
        layer = which.layer()
        x = which.sequence(layer).requires_grad_()
        with gonzo.core.backend(backend):
            _, state = layer.scan(x, layer.init_state(which.batch))
            y, after = layer.scan(x.flip(1), state)
            states = [t for t in tensors(after) if t.is_floating_point()]
            loss = y.square().sum() + sum(t.square().sum() for t in states)
            results.append(torch.autograd.grad(loss, [x, *layer.parameters()]))
    for index, (expected, actual) in enumerate(zip(*results, strict=True)):
        assert_close(actual.cpu(), expected, name=f"gradient {index}")


@pytest.mark.parametrize("law", tried(LAWS))
@pytest.mark.parametrize("make", STREAMING.values(), ids=STREAMING)
def test_it_keeps(law, make, device):
    with gonzo.core.backend("triton"):
        law(SequenceCase(make, batch=2, time=5, device=device))


@pytest.mark.parametrize("law", tried(FORWARD_LAWS))
def test_bidirectional_keeps(law, device):
    with gonzo.core.backend("triton"):
        law(SequenceCase(MAKE["Bidirectional"], batch=2, time=5, device=device))


def test_a_state_moves_between_devices(device):
    """One that was filled on the CPU goes on where the kernels run."""
    case = SequenceCase(STREAMING["S4"], batch=2, time=7)
    layer = case.layer()
    x = case.sequence(layer)
    with torch.no_grad():
        _, state = layer.scan(x, layer.init_state(2))
        expected, _ = layer.step(x[:, 0], state)
        moved = map_state(lambda tensor: tensor.to(device), state)
        with gonzo.core.backend("triton"):
            y, _ = layer.to(device).step(x[:, 0].to(device), moved)
    assert_close(y.cpu(), expected)
