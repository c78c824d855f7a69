"""The recipe on real words at its smallest: its cut, its metrics, what ships, how it resumes."""

import math
from dataclasses import replace

import pytest

pytest.importorskip("gonzo.lab", reason="recipes need the extra gonzo-translation[recipes]")
pytest.importorskip("matplotlib", reason="recipes need the extra gonzo-translation[recipes]")

from gonzo.lab import Run
from gonzo.translation.lexicon import Lexicon
from gonzo.translation.recipes import language_pair, muse_real

pytestmark = pytest.mark.recipe

SMALLEST = muse_real.Config(
    languages=("fr",), shipped=True, vocabulary=150,
    seeds=2, game_epochs=1, epoch_steps=2, hidden=4, batch=4,
)  # fmt: skip


@pytest.fixture
def pair():
    whole = language_pair.shipped_pair()
    return language_pair.LanguagePair(
        whole.english.head(1300), whole.other.head(1400), whole.lexicon
    )


def test_what_ships_is_the_frequent_words_of_both_languages():
    pair = language_pair.shipped_pair()
    assert len(pair.english) == len(pair.other) == 5000
    assert pair.english.words[:3] == ("the", "to", "a")
    assert pair.lexicon.rows(pair.english, pair.other).found == len(pair.lexicon) == 3091


def test_no_test_word_is_learnt_from(pair):
    train, test = pair.split()
    judged = {pair.english.words[row] for row in test[:, 0].tolist()}
    covered = pair.lexicon.rows(pair.english, pair.other).pairs[:, 0].unique()
    assert len(judged) == len(covered) // 4 > 20
    assert judged.isdisjoint(source for source, _ in train.pairs)
    known = set(pair.lexicon.pairs)
    pairs = {(pair.english.words[i], pair.other.words[j]) for i, j in test.tolist()}
    assert pairs <= known
    assert set(train.pairs) == {pair for pair in known if pair[0] not in judged}
    assert isinstance(train, Lexicon)
    again, same = pair.split()
    assert again == train
    assert same.tolist() == test.tolist()


def test_it_returns_its_metrics_and_a_finished_run_returns_them_again(tmp_path, monkeypatch, pair):
    monkeypatch.setattr(muse_real, "shipped_pair", lambda: pair)
    results = []
    for _ in range(2):
        with Run(tmp_path / "run", threads=1) as run:
            results.append(muse_real.main(SMALLEST, run))
    assert set(results[0]) == set(muse_real.RECIPE.metrics)
    measured = {name for name, value in results[0].items() if not math.isnan(value)}
    missing = set(muse_real.RECIPE.metrics) - measured
    assert all(name.startswith("de_") or name == "fr_sentences" for name in missing)
    for name in measured:
        assert results[0][name] == results[1][name], name
    drawn = {file.name for file in (tmp_path / "run" / "figures").iterdir()}
    wanted = {"fr-clouds.svg", "fr-frequency-bands.svg", "fr-hubness.svg", "fr-stability.svg"}
    assert drawn == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"languages": ()}, "at least one language"),
        ({"languages": ("es",)}, "languages fr and de"),
        ({"languages": ("fr", "de")}, "fr alone with shipped words"),
        ({"seeds": -1}, "seeds of at least 0"),
    ],
)
def test_bad_configs(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALLEST, **change)


def test_another_language_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'fr' or 'de' beside English, got 'es'"):
        language_pair.trained_pair("es", 10, 1, tmp_path)
