"""Sentences as weighted bags: by hand, against a loop, and what is not known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.translation.sentence_scores import (
    SentenceVectors,
    idf_weights,
    sentence_retrieval,
    sentence_vectors,
)

WORDS = [f"w{i}" for i in range(12)]
INDEX = {word: row for row, word in enumerate(WORDS)}
sentences = st.lists(st.lists(st.sampled_from([*WORDS, "?"]), max_size=8), min_size=1, max_size=20)


def test_idf_by_hand():
    idf = idf_weights([["a", "a", "b"]] + [["a"]] * 98 + [["a", "c"]])
    assert idf == {"a": 1.0, "b": 2.0, "c": 2.0}
    assert idf_weights([["a"]] + [["b"]] * 999)["a"] == pytest.approx(3)


@settings(deadline=None)
@given(sentences, sentences)
def test_vectors_are_the_sum(corpus, texts):
    vectors = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    idf = idf_weights(corpus)
    made = sentence_vectors(texts, INDEX, vectors, idf)
    for row, text in enumerate(texts):
        expected, known = torch.zeros(4, dtype=torch.float64), 0
        for word in set(text):
            having = sum(word in sentence for sentence in corpus)
            if word != "?" and having:
                expected += max(1, math.log10(len(corpus) / having)) * vectors[INDEX[word]]
                known += 1
        torch.testing.assert_close(made.vectors[row], expected)
        assert made.known[row] == known
        assert made.unknown[row] == len(set(text)) - known
    assert made.empty.tolist() == [count == 0 for count in made.known.tolist()]


def test_order_and_repetition_of_words_do_not_matter():
    vectors, idf = torch.randn(12, 4), dict.fromkeys(WORDS, 1.0)
    made = sentence_vectors([["w1", "w2", "w3"], ["w3", "w1", "w2", "w1"]], INDEX, vectors, idf)
    assert torch.equal(made.vectors[0], made.vectors[1])


def test_retrieval_finds_translations_and_counts_what_is_missing():
    vectors, idf = torch.eye(12), dict.fromkeys(WORDS, 1.0)
    one = [["w1"], ["w2", "w3"], ["?"], ["w4", "?"]]
    other = [["w1", "w5"], ["w3", "w2"], ["w7"], ["w6"], ["w4"], ["?", "!"]]
    queries, keys = (sentence_vectors(side, INDEX, vectors, idf) for side in (one, other))
    result = sentence_retrieval(queries, keys, gold=[0, 1, 2, 4], method="nn", ks=(1, 100))
    assert result.ranks.tolist() == [0, 0, 6, 0]
    # A sentence without a known word is a miss however many keys are looked at.
    assert result.precision == {1: 0.75, 100: 0.75}
    assert result.unknown_words == pytest.approx(4 / (6 + 10 - 1))
    assert (result.empty_queries, result.empty_keys) == (1, 1)
    low, high = result.interval(1)
    assert low < 0.75 < high
    lost = sentence_retrieval(queries, keys, gold=[5, 1, 2, 4], method="nn", ks=(100,))
    assert lost.precision == {100: 0.5}


@pytest.mark.parametrize("method", ["nn", "csls", "isf"])
def test_query_i_is_translated_by_key_i(method):
    vectors = torch.randn(30, 16)
    keys = SentenceVectors(vectors, torch.ones(30).long(), torch.zeros(30).long())
    queries = SentenceVectors(2 * vectors[:20], torch.ones(20).long(), torch.zeros(20).long())
    result = sentence_retrieval(queries, keys, method=method)
    assert result.precision == {1: 1.0, 5: 1.0, 10: 1.0}
    assert len(result) == 20


def test_csls_takes_hubs_down():
    # Key 0 is near to query 0 too, but thirty other queries are nearer to it.
    keys = torch.tensor([[1.0, 0.2], [0.2, 1.0]])
    queries = torch.cat([torch.tensor([[1.0, 0.9]]), keys[:1].expand(30, 2)])
    sides = [
        SentenceVectors(side, torch.ones(len(side)).long(), torch.zeros(len(side)).long())
        for side in (queries, keys)
    ]
    gold = [1] + [0] * 30
    nearest = sentence_retrieval(*sides, gold=gold, method="nn", ks=(1,))
    csls = sentence_retrieval(*sides, gold=gold, method="csls", ks=(1,))
    assert nearest.precision == {1: 30 / 31}
    assert csls.precision == {1: 1.0}


def test_wrong_arguments():
    vectors, idf = torch.eye(12), dict.fromkeys(WORDS, 1.0)
    with pytest.raises(TypeError, match="expected a sentence as its words, got the text 'a cat'"):
        idf_weights(["a cat"])
    with pytest.raises(ValueError, match="idf_weights: expected at least one sentence, got none"):
        idf_weights([])
    with pytest.raises(ValueError, match="sentence_vectors: expected at least one sentence"):
        sentence_vectors([], INDEX, vectors, idf)
    two = sentence_vectors([["w1"], ["w2"]], INDEX, vectors, idf)
    one = sentence_vectors([["w1"]], INDEX, vectors, idf)
    with pytest.raises(ValueError, match=r"expected gold keys in 0 … 0, got 0 … 1; query i is"):
        sentence_retrieval(two, one)
    with pytest.raises(ValueError, match=r"expected gold of shape \(2,\), a key for each query"):
        sentence_retrieval(two, one, gold=[0])
    none = SentenceVectors(vectors[:0], torch.zeros(0).long(), torch.zeros(0).long())
    with pytest.raises(ValueError, match="sentence_retrieval: expected at least one query"):
        sentence_retrieval(none, one)
    with pytest.raises(
        ValueError, match=r"expected k of \(1, 5, 10\), what was searched for, got 2"
    ):
        sentence_retrieval(one, two).interval(2)
