"""The baseline and the stack keep the laws of a sequence layer."""

import pytest

from gonzo.core.nn import CausalAttention, ResidualStack
from gonzo.core.testing import LAWS, SequenceCase


def attention():
    return CausalAttention(8, 2)


def windowed():
    return CausalAttention(8, 2, window=4)


def no_memory():
    return CausalAttention(8, 2, window=1)


def stack():
    layers = [CausalAttention(8, 2), CausalAttention(8, 1, window=3)]
    return ResidualStack(layers, norm="rms", feed_forward=16, activation="swiglu")


def shared_stack():
    return ResidualStack([CausalAttention(8, 4)] * 2)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("make", [attention, windowed, no_memory, stack, shared_stack])
def test_keeps(make, law):
    law(SequenceCase(make))
