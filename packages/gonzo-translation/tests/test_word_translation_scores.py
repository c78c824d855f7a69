"""Word translation against a judge of its own in float64, and by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.translation.word_translation_scores import word_translation

METHODS = ("csls", "nn", "isf")


def scores_by_definition(source, target, method, neighbours, temperature):
    """All scores (n, m), in numpy and float64, each as its equation says."""
    x, y = (side.double().numpy() for side in (source, target))
    x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
    cosines = x @ y.T
    if method == "nn":
        return cosines
    if method == "isf":
        return np.exp(temperature * cosines) / np.exp(temperature * cosines).sum(0)
    r_source = np.sort(cosines, 1)[:, -neighbours:].mean(1)
    r_target = np.sort(cosines, 0)[-neighbours:].mean(0)
    return 2 * cosines - r_source[:, None] - r_target


def precision_by_definition(scores, gold, k):
    translations = {}
    for source, target in gold:
        translations.setdefault(source, set()).add(target)
    hits = 0
    for source, right in translations.items():
        hits += bool(right & set(np.argsort(-scores[source])[:k].tolist()))
    return hits / len(translations)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(METHODS), st.integers(0, 10_000), st.integers(2, 30), st.integers(2, 30),
    st.integers(1, 12), st.integers(1, 5),
)  # fmt: skip
def test_precision_is_the_definition(method, seed, n, m, neighbours, d):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(n, d, generator=generator, dtype=torch.float64)
    target = torch.randn(m, d, generator=generator, dtype=torch.float64)
    size = int(torch.randint(1, 25, (1,), generator=generator))
    gold = torch.stack([torch.randint(0, side, (size,), generator=generator) for side in (n, m)], 1)
    scores = scores_by_definition(source, target, method, neighbours, 5.0)
    # Widths of one make ties of ±1, and rounding decides them; nudge nothing, ask where it is sure.
    if any(np.diff(np.sort(row)).min(initial=1) < 1e-9 for row in scores):
        return
    result = word_translation(
        source, target, gold, method=method, ks=(1, 3, 50), neighbours=neighbours, temperature=5.0
    )
    assert len(result) == len({pair[0] for pair in gold.tolist()})
    for k, precision in result.precision.items():
        assert precision == pytest.approx(precision_by_definition(scores, gold.tolist(), k))
    assert result.precision[50] == 1  # of 50 found words of at most 30, one is right


def test_by_hand():
    target = torch.eye(4)
    source = torch.eye(4)[[1, 0, 2, 3]] + 0.1 * torch.eye(4)
    gold = torch.tensor([[0, 0], [0, 1], [1, 1], [2, 2], [2, 3], [2, 2]])
    result = word_translation(source, target, gold, method="nn", ks=(2, 1))
    assert result.words.tolist() == [0, 1, 2]
    assert result.ks == (1, 2)
    # Word 0 points to target 1, which is right; word 1 to 0, which is wrong, and then to 1.
    assert result.ranks.tolist() == [0, 1, 0]
    assert result.found[:, 0].tolist() == [1, 0, 2]
    assert result.precision == {1: pytest.approx(2 / 3), 2: 1.0}
    assert result.hits(1).tolist() == [True, False, True]
    low, high = result.interval(1)
    assert low < 2 / 3 < high


@pytest.mark.parametrize("method", METHODS)
def test_nothing_changes_when_both_sides_turn_or_pairs_are_shuffled(method):
    source, target = torch.randn(50, 6).double(), torch.randn(60, 6).double()
    turn = torch.linalg.qr(torch.randn(6, 6).double()).Q
    gold = torch.stack([torch.randint(0, 50, (40,)), torch.randint(0, 60, (40,))], 1)
    first = word_translation(source, target, gold, method=method)
    second = word_translation(
        3 * source @ turn, target @ turn, gold[torch.randperm(40)], method=method
    )
    assert torch.equal(first.ranks, second.ranks)
    assert torch.equal(first.words, second.words)


def test_csls_looks_at_the_whole_source_vocabulary_not_at_the_gold_words():
    # Target 0 is a hub: it is near to source words that no gold pair names.
    target = torch.tensor([[1.0, 0.2], [0.2, 1.0]])
    hubs = torch.tensor([[1.0, 0.2]]).repeat(30, 1)
    source = torch.cat([torch.tensor([[1.0, 0.9]]), hubs])
    gold = torch.tensor([[0, 1]])
    with_hubs = word_translation(source, target, gold, method="csls", ks=(1,))
    without = word_translation(source[:1], target, gold, method="csls", ks=(1,))
    assert with_hubs.precision == {1: 1.0}
    nearest = word_translation(source, target, gold, method="nn", ks=(1,))
    assert without.precision == nearest.precision == {1: 0.0}


def rows(pairs, missing_source=3, missing_target=2, missing_both=1):
    return SimpleNamespace(
        pairs=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        found=len(pairs),
        missing_source=missing_source,
        missing_target=missing_target,
        missing_both=missing_both,
        examples=(),
    )


def test_unknown_words_are_carried_and_count_as_misses_where_asked():
    vectors = torch.eye(5)
    result = word_translation(
        vectors, vectors, rows([(0, 0), (1, 1), (2, 3)]), method="nn", ks=(1,), gold_words=6
    )
    assert result.missing == (3, 2, 1)
    assert result.precision == {1: pytest.approx(2 / 3)}
    assert result.covered_precision == {1: pytest.approx(2 / 6)}
    assert result.coverage == 0.5


def test_lexicon_rows_fit():
    from gonzo.translation.embeddings import Embeddings
    from gonzo.translation.lexicon import Lexicon

    source = Embeddings(("cat", "dog", "sun"), torch.eye(3))
    target = Embeddings(("chat", "chien", "soleil"), torch.eye(3))
    lexicon = Lexicon((("cat", "chat"), ("dog", "chien"), ("moon", "lune"), ("sun", "astre")))
    result = word_translation(
        source.vectors, target.vectors, lexicon.rows(source, target), ks=(1,),
        gold_words=len(lexicon.translations),
    )  # fmt: skip
    assert result.precision == {1: 1.0}
    assert result.missing == (0, 1, 1)
    assert result.covered_precision == {1: 0.5}


def test_a_subset_keeps_its_words_and_forgets_what_was_missing():
    vectors = torch.eye(4)
    result = word_translation(
        vectors, vectors, rows([(0, 0), (1, 2), (3, 3)]), method="nn", gold_words=9
    )
    part = result.subset(torch.tensor([False, True, True]))
    assert part.words.tolist() == [1, 3]
    assert part.gold.tolist() == [[1, 2], [3, 3]]
    assert part.precision[1] == 0.5
    assert part.missing is None
    assert part.coverage is None
    nothing = result.subset(torch.zeros(3, dtype=torch.bool))
    assert np.isnan(nothing.precision[1])
    assert nothing.interval(1) == (0, 1)


def test_wrong_arguments():
    vectors = torch.eye(4)
    gold = torch.tensor([[0, 0]])
    with pytest.raises(ValueError, match=r"expected gold pairs as int64 of shape \(p, 2\), .* got"):
        word_translation(vectors, vectors, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"expected target rows in 0 … 3, got 4 … 4; were the"):
        word_translation(vectors, vectors, torch.tensor([[0, 4]]))
    with pytest.raises(ValueError, match=r"got none \(3 have an unknown source word, 2 an unknown"):
        word_translation(vectors, vectors, rows([]))
    with pytest.raises(ValueError, match="expected a method of csls, nn, isf, got 'cosine'"):
        word_translation(vectors, vectors, gold, method="cosine")
    with pytest.raises(ValueError, match=r"expected gold_words of at least 1, .* got 0"):
        word_translation(vectors, vectors, gold, gold_words=0)
    result = word_translation(vectors, vectors, gold, ks=(1, 2))
    with pytest.raises(ValueError, match=r"expected k in 1 … 2, what was searched for, got 3"):
        result.hits(3)
    with pytest.raises(ValueError, match="covered_precision needs the number of source words"):
        _ = result.covered_precision
    with pytest.raises(ValueError, match=r"expected a bool of shape \(1,\), .* got torch.int64"):
        result.subset(torch.tensor([0]))
