import re

import pytest
import torch

from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack, interleave

MAKE = {"a": lambda: CausalAttention(8, 2), "w": lambda: CausalAttention(8, 2, window=3)}


def test_makes_a_new_layer_for_each_letter():
    layers = interleave("wwaw", MAKE)
    assert [layer.window for layer in layers] == [3, 3, None, 3]
    assert len({id(layer) for layer in layers}) == 4
    assert not torch.equal(layers[0].project_in.weight, layers[1].project_in.weight)


def test_a_hybrid_returns_from_disk(tmp_path):
    model = LanguageModel(5, ResidualStack(interleave("waw", MAKE))).eval()
    model.save_pretrained(tmp_path)
    tokens = torch.arange(5)[None]
    assert torch.equal(LanguageModel.from_pretrained(tmp_path).eval()(tokens), model(tokens))


@pytest.mark.parametrize(
    ("pattern", "make", "message"),
    [
        ("awx", MAKE, "expected a pattern of the letters 'a', 'w', got 'awx'"),
        ("", MAKE, "expected a pattern of the letters 'a', 'w', got ''"),
        ("aaa", MAKE, "no place in 'aaa' for 'w'"),
        ("s4", {"s4": MAKE["a"]}, "expected one letter for each layer, got 's4'"),
    ],
)
def test_wrong_patterns(pattern, make, message):
    with pytest.raises(ValueError, match=f"^interleave: {re.escape(message)}"):
        interleave(pattern, make)
