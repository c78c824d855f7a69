import pytest
import torch
from torch import nn

from gonzo.core.nn import CausalAttention, Dropout, FeedForward, ResidualStack
from gonzo.core.sequence import SequenceModule
from gonzo.core.testing import FORWARD_LAWS, SequenceCase, assert_close


class Backwards(SequenceModule):
    """A layer with forward only."""

    def __init__(self, d_model):
        super().__init__()
        self.d_model = d_model
        self.layer = CausalAttention(d_model, 2)

    def reset_parameters(self):
        self.layer.reset_parameters()

    def forward(self, x, lengths=None):
        self.check(x, lengths)
        if lengths is None:
            return self.layer(x.flip(1)).flip(1)
        index = torch.arange(x.shape[1]).expand(x.shape[:2])
        index = torch.where(index < lengths[:, None], lengths[:, None] - 1 - index, index)
        index = index[..., None].expand_as(x)
        return self.layer(x.gather(1, index), lengths).gather(1, index)


@pytest.mark.parametrize("law", FORWARD_LAWS)
def test_a_stack_with_a_layer_that_cannot_stream_keeps(law):
    law(SequenceCase(lambda: ResidualStack([CausalAttention(8, 2), Backwards(8)])))


def test_a_stack_with_a_layer_that_cannot_stream_says_so():
    stack = ResidualStack([CausalAttention(8, 2), Backwards(8)])
    assert not stack.streams
    message = "ResidualStack cannot stream: it holds a Backwards, which has forward only"
    x = torch.randn(2, 3, 8)
    for call in (lambda: stack.init_state(2), lambda: stack.scan(x, ()), lambda: stack.step(x, ())):
        with pytest.raises(TypeError, match=message):
            call()


def test_equals_its_equations():
    layer = CausalAttention(8, 2)
    stack = ResidualStack([layer], norm="rms", feed_forward=16)
    x = torch.randn(2, 5, 8)
    y = x + layer(stack.norms[0](x))
    y = y + stack.feed_forwards[0](stack.feed_forward_norms[0](y))
    assert_close(stack(x), stack.final_norm(y))
    assert isinstance(stack.final_norm, nn.RMSNorm)


@pytest.mark.parametrize(
    ("layers", "settings", "message"),
    [
        ([], {}, "expected at least one layer and all of one d_model, got []"),
        ([8, 4], {}, "expected at least one layer and all of one d_model, got [8, 4]"),
        ([8], {"norm": "batch"}, "expected norm 'layer' or 'rms', got 'batch'"),
    ],
)
def test_wrong_stacks(layers, settings, message):
    with pytest.raises(ValueError, match="ResidualStack") as caught:
        ResidualStack([CausalAttention(size, 1) for size in layers], **settings)
    assert message in str(caught.value)


def test_dropout():
    x = torch.ones(4, 50, 6)
    free, tied = Dropout(0.5)(x), Dropout(0.5, tied=True)(x)
    assert set(free.unique().tolist()) == {0.0, 2.0}
    assert set(tied.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(tied, tied[:, :1].expand_as(tied))
    assert not torch.equal(free, free[:, :1].expand_as(free))
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5, tied=True)(x[:, 0]).shape == (4, 6)
    assert repr(Dropout(0.1, tied=True)) == "Dropout(0.1, tied=True)"
    with pytest.raises(ValueError, match="expected a probability 0 <= p < 1, got 1"):
        Dropout(1)


def test_dropout_of_a_stack_can_be_tied():
    stack = ResidualStack([CausalAttention(8, 2)], dropout=0.3, tied_dropout=True)
    assert stack.dropout.tied
    x = torch.randn(2, 5, 8)
    assert not torch.equal(stack(x), stack(x))


def test_feed_forward():
    x = torch.randn(2, 5, 8)
    plain = FeedForward(8, 12)
    assert_close(plain(x), plain.contract(nn.functional.gelu(plain.expand(x))))
    gated = FeedForward(8, 12, activation="swiglu")
    gate, value = gated.expand(x).chunk(2, dim=-1)
    assert_close(gated(x), gated.contract(nn.functional.silu(gate) * value))
    assert plain(x[:, 0]).shape == (2, 8)
    with pytest.raises(ValueError, match="expected activation 'gelu' or 'swiglu', got 'relu'"):
        FeedForward(8, 12, activation="relu")


def test_dtype_and_device_reach_every_parameter():
    stack = ResidualStack(
        [CausalAttention(8, 2, dtype=torch.float64, device="meta")],
        feed_forward=16,
        dtype=torch.float64,
        device="meta",
    )
    assert {(p.dtype, p.device.type) for p in stack.parameters()} == {(torch.float64, "meta")}
