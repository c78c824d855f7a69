"""The synthetic sounds, and the recipe that halves their rate."""

import pytest
import torch

pytestmark = pytest.mark.recipe


@pytest.fixture
def sounds():
    from gonzo.ssm.recipes import diphthongs

    return diphthongs


@pytest.fixture
def recipe():
    from gonzo.ssm.recipes import rate_transfer

    return rate_transfer


def tiny(recipe):
    training = recipe.Training(steps=3, batch=5, warmup=1)
    return recipe.Config(d_model=4, d_state=4, n_layer=1, sounds=20, training=training, seeds=1)


def test_the_recipe_runs_and_repeats(tmp_path, recipe):
    from gonzo.lab import Run

    results = []
    for name in ("run", "run", "another"):
        with Run(tmp_path / name) as run:
            results.append(recipe.main(tiny(recipe), run))
    assert results[0] == results[1] == results[2]
    assert recipe.RECIPE.metrics.keys() <= results[0].keys()
    assert "s4d_half_seed0" in results[0]


def test_sounds_are_a_function_of_the_seed(sounds):
    first, again, other = (sounds.diphthongs(150, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.label, again.label)
    assert not torch.equal(first.x, other.x)
    assert first.x.shape == (150, sounds.SAMPLES, 1)
    assert 0.3 < first.x.std() < 3
    assert set(first.label.tolist()) == set(range(10))


def test_nothing_lies_beyond_half_the_nyquist_frequency(sounds):
    """So every second sample holds the whole sound: interpolation gives back the others."""
    x = sounds.diphthongs(20, seed=0).x[..., 0].double()
    window = torch.hann_window(sounds.SAMPLES, periodic=True, dtype=x.dtype)
    power = torch.fft.rfft(x * window).abs().square()
    frequency = torch.fft.rfftfreq(sounds.SAMPLES, 1 / sounds.RATE)
    assert power[:, frequency > 3500].sum() < 1e-4 * power.sum()
    assert power[:, frequency > sounds.RATE / 4].sum() < 1e-5 * power.sum()


def test_formants_are_where_they_are_said_to_be(sounds):
    """The beginning of a sound is loud near its first vowel's formants, its end near the last's."""
    split = sounds.diphthongs(2000, seed=0)
    frequency = torch.fft.rfftfreq(256, 1 / sounds.RATE)
    for at, pick in ((0, slice(0, 256)), (1, slice(-256, None))):
        power = torch.fft.rfft(split.x[:, pick, 0]).abs().square()
        for vowel, (low, high) in enumerate(sounds.VOWELS.tolist()):
            is_vowel = torch.tensor([glide[at] == vowel for glide in sounds.GLIDES])[split.label]
            mean = power[is_vowel].mean(0)
            for formant in (low, high):
                near = (frequency - formant).abs() <= 125
                assert mean[near].max() > 1.5 * mean[frequency < sounds.HIGHEST].mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arms": ("s5",)}, r"expected arms out of s4 and s4d, got \('s5',\)"),
        ({"arms": ()}, "expected at least one of the arms s4 and s4d"),
        ({"d_state": 7}, "expected an even d_state of at least 2, got 7"),
        ({"sounds": 0}, "expected sounds of at least 4, got 0"),
        ({"seeds": 0}, "expected seeds of at least 1, got 0"),
    ],
)
def test_impossible_configs(recipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        recipe.Config(**arguments)
