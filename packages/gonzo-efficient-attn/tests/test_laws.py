"""Every layer keeps the laws of a sequence layer."""

import functools

import pytest

from gonzo.core.nn import ResidualStack
from gonzo.core.testing import LAWS, SequenceCase
from gonzo.efficient_attn import (
    BasedBlock,
    HedgehogMap,
    LinearAttention,
    Performer,
    ReBasedMap,
    ShortConv,
    SlidingWindowAttention,
)

D_MODEL, N_HEAD = 8, 2
linear = functools.partial(LinearAttention, D_MODEL, N_HEAD)

LAYERS = {
    **{
        kind: functools.partial(linear, feature_map=kind)
        for kind in ("elu", "relu", "performer", "taylor", "rebased", "hedgehog")
    },
    "rotary": functools.partial(linear, rotary=True),
    "few keys": functools.partial(linear, feature_map="taylor", d_key=3),
    "rebased, joint": lambda: linear(feature_map=ReBasedMap(N_HEAD, 3, convention="joint")),
    "hedgehog, clamped": lambda: linear(
        feature_map=HedgehogMap(N_HEAD, 4, activation="clamped", bias=True)
    ),
    "hedgehog, exp": lambda: linear(feature_map=HedgehogMap(N_HEAD, 4, activation="exp")),
    "performer, plain": lambda: linear(
        feature_map=Performer(N_HEAD, 4, n_random=5, orthogonal=False)
    ),
    "window": lambda: SlidingWindowAttention(D_MODEL, N_HEAD, window=4),
    "window of one": lambda: SlidingWindowAttention(D_MODEL, N_HEAD, window=1),
    "conv": lambda: ShortConv(D_MODEL),
    "conv, no gate": lambda: ShortConv(D_MODEL, 5, gate=False),
    "one tap": lambda: ShortConv(D_MODEL, 1),
    "based": lambda: BasedBlock(D_MODEL, N_HEAD, d_key=3, window=4),
    "rebased block": lambda: BasedBlock(D_MODEL, N_HEAD, feature_map="rebased", window=3),
    "a stack": lambda: ResidualStack(
        [BasedBlock(D_MODEL, N_HEAD, d_key=2), linear()], feed_forward=8
    ),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_it_keeps(law, make):
    law(SequenceCase(make))
