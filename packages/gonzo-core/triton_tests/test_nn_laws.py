"""The layers of `gonzo.core.nn` keep their laws on a GPU. They have no kernels to interpret."""

import pytest

from gonzo.core.backends import triton_is_interpreted
from gonzo.core.nn import CausalAttention, ResidualStack
from gonzo.core.testing import LAWS, SequenceCase

MAKE = {
    "attention": lambda: CausalAttention(8, 2),
    "windowed": lambda: CausalAttention(8, 2, window=4),
    "stack": lambda: ResidualStack([CausalAttention(8, 2), CausalAttention(8, 1, window=3)]),
}


@pytest.mark.skipif(triton_is_interpreted(), reason="there is nothing to interpret")
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_it_keeps(law, make, device):
    law(SequenceCase(make, device=device))
