"""Layers of several packages in one model."""

import copy

import pytest
import torch

from gonzo.core import param_groups
from gonzo.core.nn import CausalAttention, ResidualStack, SequenceClassifier
from gonzo.core.testing import LAWS, SequenceCase, assert_close
from gonzo.efficient_attn import LinearAttention
from gonzo.ssm import S4, S4D, Bidirectional


def mixed_stack():
    linear = LinearAttention(8, 2, feature_map="taylor", d_key=3)
    layers = [S4(8, d_state=4), CausalAttention(8, 2), S4D(8, d_state=4), linear]
    return ResidualStack(layers, feed_forward=16)


@pytest.mark.parametrize("law", LAWS)
def test_a_mixed_stack_keeps(law):
    law(SequenceCase(mixed_stack))


def test_s4_and_attention_stream_together():
    stack = ResidualStack([S4(8, d_state=4), CausalAttention(8, 2)]).double().eval()
    x = torch.randn(2, 13, 8, dtype=torch.float64)
    y, state = stack.scan(x[:, :7], stack.init_state(2))
    outputs = [y]
    for t in range(7, 13):
        y_t, state = stack.step(x[:, t], state)
        outputs.append(y_t[:, None])
    assert_close(torch.cat(outputs, 1), stack(x))


def test_a_bidirectional_layer_stops_a_stack_from_streaming():
    stack = ResidualStack([S4(8, d_state=4), Bidirectional(S4D(8, d_state=4))])
    assert not stack.streams
    assert stack(torch.randn(2, 5, 8)).shape == (2, 5, 8)
    with pytest.raises(TypeError, match="Bidirectional, which has forward only"):
        stack.init_state(2)


def test_a_classifier_is_saved_and_loaded(tmp_path):
    model = SequenceClassifier(3, 5, mixed_stack()).eval()
    x = torch.randn(2, 9, 3)
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = SequenceClassifier.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)


def test_training_rules_of_layers_reach_the_optimizer():
    model = SequenceClassifier(3, 5, mixed_stack())
    before = copy.deepcopy(model)
    groups = param_groups(model, lr=1e-2, weight_decay=0.1)
    slow = {id(p) for group in groups if group["lr"] == 1e-3 for p in group["params"]}
    names = {name.rpartition(".")[2] for name, p in model.named_parameters() if id(p) in slow}
    assert names == {"log_dt", "log_a_real", "a_imag", "b", "p"}
    optimizer = torch.optim.AdamW(groups)
    torch.nn.functional.cross_entropy(model(torch.randn(4, 9, 3)), torch.arange(4)).backward()
    optimizer.step()
    for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True):
        assert not torch.equal(new, old), f"{name} was not trained"
