"""Sequences longer than memory: losses over chunks, and layers recomputed in the backward pass."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack
from gonzo.core.ops.linear_scan import linear_scan
from gonzo.core.sequence import SequenceModule
from gonzo.core.testing import LAWS, SequenceCase, assert_close

VOCAB = 5


class LeakyState(NamedTuple):
    h: Tensor  # (batch, d_model)
    decay: Tensor  # (d_model,)

    shared = frozenset({"decay"})


class Leaky(SequenceModule):
    """h_t = a h_{t-1} + x_t through the kernel, with a in the state as state space models have."""

    def __init__(self, d_model):
        super().__init__()
        self.d_model = d_model
        self.logit = nn.Parameter(torch.randn(d_model))

    def reset_parameters(self):
        nn.init.normal_(self.logit)

    def init_state(self, batch, *, device=None, dtype=None):
        h = self.logit.new_zeros(batch, self.d_model, device=device, dtype=dtype)
        return LeakyState(h, self.logit.sigmoid())

    def scan(self, x, state, lengths=None):
        self.check(x, lengths, state)
        y = linear_scan(state.decay, x, state.h)
        return y, state._replace(h=y[:, -1])

    def step(self, x_t, state):
        self.check_step(x_t, state)
        h = state.decay * state.h + x_t
        return h, state._replace(h=h)


def language_model(*layers, **settings):
    torch.manual_seed(0)
    layers = layers or (Leaky(8), CausalAttention(8, 2))
    return LanguageModel(VOCAB, ResidualStack(layers, feed_forward=12, **settings)).double()


def text(batch=2, time=23):
    return torch.randint(VOCAB, (batch, time), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sizes", [23, 10, 1, [1, 1, 20, 1]])
def test_losses_of_chunks_are_the_loss_of_the_whole(sizes):
    model, tokens = language_model().eval(), text()
    with torch.no_grad():
        found = list(model.losses(tokens.split(sizes, dim=1)))
        assert sum(count for _, count in found) == 2 * 22
        mean = sum(loss * count for loss, count in found) / (2 * 22)
        assert_close(mean, model.loss(tokens))


def test_losses_come_before_the_next_chunk_is_asked_for():
    model, asked = language_model(), []

    def chunks():
        for chunk in text().split(10, dim=1):
            asked.append(len(asked))
            yield chunk

    losses = model.losses(chunks())
    next(losses)
    assert asked == [0]


def test_gradients_stop_between_chunks():
    """Each chunk's gradient is that of the chunk alone, from a state that is taken as given."""
    model, tokens = language_model(), text()
    parameters = list(model.parameters())
    found = [
        torch.autograd.grad(loss, parameters) for loss, _ in model.losses(tokens.split(12, dim=1))
    ]
    with torch.no_grad():
        _, before = model.stack.scan(model.embedding(tokens[:, :11]), model.init_state(2))
    fresh = model.init_state(2).layers[0]
    first, second = before.layers
    state = before._replace(layers=(first._replace(decay=fresh.decay), second))
    logits, _ = model.scan(tokens[:, 11:-1], state)
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 12:].flatten())
    for gradient, e in zip(found[1], torch.autograd.grad(expected, parameters), strict=True):
        assert_close(gradient, e)


def test_trains_with_a_step_between_chunks():
    torch.manual_seed(0)
    model = language_model(Leaky(16)).float()
    tokens = torch.arange(400)[None].remainder(VOCAB).repeat(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    losses = []
    for loss, _ in model.losses(tokens.split(10, dim=1)):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5
    assert losses[-1] < 0.2


def test_losses_of_another_batch_are_explained():
    model = language_model()
    losses = model.losses([text(2), text(3)])
    next(losses)
    with pytest.raises(ValueError, match="chunks of one batch, got 2 sequences and then 3"):
        next(losses)


def stacks(**settings):
    """The same stack, with and without recomputation."""
    for checkpoint in (True, False):
        torch.manual_seed(0)
        layers = [Leaky(8), CausalAttention(8, 2), Leaky(8)]
        yield ResidualStack(layers, feed_forward=12, checkpoint=checkpoint, **settings).double()


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3}, {"dropout": 0.3, "tied_dropout": True}])
def test_recomputed_layers_have_the_same_gradients(settings):
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    results = []
    for stack in stacks(**settings):
        torch.manual_seed(1)
        y, state = stack.scan(x[:, :5], stack.init_state(2))
        z, _ = stack.scan(x[:, 5:], state)
        loss = stack(x).square().sum() + y.square().sum() + z.square().sum()
        results.append((loss, *torch.autograd.grad(loss, list(stack.parameters()))))
    for recomputed, stored in zip(*results, strict=True):
        assert_close(recomputed, stored)


def bytes_kept(stack, x):
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = stack(x)
    own = {p.untyped_storage().data_ptr() for p in stack.parameters()}
    assert y.requires_grad
    return sum(size for pointer, size in kept.items() if pointer not in own)


def test_recomputed_layers_keep_their_inputs_alone():
    x = torch.randn(2, 50, 8, dtype=torch.float64)
    recomputed, stored = (bytes_kept(stack, x) for stack in stacks())
    inputs = 4 * x.numel() * 8  # of the three layers and of the last norm
    assert recomputed <= 1.2 * inputs
    assert stored > 4 * recomputed


def test_nothing_is_recomputed_without_gradients(monkeypatch):
    stack = next(stacks())
    monkeypatch.setattr("gonzo.core.nn.stack.recomputed", None)
    with torch.no_grad():
        stack(torch.randn(2, 5, 8, dtype=torch.float64))


@pytest.mark.parametrize("law", LAWS)
def test_a_recomputing_stack_keeps(law):
    law(SequenceCase(lambda: ResidualStack([CausalAttention(8, 2)], checkpoint=True)))


def test_a_long_scan_keeps_no_more_than_its_state():
    model = language_model(Leaky(8)).eval()
    with torch.no_grad():
        state = model.init_state(1)
        for _ in range(3):
            _, state = model.scan(text(1, 50), state)
    assert sum(t.numel() for t in state.layers[0]) == 16
