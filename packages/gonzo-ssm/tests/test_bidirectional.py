import pytest
import torch

from gonzo.core.testing import assert_close
from gonzo.ssm import S4, Bidirectional, S4DKernel, S4Kernel

TIME, AT = 21, 8


@pytest.mark.parametrize("kind", [S4Kernel, S4DKernel])
def test_both_directions_see_the_present_step(kind):
    """The impulse response is K at lags 0, 1, … and the mirror's K at lags 0, -1, …"""
    layer = Bidirectional(kind(2, 8, dtype=torch.float64))
    x = torch.zeros(1, TIME, 2, dtype=torch.float64)
    x[0, AT] = 1
    y = layer(x)[0]
    ahead, back = (part.kernel(TIME, dtype=torch.float64).T for part in (layer.layer, layer.mirror))
    assert_close(y[AT], ahead[0] + back[0])
    assert_close(y[AT + 1 :], ahead[1 : TIME - AT])
    assert_close(y[:AT], back[1 : AT + 1].flip(0))


def test_the_mirror_starts_at_each_sequences_own_end():
    layer = Bidirectional(S4(4, 8, dtype=torch.float64))
    x, lengths = torch.randn(3, TIME, 4, dtype=torch.float64), torch.tensor([5, 21, 1])
    y = layer(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        assert_close(y[row, :length], layer(x[row : row + 1, :length])[0])


def test_the_mirror_has_parameters_of_its_own():
    layer = Bidirectional(S4(4, 8))
    assert not torch.equal(layer.layer.operator.c, layer.mirror.operator.c)
    assert sum(1 for _ in layer.parameters()) == 2 * sum(1 for _ in layer.layer.parameters())


def test_it_says_that_it_cannot_stream():
    layer = Bidirectional(S4(4, 8))
    assert not layer.streams
    for call in (
        lambda: layer.init_state(1),
        lambda: layer.scan(torch.randn(1, 3, 4), None),
        lambda: layer.step(torch.randn(1, 4), None),
    ):
        with pytest.raises(
            TypeError, match="Bidirectional cannot stream: it needs the whole sequence"
        ):
            call()
