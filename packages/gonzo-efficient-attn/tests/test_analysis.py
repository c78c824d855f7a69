"""Weights of every layer against the layer itself, entropy by formula, ranks against SciPy."""

import math

import pytest
import torch
from scipy.stats import spearmanr

from gonzo.core.nn import CausalAttention, ResidualStack
from gonzo.core.testing import assert_close
from gonzo.efficient_attn import LinearAttention, SlidingWindowAttention
from gonzo.efficient_attn.analysis import (
    attention_entropy,
    attention_scores,
    attention_weights,
    spearman,
)
from gonzo.efficient_attn.hybrid import HybridAttention
from gonzo.efficient_attn.projections import attention_inputs, queries_and_keys

D_MODEL, N_HEAD, TIME = 8, 2, 13

LAYERS = {
    "softmax": lambda: CausalAttention(D_MODEL, N_HEAD),
    "softmax, no positions": lambda: CausalAttention(D_MODEL, N_HEAD, rotary=False),
    "window": lambda: SlidingWindowAttention(D_MODEL, N_HEAD, window=4),
    "hybrid": lambda: HybridAttention(D_MODEL, N_HEAD, window=4),
    "hybrid, elu": lambda: HybridAttention(D_MODEL, N_HEAD, window=1, feature_map="elu"),
    **{
        kind: lambda kind=kind: LinearAttention(D_MODEL, N_HEAD, feature_map=kind, rotary=True)
        for kind in ("elu", "relu", "performer", "rebased", "hedgehog")
    },
    "taylor, few keys": lambda: LinearAttention(D_MODEL, N_HEAD, feature_map="taylor", d_key=2),
}


def values_of(layer, x):
    """Values are the last d_model numbers of every layer's projection."""
    v = layer.project_in(x)[..., -layer.d_model :]
    return v.unflatten(-1, (layer.n_head, -1)).transpose(1, 2)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_weights_times_values_are_what_the_layer_returns(make):
    layer, x = make().double(), torch.randn(3, TIME, D_MODEL, dtype=torch.float64)
    if isinstance(layer, HybridAttention):
        torch.nn.init.normal_(layer.balance)
    weights = attention_weights(layer, x)
    assert weights.shape == (3, N_HEAD, TIME, TIME)
    assert not weights.triu(1).any()
    assert not weights.requires_grad
    y = (weights @ values_of(layer, x)).transpose(1, 2).flatten(2)
    assert_close(layer.project_out(y), layer(x))


def test_scores_are_those_whose_softmax_is_the_weights():
    layer, x = CausalAttention(D_MODEL, N_HEAD).double(), torch.randn(1, TIME, D_MODEL).double()
    scores = attention_scores(layer, x) / layer.d_head**0.5
    future = torch.ones(TIME, TIME, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, -torch.inf).softmax(-1)
    assert_close(weights, attention_weights(layer, x))


def test_a_converted_layer_has_the_queries_and_keys_of_the_softmax_layer():
    softmax, x = CausalAttention(D_MODEL, N_HEAD), torch.randn(2, TIME, D_MODEL)
    for layer in (
        LinearAttention(D_MODEL, N_HEAD, rotary=True),
        HybridAttention(D_MODEL, N_HEAD),
    ):
        layer.load_state_dict(softmax.state_dict(), strict=False)
        pairs = zip(queries_and_keys(layer, x), queries_and_keys(softmax, x), strict=True)
        for mine, theirs in pairs:
            assert_close(mine, theirs)


def test_entropy_of_equal_and_of_single_weights():
    rows = torch.arange(1, TIME + 1)
    equal = torch.ones(TIME, TIME).tril() / rows[:, None]
    single = torch.eye(TIME)
    entropy = attention_entropy(torch.stack([equal, single]))
    assert entropy.shape == (2,)
    assert float(entropy[0]) == pytest.approx(float(rows.log().mean()), rel=1e-6)
    assert entropy[1] == 0


