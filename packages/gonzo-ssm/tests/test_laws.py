"""Every layer keeps the laws of a sequence layer."""

import functools

import pytest

from gonzo.core.nn import ResidualStack
from gonzo.core.testing import FORWARD_LAWS, LAWS, SequenceCase
from gonzo.ssm import H3, LSSL, S4, S4D, S5, Bidirectional, Mega, S4DKernel, S4Kernel

D_MODEL, D_STATE = 4, 6

STREAMING = {
    "S4": functools.partial(S4, D_MODEL, D_STATE),
    "S4Kernel": functools.partial(S4Kernel, D_MODEL, D_STATE),
    "S4DKernel": functools.partial(S4DKernel, D_MODEL, D_STATE),
    **{
        f"S4D {init} {how}": functools.partial(S4D, D_MODEL, D_STATE, init=init, discretization=how)
        for init in ("lin", "inv", "legs")
        for how in ("zoh", "bilinear")
    },
    "S4D real": functools.partial(S4D, D_MODEL, D_STATE, init="real"),
    "S4 legt": functools.partial(S4, D_MODEL, D_STATE, init="legt"),
    "S4 fout": functools.partial(S4, D_MODEL, D_STATE, init="fout"),
    "S4 with all options": functools.partial(
        S4, 2 * D_MODEL, D_STATE, channels=3, n_ssm=2, gate=2, bottleneck=2, fixed_a=True
    ),
    "S4D with all options": functools.partial(
        S4D, 2 * D_MODEL, D_STATE, channels=2, n_ssm=1, gate=1, bottleneck=4, fixed_a=True
    ),
    "S5": functools.partial(S5, D_MODEL, D_STATE, n_block=3),
    "H3": functools.partial(H3, D_MODEL, D_STATE, head_dim=2),
    "LSSL": functools.partial(LSSL, D_MODEL, D_STATE, channels=2),
    "Mega": functools.partial(Mega, D_MODEL, D_STATE, d_key=4),
    "Mega in chunks": functools.partial(
        Mega, D_MODEL, D_STATE, d_key=4, chunk=4, activation="laplace"
    ),
    "a stack of both": lambda: ResidualStack([S4(D_MODEL, D_STATE), S4D(D_MODEL, D_STATE)]),
}
FORWARD_ONLY = {
    "of S4": lambda: Bidirectional(S4(D_MODEL, D_STATE)),
    "of S4DKernel": lambda: Bidirectional(S4DKernel(D_MODEL, D_STATE)),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("make", STREAMING.values(), ids=STREAMING)
def test_it_keeps(law, make):
    law(SequenceCase(make))


@pytest.mark.parametrize("law", FORWARD_LAWS)
@pytest.mark.parametrize("make", FORWARD_ONLY.values(), ids=FORWARD_ONLY)
def test_bidirectional_keeps(law, make):
    law(SequenceCase(make))
