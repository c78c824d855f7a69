import pytest
import torch

from gonzo.core.testing import assert_close
from gonzo.ssm import H3, LSSL, S4, S4D, S5, Mega

pytestmark = [
    pytest.mark.compile,
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),  # torch's own imports
]


@pytest.mark.parametrize("kind", [S4, S4D, S5, H3, LSSL, Mega])
def test_one_graph_forward_and_backward(kind):
    layer = kind(8, 16)
    compiled = torch.compile(layer, fullgraph=True)
    x = torch.randn(2, 64, 8)
    y, expected = compiled(x), layer(x)
    assert_close(y, expected)
    weight = torch.randn_like(y)
    names, parameters = zip(*layer.named_parameters(), strict=True)
    grads = torch.autograd.grad((expected * weight).sum(), parameters)
    for name, actual, grad in zip(
        names, torch.autograd.grad((y * weight).sum(), parameters), grads, strict=True
    ):
        assert_close(actual, grad, name=name)


@torch.no_grad()
def test_step_compiles():
    layer = S4(8, 16).eval()
    step = torch.compile(layer.step, fullgraph=True)
    state = layer.init_state(1)
    x = torch.randn(1, 8)
    for _ in range(3):
        y, after = step(x, state)
        expected, state = layer.step(x, state)
        assert_close(y, expected)
        assert_close(after.x, state.x)