def test_entropy_falls_with_the_temperature():
    layer, x = CausalAttention(D_MODEL, N_HEAD), torch.randn(2, TIME, D_MODEL)
    before = attention_entropy(attention_weights(layer, x))
    assert before.shape == (2, N_HEAD)
    with torch.no_grad():
        layer.project_in.weight[: 2 * D_MODEL] *= 3
    after = attention_entropy(attention_weights(layer, x))
    assert (after < before).all()


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_is_scipys(ties):
    scores, weights = torch.randn(2, 3, TIME, TIME), torch.rand(2, 3, TIME, TIME)
    if ties:
        scores, weights = (2 * scores).round(), (5 * weights).round()
    found = spearman(scores, weights.tril())
    assert found.shape == (2, 3)
    for batch in range(2):
        for head in range(3):
            correlations = [
                judged(scores[batch, head, i, : i + 1], weights[batch, head, i, : i + 1])
                for i in range(2, TIME)
            ]
            expected = sum(correlations) / len(correlations)
            assert float(found[batch, head]) == pytest.approx(expected, abs=1e-12)


def judged(scores, weights):
    if scores.unique().numel() == 1 or weights.unique().numel() == 1:
        return 0.0  # SciPy says that it is not defined
    return spearmanr(scores.double().numpy(), weights.double().numpy()).statistic


def test_spearman_sees_order_alone():
    scores = torch.randn(1, TIME, TIME)
    assert_close(spearman(scores, scores.exp()), torch.ones(1, dtype=torch.float64))
    assert_close(spearman(scores, -scores.exp()), -torch.ones(1, dtype=torch.float64))
    assert spearman(scores, torch.ones_like(scores).tril()) == 0


def test_softmax_rises_with_the_score_and_linear_attention_need_not():
    x = 3 * torch.randn(2, 40, D_MODEL)
    softmax = CausalAttention(D_MODEL, N_HEAD)
    scores = attention_scores(softmax, x)
    assert_close(
        spearman(scores, attention_weights(softmax, x)), torch.ones(2, 2, dtype=torch.float64)
    )
    rebased = LinearAttention(D_MODEL, N_HEAD, feature_map="rebased", d_key=4, rotary=True)
    rebased.load_state_dict(softmax.state_dict(), strict=False)
    assert (spearman(scores, attention_weights(rebased, x)) < 0.9).all()


def test_the_inputs_of_a_models_layers():
    first, second = CausalAttention(D_MODEL, N_HEAD), LinearAttention(D_MODEL, N_HEAD)
    stack = ResidualStack([first, second, first], dropout=0.5)
    stack.norms.eval()
    x = torch.randn(2, 5, D_MODEL)
    calls = attention_inputs(stack, x, torch.tensor([5, 3]))
    assert [layer for layer, _ in calls] == [first, second, first]
    assert_close(calls[0][1], stack.norms[0](x))
    again = attention_inputs(stack, x, torch.tensor([5, 3]))
    for (_, one), (_, other) in zip(calls, again, strict=True):
        assert torch.equal(one, other), "without dropout"
    assert stack.training
    assert not stack.norms.training, "each part is in its own mode again"
    assert not first._forward_pre_hooks


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: attention_weights(LAYERS["elu"](), torch.zeros(2, 8)), r"\(batch, time, 8\), got"),
        (lambda: attention_entropy(torch.zeros(4, 3)), r"\(…, time, time\) with a batch"),
        (lambda: attention_entropy(torch.zeros(2, 4, 3)), r"got \(2, 4, 3\)"),
        (lambda: spearman(torch.zeros(1, 4, 4), torch.zeros(1, 3, 3)), "of the scores' shape"),
        (lambda: spearman(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)), "3 steps or more, got 2"),
    ],
)
def test_wrong_arguments_are_explained(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_nats():
    weights = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    assert float(attention_entropy(weights)) == pytest.approx(math.log(2) / 2)
