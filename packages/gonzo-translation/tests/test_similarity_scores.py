"""Rank correlation against scipy and by hand; files of judgements, good and bad."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.translation.rank_correlation import average_ranks, spearman
from gonzo.translation.similarity_scores import Judgement, read_judgements, word_similarity

numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6))
samples = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30)


def test_equal_values_share_their_ranks():
    assert average_ranks(torch.tensor([7.0, 1.0, 7.0, 3.0, 7.0])).tolist() == [4, 1, 4, 2, 4]
    assert average_ranks(torch.tensor([])).tolist() == []


@settings(deadline=None)
@given(samples)
def test_correlation_is_scipys(pairs):
    stats = pytest.importorskip("scipy.stats")
    first, second = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    found = spearman(first, second)
    if first.unique().numel() == 1 or second.unique().numel() == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


@settings(deadline=None)
@given(samples)
def test_only_the_order_counts(pairs):
    first, second = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    found = spearman(first, second)
    if not math.isnan(found):
        assert spearman(8 * first, -second) == pytest.approx(-found, abs=1e-12)
        assert spearman(first, first) == 1


def test_wrong_samples():
    with pytest.raises(ValueError, match=r"two samples of the same size, at least 2, got shapes"):
        spearman(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="expected numbers, got NaN at 1"):
        spearman(torch.tensor([0.0, math.nan]), torch.zeros(2))
    with pytest.raises(ValueError, match=r"expected values of shape \(n,\), got \(1, 2\)"):
        average_ranks(torch.zeros(1, 2))


@pytest.mark.parametrize(
    "text",
    [
        "cat\tdog\t3.5\nsea side\tbeach\t4\n",
        "\ufeffWord 1\tWord 2\tScore\ncat\tdog\t3.5\tnoted\n\nsea side\tbeach\t4",
        "# from people\ncat\tdog\t3.5\r\nsea side\tbeach\t4\r\n",
    ],
)
def test_files_with_tabs(tmp_path, text):
    path = tmp_path / "similar.txt"
    path.write_bytes(text.encode())
    assert read_judgements(path) == [("cat", "dog", 3.5), ("sea side", "beach", 4.0)]


def test_files_with_spaces(tmp_path):
    path = tmp_path / "similar.txt"
    path.write_text("word1 word2 score\ncat  dog 3.5\nCat chien -1 x\n")
    assert read_judgements(path) == [("cat", "dog", 3.5), ("Cat", "chien", -1.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat dog 3\ncat dog\n", "line 2: expected two words and a number, .* got 'cat dog'"),
        ("cat dog 3\ncat dog much\n", "line 2: expected two words and a number"),
        ("cat dog 3\ncat dog nan\n", "line 2: expected two words and a number"),
        ("cat dog\n", "line 1: expected two words and a number"),
        ("a b score\n", "expected lines of two words and a number, got none"),
        ("", "expected lines of two words and a number, got none"),
    ],
)
def test_files_that_are_something_else(tmp_path, text, message):
    path = tmp_path / "similar.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_judgements(path)


JUDGED = [
    Judgement("cat", "dog", 4.0),
    Judgement("Cat", "sun", 1.0),
    Judgement("dog", "sun", 2.0),
    Judgement("dog", "moon", 9.0),
    Judgement("mars", "moon", 9.0),
]


def test_similarity_in_one_language():
    index = {"cat": 0, "dog": 1, "sun": 2}
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.5], [0.0, 3.0]])
    result = word_similarity(JUDGED, index, vectors)
    assert (result.correlation, result.pairs, result.missing) == (1.0, 3, 2)
    assert result.examples == ("moon", "mars")
    turned = word_similarity([j._replace(score=-j.score) for j in JUDGED], index, vectors)
    assert turned.correlation == -1


def test_similarity_across_languages():
    first, second = {"cat": 0, "dog": 1}, {"soleil": 1, "chien": 0}
    judged = [("cat", "chien", 2.0), ("dog", "chien", 5.0), ("dog", "soleil", 1.0)]
    judged = [Judgement(*fields) for fields in judged]
    x, y = torch.tensor([[1.0, 0.4], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [-1.0, 0.1]])
    assert word_similarity(judged, first, x, second, y).correlation == 1
    with pytest.raises(ValueError, match="expected second_index and second_vectors, or neither"):
        word_similarity(judged, first, x, second)
    with pytest.raises(ValueError, match="expected vectors of one width, got 2 and 3"):
        word_similarity(judged, first, x, second, torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"at least 2 pairs of known words, got 0 of 3; .* chien"):
        word_similarity(judged, first, x)
