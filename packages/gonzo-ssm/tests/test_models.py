"""Layers inside the models of gonzo.core, on disk and back."""

import pytest
import torch

from gonzo.core.nn import ResidualStack, SequenceClassifier
from gonzo.core.testing import assert_close
from gonzo.ssm import S4, S4D, Bidirectional, S4DKernel


def classifier():
    layers = [
        S4(8, 4, dt_min=0.01),
        S4D(8, 6, init="inv", discretization="bilinear"),
        S4DKernel(8, 4, init="legs"),
    ]
    return SequenceClassifier(3, 5, ResidualStack(layers, feed_forward=16)).eval()


def test_a_classifier_returns_from_disk(tmp_path):
    model = classifier()
    x, lengths = torch.randn(2, 50, 3), torch.tensor([50, 20])
    model.save_pretrained(tmp_path)
    loaded = SequenceClassifier.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(x, lengths), model(x, lengths))
    assert repr(loaded) == repr(model)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_bidirectional_returns_from_disk(tmp_path):
    layer = Bidirectional(S4(8, 4))
    x = torch.randn(2, 50, 8)
    layer.save_pretrained(tmp_path)
    assert torch.equal(Bidirectional.from_pretrained(tmp_path)(x), layer(x))


def test_padding_does_not_reach_the_classes():
    model = classifier()
    x = torch.randn(2, 50, 3)
    assert_close(model(x, torch.tensor([20, 50]))[0], model(x[:1, :20])[0])


def test_a_stack_streams():
    stack = classifier().stack
    x = torch.randn(2, 30, 8)
    y, state = stack.scan(x[:, :29], stack.init_state(2))
    last, _ = stack.step(x[:, 29], state)
    assert_close(torch.cat([y, last[:, None]], 1), stack(x))


@pytest.mark.parametrize("kind", [S4, S4D])
def test_every_argument_shows(kind):
    assert "8, d_state=4" in repr(kind(8, 4))


def test_s4d_shows_its_choices():
    layer = S4D(8, 4, init="legs", discretization="bilinear")
    assert "init=legs, discretization=bilinear" in repr(layer)
