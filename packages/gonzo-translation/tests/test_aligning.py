"""Every way to a mapping on two languages whose truth is known, and the errors of `align`."""

import math

import pytest
import torch

from gonzo.translation import Embeddings, Lexicon, align, word_translation
from gonzo.translation.adversarial import AdversarialAligner, AdversarialConfig
from gonzo.translation.aligning import NEEDS_LEXICON
from gonzo.translation.refinement import RefinementConfig
from gonzo.translation.stability import least_criterion, random_criteria, restart

N, DIM = 400, 10


def languages(noise=0.05):
    """Clustered words; the other language is a rotation with noise, its words in another order."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    x = draw(25, DIM)[torch.randint(25, (N,), generator=generator)] + 0.6 * draw(N, DIM)
    rotation = torch.linalg.qr(draw(DIM, DIM)).Q
    order = torch.randperm(N, generator=generator)
    y = (x @ rotation.T + noise * draw(N, DIM))[order]
    english = Embeddings([f"w{i}" for i in range(N)], x)
    # The first 40 words are names, spelt alike.
    foreign = Embeddings([f"w{i}" if i < 40 else f"m{i}" for i in order.tolist()], y)
    truth = Lexicon.of((f"w{i}", f"w{i}" if i < 40 else f"m{i}") for i in range(N))
    return english, foreign, truth


def precision(found, english, foreign, truth):
    return word_translation(
        found.alignment.map_source(english.vectors),
        found.alignment.map_target(foreign.vectors),
        truth.rows(english, foreign),
    ).precision[1]


@pytest.mark.parametrize(
    ("method", "pairs"),
    [
        ("self-learning", 0),
        ("identical", 0),
        ("supervised", 60),
        ("rcsls", 60),
        ("semi-supervised", 12),
    ],
)
def test_it_finds_the_language(method, pairs):
    english, foreign, truth = languages()
    lexicon = Lexicon(truth.pairs[100 : 100 + pairs]) if pairs else None
    found = align(english, foreign, method=method, lexicon=lexicon)
    assert precision(found, english, foreign, truth) > 0.97
    assert found.alignment.method == method
    assert 0.8 < found.criterion <= 1
    rows = found.lexicon_rows
    known = {"identical": 40, "self-learning": None}.get(method, pairs)
    assert (rows.found if rows is not None else None) == known


def test_the_adversarial_way_names_the_seeds_that_failed():
    english, foreign, truth = languages()
    hopeless = AdversarialConfig(epochs=1, epoch_steps=1, hidden=4)
    found = align(english, foreign, method="adversarial", adversarial=hopeless, seeds=[3, 4])
    report = found.stability
    assert report is not None
    assert [seed.seed for seed in report.seeds] == [3, 4]
    assert report.best.criterion == max(seed.criterion for seed in report.seeds)
    if precision(found, english, foreign, truth) < 0.2:
        assert report.failed == (3, 4)
        assert "no seed found a mapping" in str(report)
        assert "worthless" in str(report)


def test_a_seed_that_diverges_counts_as_failed_and_the_others_go_on(monkeypatch):
    english, foreign, _ = languages()
    played = AdversarialAligner.end_epoch
    ended = []

    def end_epoch(game):
        ended.append(game)
        if len(ended) == 1:
            game.mapping = game.mapping * float("inf")
        return played(game)

    monkeypatch.setattr(AdversarialAligner, "end_epoch", end_epoch)
    config = AdversarialConfig(epochs=1, epoch_steps=2, hidden=4)
    report = restart(english.vectors, foreign.vectors, [7, 8], config)
    assert report.seeds[0].failed
    assert report.seeds[0].criterion == float("-inf")
    assert report.best.seed == 8
    assert report.best.criterion > 0


def test_it_says_when_self_learning_was_cut(monkeypatch, caplog):
    monkeypatch.setattr("gonzo.translation.aligning.MOST_ITERATIONS", 3)
    english, foreign, _ = languages()
    align(english, foreign)
    assert "still improving after 3 iterations" in caplog.text


def test_a_seed_that_is_better_than_chance_is_kept():
    """The true rotation's criterion is above the line that random rotations draw, theirs below."""
    english, foreign, truth = languages()
    x, y = english.vectors, foreign.vectors
    chance = random_criteria(x, y, count=3)
    least = least_criterion(chance)
    assert max(chance) < least < 1
    true = align(english, foreign, method="supervised", lexicon=truth, normalize=())
    assert true.criterion > least


def test_supervised_without_refinement_is_procrustes():
    english, foreign, truth = languages()
    found = align(
        english,
        foreign,
        method="supervised",
        lexicon=truth,
        normalize=(),
        refinement=RefinementConfig(steps=0),
    )
    rows = truth.rows(english, foreign).pairs
    x, y = english.vectors[rows[:, 0]], foreign.vectors[rows[:, 1]]
    left, _, right = torch.linalg.svd(y.T @ x)
    assert torch.allclose(found.alignment.source_map, left @ right, atol=1e-5)
    assert torch.equal(found.pairs, rows)


class Counted:
    """Loops that end the process's work after so many steps, as a kill would."""

    def __init__(self, budget):
        self.budget, self.saved, self.logged = budget, {}, []

    def steps(self, total, *, name, **stateful):
        first, states = self.saved.get(name, (0, None))
        for key, part in stateful.items():
            if states:
                part.load_state_dict(states[key])
        for step in range(first, total):
            if self.budget == 0:
                raise KeyboardInterrupt
            yield step
            self.budget -= 1
            states = {key: part.state_dict() for key, part in stateful.items()}
            self.saved[name] = (step + 1, states)

    def log(self, step, **values):
        assert all(math.isfinite(value) for value in values.values())
        self.logged.append(step)


def test_it_goes_on_where_its_loops_were_cut():
    english, foreign, _ = languages()
    whole = align(english, foreign, seeds=[5])
    loops = Counted(7)
    with pytest.raises(KeyboardInterrupt):
        align(english, foreign, seeds=[5], loops=loops)
    loops.budget = -1
    again = align(english, foreign, seeds=[5], loops=loops)
    assert torch.equal(again.alignment.source_map, whole.alignment.source_map)
    assert loops.logged[:7] == list(range(7))


def test_bad_input():
    english, foreign, truth = languages()
    with pytest.raises(ValueError, match=r"expected a method of self-learning.*got 'magic'"):
        align(english, foreign, method="magic")  # ty: ignore[invalid-argument-type]
    for method in NEEDS_LEXICON:
        with pytest.raises(ValueError, match=f"'{method}' needs a lexicon"):
            align(english, foreign, method=method)  # ty: ignore[invalid-argument-type]
    with pytest.raises(ValueError, match="'self-learning' uses no lexicon"):
        align(english, foreign, lexicon=truth)
    narrow = Embeddings(foreign.words, foreign.vectors[:, :8])
    with pytest.raises(ValueError, match=r"one dimension, got 10 \(source\) and 8 \(target\)"):
        align(english, narrow)
    with pytest.raises(ValueError, match="one dtype"):
        align(english, foreign.to(torch.float64))
    other = Embeddings([f"x{word}" for word in foreign.words], foreign.vectors)
    with pytest.raises(ValueError, match="share no word"):
        align(english, other, method="identical")
    with pytest.raises(ValueError, match="no pair of the lexicon lies in both"):
        align(english, other, method="supervised", lexicon=truth)
    with pytest.raises(ValueError, match="at least one seed"):
        align(english, foreign, seeds=[])
    with pytest.raises(ValueError, match="seeds that differ"):
        restart(english.vectors, foreign.vectors, [1, 1])
