"""The recipe `ssm.char-lm`: equal arms, and speeds of the right loop."""

import dataclasses
import math

import pytest
import torch

from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack
from gonzo.ssm import H3, S4, S4D

pytestmark = pytest.mark.recipe


@pytest.fixture
def recipe():
    """The recipe imports gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.ssm.recipes import char_lm

    return char_lm


def tiny(recipe):
    from gonzo.lab.training import Training

    model = recipe.Model(d_model=8, n_layer=2, n_head=2, d_state=4)
    return recipe.Config(
        model=model,
        training=Training(steps=3, batch=4, warmup=1),
        context=64,
        speed=recipe.Speed(model, ("s4", "transformer"), (8, 4096), tokens=4, repeats=1),
    )


def test_it_runs_and_repeats(recipe, tmp_path):
    from gonzo.lab import Run

    results = []
    for folder in ("run", "run", "another"):  # the second time, everything is restored
        with Run(tmp_path / folder) as run:
            results.append(recipe.main(tiny(recipe), run))
    first, again, another = results
    assert first.keys() == another.keys() >= recipe.RECIPE.metrics.keys()
    timed = {name for name in first if "speed" in name or "faster" in name}
    for name, value in first.items():
        assert again[name] == value or math.isnan(value), name
        assert another[name] == value or name in timed, name
    for arm in recipe.ARMS:
        assert 4 < first[arm] < 8, "untrained, it knows little more than the uniform 6.02 bits"
    assert first["h3_gap"] == first["h3"] - first["transformer"]
    assert first["faster_4096"] == first["s4_speed_4096"] / first["transformer_speed_4096"]
    assert math.isnan(first["faster_16384"]), "it was not asked for"
    figures = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert figures == {"bits-per-character", "generation-speed"}


def test_the_arms_are_what_they_are_called_and_of_one_size(recipe):
    presets = recipe.RECIPE.presets.values()
    models = {m for p in presets for m in (p.config.model, p.config.speed.model)}
    for model in models:
        sizes = {}
        for arm in recipe.ARMS:
            built = recipe.build(arm, model, 65)
            sizes[arm] = recipe.count_parameters(built)
            kinds = [type(layer) for layer in built.stack.layers]
            one = {"s4": S4, "h3": H3, "hybrid": H3, "transformer": CausalAttention}[arm]
            expected = [one] * model.n_layer
            if arm == "hybrid":
                expected[1] = CausalAttention
            assert kinds == expected
        assert max(sizes.values()) < 1.005 * min(sizes.values()), sizes


def test_generation_is_timed_from_one_state_and_on_one_thread():
    from gonzo.ssm.recipes.generation_speed import tokens_per_second

    seen = []

    class Watched(LanguageModel):
        def scan(self, tokens, state, lengths=None):
            seen.append(tuple(tokens.shape))
            return super().scan(tokens, state, lengths)

        def step(self, token, state):
            seen.append((int(token), torch.get_num_threads()))
            return super().step(token, state)

    model = Watched(7, ResidualStack([S4D(4, 4)]))
    prompt = torch.randint(7, (11,))
    torch.set_num_threads(2)
    speed = tokens_per_second(model, prompt, tokens=6, repeats=3)
    assert torch.get_num_threads() == 2
    assert speed > 0
    greedy = model.generate(prompt[None], 6, temperature=0).tokens[0].tolist()
    (read, *steps) = seen[: 1 + 4 + 3 * 6]
    assert read == (1, 11)
    assert steps == [(token, 1) for token in greedy[:4] + 3 * greedy]


def test_generation_gives_up_no_time_to_the_context_of_a_state_space_model(recipe):
    """A wrong loop, one that reads the context again for each character, would be slower."""
    from gonzo.ssm.recipes.generation_speed import tokens_per_second

    model = recipe.build("s4", recipe.Model(d_model=16, n_layer=2, d_state=8), 65)
    text = torch.randint(65, (8192,))
    short, long = (tokens_per_second(model, text[:n], tokens=16, repeats=5) for n in (16, 8192))
    assert long > short / 3


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda r: r.Model(d_model=12, n_head=4), "multiple of 2 · n_head, got 12 and 4"),
        (lambda r: r.Model(n_layer=1), "n_layer of at least 2, got 1"),
        (lambda r: r.Model(d_state=3), "even d_state of at least 2, got 3"),
        (lambda r: r.Model(dropout=1.0), "0 <= dropout < 1, got 1.0"),
        (lambda r: r.Speed(contexts=(0,)), "contexts of at least 1"),
        (lambda r: r.Speed(tokens=0), "tokens of at least 1, got 0"),
        (lambda r: r.Speed(repeats=0), "repeats of at least 1, got 0"),
        (lambda r: r.Config(transformer_lr=0), "transformer_lr above 0, got 0"),
        (lambda r: r.Config(context=1), "context of at least 2, got 1"),
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
        assert dataclasses.is_dataclass(preset.config)
