import re
import time
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from gonzo.core.sequence import (
    SequenceModule,
    check_lengths,
    check_sequence,
    check_state,
    check_step,
    last_step,
    map_state,
    mask_padding,
    renew_state,
    select_batch,
    time_mask,
)
from gonzo.core.testing import FORWARD_LAWS, LAWS, SequenceCase, assert_close


class AverageState(NamedTuple):
    h: Tensor  # (batch, d_model)
    decay: Tensor  # (d_model,)

    shared = frozenset({"decay"})


class Average(SequenceModule):
    """The smallest layer with memory: h_t = a h_{t-1} + x_t. It has no forward of its own."""

    def __init__(self, d_model, *, device=None, dtype=None):
        super().__init__()
        self.d_model = d_model
        self.logit = nn.Parameter(torch.empty(d_model, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.normal_(self.logit)

    def init_state(self, batch, *, device=None, dtype=None):
        h = self.logit.new_zeros(batch, self.d_model, device=device, dtype=dtype)
        return AverageState(h, self.logit.sigmoid())

    def scan(self, x, state, lengths=None):
        self.check(x, lengths, state)
        h, outputs = state.h, []
        for t in range(x.shape[1]):
            new = state.decay * h + x[:, t]
            h = new if lengths is None else torch.where((t < lengths)[:, None], new, h)
            outputs.append(new)
        return mask_padding(torch.stack(outputs, dim=1), lengths), state._replace(h=h)

    def step(self, x_t, state):
        self.check_step(x_t, state)
        h = state.decay * state.h + x_t
        return h, state._replace(h=h)


class Reversed(SequenceModule):
    """A layer that cannot stream: it reads each sequence backwards."""

    def __init__(self, d_model):
        super().__init__()
        self.d_model = d_model
        self.layer = Average(d_model)

    def reset_parameters(self):
        self.layer.reset_parameters()

    def forward(self, x, lengths=None):
        self.check(x, lengths)
        if lengths is None:
            return self.layer(x.flip(1))
        rows = [torch.cat([r[:n].flip(0), r[n:]]) for r, n in zip(x, lengths.tolist(), strict=True)]
        return self.layer(torch.stack(rows), lengths)


@pytest.mark.parametrize("law", LAWS)
def test_a_minimal_layer_keeps(law):
    law(SequenceCase(lambda: Average(4)))


@pytest.mark.parametrize("law", FORWARD_LAWS)
def test_a_layer_with_forward_only_keeps(law):
    law(SequenceCase(lambda: Reversed(4)))


def test_a_layer_with_forward_only_says_so():
    layer = Reversed(4)
    assert Average(4).streams
    assert not layer.streams
    x = torch.randn(2, 3, 4)
    message = "Reversed cannot stream: it needs the whole sequence and has forward only"
    for call in (lambda: layer.init_state(2), lambda: layer.scan(x, ()), lambda: layer.step(x, ())):
        with pytest.raises(TypeError, match=message):
            call()


def test_half_a_contract_is_refused_when_the_class_is_defined():
    with pytest.raises(TypeError, match="Half has no init_state and no step: a layer that streams"):

        class Half(SequenceModule):
            def scan(self, x, state, lengths=None):
                return x, state


def test_a_layer_without_reset_parameters_says_so():
    class Bare(SequenceModule):
        pass

    with pytest.raises(NotImplementedError, match="Bare does not define reset_parameters"):
        Bare().reset_parameters()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            torch.zeros(32, 256, 1000),
            ValueError,
            "S4: expected x of shape (batch, time, 256), got (32, 256, 1000); "
            "did you mean x.transpose(1, 2)?",
        ),
        (
            torch.zeros(1000, 256),
            ValueError,
            "S4: expected x of shape (batch, time, 256), got (1000, 256); "
            "did you mean x.unsqueeze(0), a batch of one?",
        ),
        (
            torch.zeros(3, 5, 7),
            ValueError,
            "S4: expected x of shape (batch, time, 256), got (3, 5, 7)",
        ),
        (torch.zeros(()), ValueError, "S4: expected x of shape (batch, time, 256), got ()"),
        (
            torch.zeros(3, 0, 256),
            ValueError,
            "S4: expected at least one time step, got x of shape (3, 0, 256)",
        ),
        (
            torch.zeros(3, 5, 256, dtype=torch.int64),
            TypeError,
            "S4: expected x to be floating point, got int64; use x.float() if it holds numbers",
        ),
        (
            torch.zeros(3, 5, 256, dtype=torch.complex64),
            TypeError,
            "S4: expected x to be floating point, got complex64",
        ),
        ([[1.0]], TypeError, "S4: expected x to be a tensor, got list"),
    ],
)
def test_check_sequence(x, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        check_sequence("S4", x, 256)


@pytest.mark.parametrize(
    ("x_t", "error", "message"),
    [
        (
            torch.zeros(3, 1, 256),
            ValueError,
            "S4: expected x_t of shape (batch, 256), got (3, 1, 256); "
            "step takes one time step, scan a chunk",
        ),
        (torch.zeros(256), ValueError, "S4: expected x_t of shape (batch, 256), got (256,)"),
        (
            torch.zeros(3, 256, dtype=torch.int32),
            TypeError,
            "S4: expected x_t to be floating point, got int32; use x_t.float() if it holds numbers",
        ),
        (None, TypeError, "S4: expected x_t to be a tensor, got NoneType"),
    ],
)
def test_check_step(x_t, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        check_step("S4", x_t, 256)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([3, 2], TypeError, "S4: expected lengths to be a tensor, got list"),
        (torch.tensor([1.0, 2.0]), TypeError, "S4: expected integer lengths, got float32"),
        (
            torch.tensor([1, 2, 3]),
            ValueError,
            "S4: expected lengths of shape (2,), one for each sequence, got (3,)",
        ),
        (torch.tensor([1, 6]), ValueError, "S4: expected lengths between 0 and 5, got 6"),
        (torch.tensor([-1, 3]), ValueError, "S4: expected lengths between 0 and 5, got -1"),
        (
            torch.zeros(2, dtype=torch.int64, device="meta"),
            ValueError,
            "S4: lengths are on meta and x is on cpu; use lengths.to(x.device)",
        ),
    ],
)
def test_check_lengths(lengths, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        check_lengths("S4", lengths, torch.zeros(2, 5, 4))


def test_an_empty_batch_has_empty_lengths():
    check_lengths("S4", torch.zeros(0, dtype=torch.int64), torch.zeros(0, 5, 4))


@pytest.mark.parametrize("nested", [False, True])
def test_check_state(nested):
    state = Average(4).init_state(2)
    given = (state,) if nested else state
    check_state("S4", given, torch.zeros(2, 5, 4))
    message = "S4: the state is of a batch of 2 and the input of a batch of 3; use init_state(3)"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_state("S4", given, torch.zeros(3, 5, 4))
    message = (
        "S4: the state is on cpu and the input on meta; use init_state(batch, device=x.device)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        check_state("S4", given, torch.zeros(2, 5, 4, device="meta"))
    with pytest.raises(TypeError, match="S4: expected a state made by init_state, got NoneType"):
        check_state("S4", None, torch.zeros(2, 5, 4))


def test_states_can_be_mapped_and_picked():
    state = (Average(4).init_state(3), Average(2).init_state(3))
    doubled = map_state(lambda tensor: tensor + 1, state)
    assert isinstance(doubled[0], AverageState)
    assert torch.equal(doubled[1].decay, state[1].decay + 1)
    picked = select_batch(state, torch.tensor([2, 2]))
    assert picked[0].h.shape == (2, 4)
    assert picked[0].decay is state[0].decay


def test_a_state_from_before_an_update_is_stale():
    layer = Average(4)
    x_t = torch.randn(1, 4)
    _, state = layer.step(x_t, layer.init_state(1))
    with torch.no_grad():
        layer.logit += 1
    stale, _ = layer.step(x_t, state)
    fresh, _ = layer.step(x_t, layer.init_state(1)._replace(h=state.h))
    assert not torch.allclose(stale, fresh)


def test_a_renewed_state_follows_the_parameters_and_drops_the_past():
    layer, x = Average(3).double(), torch.randn(2, 5, 3, dtype=torch.float64)
    _, state = layer.scan(x, layer.init_state(2))
    before = state.h.detach().clone()
    with torch.no_grad():
        layer.logit.add_(1)
    renewed = renew_state(state, layer.init_state(2))
    assert torch.equal(renewed.h, before)
    assert not renewed.h.requires_grad
    assert torch.equal(renewed.decay, layer.logit.sigmoid())
    assert renewed.decay.requires_grad
    nested = renew_state(((state, state),), ((renewed, renewed),))
    assert isinstance(nested[0][1], AverageState)
    assert torch.equal(nested[0][1].decay, renewed.decay)
    with pytest.raises(ValueError, match="zip"):
        renew_state((state, state), (renewed,))


def test_last_step():
    y = torch.arange(12.0).reshape(2, 3, 2)
    assert torch.equal(last_step(y, None), y[:, 2])
    assert torch.equal(last_step(y, torch.tensor([2, 0])), torch.stack([y[0, 1], y[1, 0]]))


def test_masks():
    lengths = torch.tensor([0, 2, 3])
    expected = torch.tensor([[0, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
    assert torch.equal(time_mask(lengths, 3), expected)
    for shape in [(3, 3), (3, 3, 2), (3, 3, 2, 2)]:
        y = mask_padding(torch.ones(shape), lengths)
        assert torch.equal(y.flatten(2).bool().all(-1) if y.ndim > 2 else y.bool(), expected)
    y = torch.ones(3, 3)
    assert mask_padding(y, None) is y


def test_checks_cost_microseconds():
    layer = Average(256)
    x_t, state = torch.randn(1, 256), layer.init_state(1)

    def of_a_thousand():
        start = time.process_time()
        for _ in range(1000):
            layer.check_step(x_t, state)
        return time.process_time() - start

    assert min(of_a_thousand() for _ in range(5)) < 0.010


def test_forward_without_padding_equals_full_lengths():
    layer = Average(4)
    x = torch.randn(2, 5, 4)
    assert_close(layer(x, torch.tensor([5, 5])), layer(x))
