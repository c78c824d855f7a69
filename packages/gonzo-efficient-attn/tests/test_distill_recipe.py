"""The recipes `hedgehog-distill` and `entropy`: fair arms, right sums."""

import dataclasses
import math

import pytest
import torch

from gonzo.core.nn import CausalAttention
from gonzo.efficient_attn import HedgehogMap, LinearAttention, language_model
from gonzo.efficient_attn.hybrid import HybridAttention

pytestmark = pytest.mark.recipe


@pytest.fixture
def recipe():
    """The recipes import gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.efficient_attn.recipes import hedgehog_distill

    return hedgehog_distill


@pytest.fixture
def entropy():
    from gonzo.efficient_attn.recipes import entropy

    return entropy


def tiny(recipe, **changes):
    from gonzo.lab.training import Training

    training = Training(steps=4, batch=4, lr=1e-2, warmup=1)
    settings = {
        "model": recipe.Model(d_model=8, n_layer=2, n_head=2),
        "training": training,
        "distillation": training,
        "context": 16,
    }
    return recipe.Config(**settings | changes)


def runs_of(recipe, config, folder):
    """Results of a run, of the same one restored, and of another; and the figures."""
    from gonzo.lab import Run

    results = []
    for name in ("run", "run", "another"):
        with Run(folder / name) as run:
            results.append(recipe.main(config, run))
    first, again, another = results
    assert first == again == another
    assert all(map(math.isfinite, first.values()))
    return first, {path.stem for path in (folder / "run" / "figures").iterdir()}


def test_distillation_runs_and_repeats(recipe, tmp_path):
    from gonzo.lab.training import Training

    config = tiny(recipe, tuning=Training(steps=2, batch=4, warmup=1), window=3, judged=200)
    first, figures = runs_of(recipe, config, tmp_path)
    assert figures == {"bits-per-character", "controls"}
    assert first.keys() >= recipe.RECIPE.metrics.keys()
    for arm in recipe.ARMS:
        assert 4 < first[arm] < 8, "untrained, it knows little more than the uniform 6.02 bits"
        if arm not in ("softmax", "none"):
            share = first["none"] - first[arm], first["none"] - first["softmax"]
            name = "recovered" if arm == "hedgehog" else f"recovered_{arm}"
            assert first[name] == 100 * share[0] / share[1]
    assert first["gap"] == first["hedgehog"] - first["softmax"]
    assert first["untaught_exchanged"] == first["hedgehog_exchanged"] != first["hybrid_exchanged"]
    assert first["hedgehog_distilled"] != first["hedgehog_exchanged"]
    for side in ("linear", "window", "none"):
        assert first[f"hybrid_{side}_loss"] == first[f"hybrid_{side}"] - first["hybrid"] != 0


def test_arms_can_be_left_out_and_the_needed_ones_cannot(recipe):
    arms = ("softmax", "none", "hedgehog", "hybrid")
    assert tiny(recipe, arms=arms).arms == arms
    with pytest.raises(ValueError, match="arms with softmax, none, hedgehog, hybrid, got softmax"):
        tiny(recipe, arms=("softmax",))


def test_the_arms_are_what_they_are_called(recipe):
    config = tiny(recipe, window=5)
    teacher = language_model("softmax", 65, **vars(config.model))
    kinds = {"softmax": CausalAttention, "none": CausalAttention, "hybrid": HybridAttention}
    maps = {"elu": "EluPlusOne", "t2r": "T2RMap", "untaught": "HedgehogMap"}
    for arm in recipe.ARMS:
        model = recipe.exchanged(arm, teacher, config)
        assert model is not teacher
        for layer, old in zip(model.stack.layers, teacher.stack.layers, strict=True):
            assert type(layer) is kinds.get(arm, LinearAttention)
            assert torch.equal(layer.project_in.weight, old.project_in.weight)
            if arm in maps:
                assert type(layer.feature_map).__name__ == maps[arm]
            if isinstance(layer, HybridAttention):
                assert layer.window == 5
                assert layer.feature_map.activation == config.hybrid_activation == "softmax"
            elif isinstance(getattr(layer, "feature_map", None), HedgehogMap):
                assert layer.feature_map.activation == config.activation == "exp"


def test_the_map_of_t2r_is_a_projection_and_a_relu():
    from gonzo.efficient_attn.recipes.t2r import T2RMap

    feature_map, x = T2RMap(2, 3), torch.randn(4, 2, 5, 3)
    q, k = feature_map(x, -x)
    assert torch.equal(q, x.clamp(min=0)), "it begins as a ReLU"
    assert torch.equal(k, (-x).clamp(min=0))
    with torch.no_grad():
        feature_map.weight.normal_()
        feature_map.bias.normal_()
    _, k = feature_map(x, x)
    by_hand = feature_map.weight[1, 1] @ x[2, 1, 4] + feature_map.bias[1, 1, 0]
    torch.testing.assert_close(k[2, 1, 4], by_hand.clamp(min=0))


def test_the_entropy_recipe_runs_and_repeats(entropy, tmp_path):
    first, figures = runs_of(entropy, tiny(entropy, stretches=3), tmp_path)
    assert figures == {"entropy", "weight-against-score"}
    assert first.keys() >= entropy.RECIPE.metrics.keys()
    assert first["softmax_distance"] == 0
    assert first["softmax_monotone"] == pytest.approx(1)
    assert first["softmax_same"] == 100
    assert first["relu_silent"] >= 0 == first["elu_silent"]
    for name in entropy.MAPS:
        assert 0 <= first[f"{name}_entropy"] <= math.log(16)
        assert -1 <= first[f"{name}_monotone"] <= 1 + 1e-12
    earlier = ("elu", "relu", "performer", "taylor", "rebased")
    assert first["nearest_distance"] == min(first[f"{name}_distance"] for name in earlier)
    assert first["most_same"] == max(first[f"{name}_same"] for name in earlier)
    assert first["most_monotone"] == max(first[f"{name}_monotone"] for name in earlier)
    assert first["distance_ratio"] == first["hedgehog_distance"] / first["nearest_distance"]


def test_the_heaviest_key_is_not_in_the_future(entropy):
    scores = torch.tensor([[1.0, 9, 9], [2, 1, 9], [0, 5, 3]])
    assert entropy.heaviest(scores).tolist() == [0, 0, 1]


def test_stretches_are_spread_over_the_text(entropy):
    from gonzo.lab.characters import Text

    text = Text(torch.arange(5), torch.arange(100), 100)
    stretches = entropy.stretches(text, tiny(entropy, stretches=3))
    assert stretches.shape == (3, 16)
    assert stretches[:, 0].tolist() == [0, 42, 84]
    assert (stretches.diff() == 1).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda r, _: r.Model(d_model=12, n_head=4), "multiple of 2 · n_head, got 12 and 4"),
        (lambda r, _: r.Model(n_layer=0), "n_layer of at least 1, got 0"),
        (lambda r, _: tiny(r, window=0), "window of at least 1, got 0"),
        (lambda r, _: tiny(r, context=1), "context of at least 2, got 1"),
        (lambda r, _: tiny(r, judged=1), "judged of at least 2, got 1"),
        (lambda _, e: tiny(e, context=2), "context of at least 3, got 2"),
        (lambda _, e: tiny(e, stretches=0), "stretches of at least 1, got 0"),
    ],
)
def test_bad_settings_say_what_was_expected(recipe, entropy, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        change(recipe, entropy)


def test_every_preset_says_what_it_reduces_and_chooses_nothing_on_the_test_text(recipe, entropy):
    assert recipe.RECIPE.presets.keys() == {"quick", "cpu", "paper"}
    for each in (recipe, entropy):
        for preset in each.RECIPE.presets.values():
            assert preset.reduced
            assert preset.config.judge == "test"
            assert dataclasses.is_dataclass(preset.config)
