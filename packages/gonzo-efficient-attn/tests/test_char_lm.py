"""The recipe `efficient-attn.char-lm`: arms of one size that differ in their attention alone."""

import dataclasses
import math

import pytest
import torch

from gonzo.core.nn import CausalAttention
from gonzo.efficient_attn import (
    EluPlusOne,
    HedgehogMap,
    LinearAttention,
    ReBasedMap,
    ShortConv,
    SlidingWindowAttention,
    Taylor,
)

pytestmark = pytest.mark.recipe

MAPS = {"hedgehog": HedgehogMap, "taylor": Taylor, "rebased": ReBasedMap, "elu": EluPlusOne}


@pytest.fixture
def recipe():
    """The recipe imports gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.efficient_attn.recipes import char_lm

    return char_lm


def tiny(recipe):
    from gonzo.lab.training import Training

    return recipe.Config(
        model=recipe.Model(d_model=8, n_head=2, d_key=4, window=3),
        training=Training(steps=3, batch=4, warmup=1),
        context=64,
    )


def test_it_runs_and_repeats(recipe, tmp_path):
    from gonzo.lab import Run

    results = []
    for folder in ("run", "run", "another"):  # the second time, everything is restored
        with Run(tmp_path / folder) as run:
            results.append(recipe.main(tiny(recipe), run))
    first, again, another = results
    for other in (again, another):
        assert other == pytest.approx(first, rel=0, abs=0, nan_ok=True)
    assert first.keys() >= recipe.RECIPE.metrics.keys()
    for arm in recipe.ARMS:
        assert 4 < first[arm] < 8, "untrained, it knows little more than the uniform 6.02 bits"
    assert first["elu_gap"] == first["elu"] - first["softmax"]
    figures = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert figures == {"bits-by-state"}


def test_what_was_not_asked_for_is_not_a_number(recipe, tmp_path):
    from gonzo.lab import Run

    config = dataclasses.replace(tiny(recipe), arms=("softmax", "none"))
    with Run(tmp_path / "run") as run:
        result = recipe.main(config, run)
    assert {name for name in recipe.RECIPE.metrics if not math.isnan(result[name])} == {
        "softmax",
        "none_gap",
    }


def test_the_share_that_is_closed(recipe):
    gaps = dict.fromkeys(recipe.ARMS, 0.0)
    assert recipe._closed(gaps | {"elu": 0.4, "hedgehog": 0.1}) == pytest.approx(75)
    assert math.isnan(recipe._closed(gaps | {"elu": -0.1, "hedgehog": 0.1}))


def test_the_arms_are_what_they_are_called_and_of_one_size(recipe):
    for preset in recipe.RECIPE.presets.values():
        model, sizes = preset.config.model, {}
        for arm in recipe.ARMS:
            with torch.device("meta"):  # nothing is computed
                built = recipe.build(arm, model, 65)
            sizes[arm] = recipe.count_parameters(built)
            first, *mixers = built.stack.layers
            assert isinstance(first, ShortConv)
            assert first.kernel_size == 3
            assert len(mixers) == model.n_layer - 1
            if arm == "based":
                windows, mixers = mixers[1::2], mixers[::2]
                assert all(isinstance(layer, SlidingWindowAttention) for layer in windows)
                assert all(layer.window == model.window for layer in windows)
                assert model.window < preset.config.context
            kind = {"softmax": CausalAttention, "none": ShortConv}.get(arm, LinearAttention)
            assert {type(mixer) for mixer in mixers} == {kind}
            if kind is LinearAttention:
                feature_map = MAPS["taylor" if arm == "based" else arm]
                assert {type(mixer.feature_map) for mixer in mixers} == {feature_map}
        for size in sizes.values():
            assert size == pytest.approx(sizes["softmax"], rel=0.005), sizes


def test_softmax_has_its_own_learning_rate(recipe):
    config = dataclasses.replace(tiny(recipe), softmax_lr=0.125)
    assert config.training_of("softmax").lr == 0.125
    assert config.training_of("hedgehog") == config.training


def test_without_attention_a_model_sees_three_characters(recipe):
    model = recipe.build("none", recipe.Model(d_model=8, n_head=2, d_key=4), 65)
    tokens = torch.randint(65, (1, 10))
    other = tokens.clone()
    other[0, 4] = (tokens[0, 4] + 1) % 65
    changed = (model(tokens) != model(other)).any(-1)[0]
    assert changed.tolist() == [4 <= place <= 6 for place in range(10)]


def test_the_state_is_counted_for_one_sequence_and_grows_with_softmax_alone(recipe):
    model = recipe.Model(d_model=8, n_layer=3, n_head=2, d_key=4, window=3)
    sizes = {
        arm: [recipe.state_size(recipe.build(arm, model, 65), n) for n in (16, 32)]
        for arm in recipe.ARMS
    }
    n_head, d_head = 2, 4
    conv = 2 * 8  # the two inputs before, of 8 features
    window = 2 * 2 * 8  # keys and values of the two steps before

    def linear(n_feature):
        return n_head * n_feature * (d_head + 1)

    assert sizes["softmax"] == [conv + 2 * (2 * n * 8) for n in (16, 32)]
    assert sizes["hedgehog"] == [conv + 2 * linear(2 * d_head)] * 2
    assert sizes["taylor"] == [conv + 2 * linear(1 + 4 + 10)] * 2
    assert sizes["rebased"] == [conv + 2 * linear(10)] * 2
    assert sizes["elu"] == [conv + 2 * linear(d_head)] * 2
    assert sizes["based"] == [conv + linear(1 + 4 + 10) + window] * 2
    assert sizes["none"] == [conv] * 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda r: r.Model(d_model=12, n_head=4), "multiple of 2 · n_head, got 12 and 4"),
        (lambda r: r.Model(n_layer=2), "n_layer of at least 3, which Based has, got 2"),
        (lambda r: r.Model(d_key=0), "even d_key of at least 2, got 0"),
        (lambda r: r.Model(window=0), "window of at least 1, got 0"),
        (lambda r: r.Model(dropout=1.0), "0 <= dropout < 1, got 1.0"),
        (lambda r: r.Config(softmax_lr=0), "softmax_lr above 0, got 0"),
        (lambda r: r.Config(context=1), "context of at least 2, got 1"),
        (lambda r: r.Config(arms=("elu",)), "softmax among the arms, got .'elu',"),
    ],
)
def test_bad_settings_say_what_was_expected(recipe, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        change(recipe)


def test_every_preset_says_what_it_reduces_and_chooses_nothing_on_the_test_text(recipe):
    presets = recipe.RECIPE.presets
    assert presets.keys() == {"quick", "cpu", "paper"}
    for preset in presets.values():
        assert preset.reduced
        assert preset.config.judge == "test"
    assert not recipe.RECIPE.headline
