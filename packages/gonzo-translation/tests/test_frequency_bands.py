"""Bands and splits of a result add up to it again."""

import pytest
import torch

from gonzo.translation.frequency_bands import by_frequency, only_identical, without_identical
from gonzo.translation.word_translation_scores import word_translation


@pytest.fixture
def result():
    source = torch.randn(40, 8)
    gold = torch.stack([torch.randint(0, 40, (30,)), torch.randint(0, 40, (30,))], 1)
    return word_translation(source, source + 0.5 * torch.randn(40, 8), gold, ks=(1, 5))


def test_bands_add_up(result):
    bands = by_frequency(result, edges=(5, 20))
    assert [(band.first, band.stop) for band in bands] == [(0, 5), (5, 20), (20, None)]
    assert [str(band) for band in bands] == ["1–5", "6–20", "21–"]
    assert torch.cat([band.scores.words for band in bands]).equal(result.words)
    assert torch.cat([band.scores.ranks for band in bands]).equal(result.ranks)
    for first, stop, scores in bands:
        assert ((scores.words >= first) & (scores.words < (stop or 40))).all()
    hits = sum(band.scores.precision[5] * len(band.scores) for band in bands if len(band.scores))
    assert hits / len(result) == pytest.approx(result.precision[5])


def test_a_band_can_be_empty(result):
    last = by_frequency(result, edges=(1000,))[1]
    assert len(last.scores) == 0
    assert last.scores.precision[1] != last.scores.precision[1]


@pytest.mark.parametrize("edges", [(0, 5), (5, 5), (9, 5)])
def test_edges_ascend(result, edges):
    with pytest.raises(ValueError, match="expected edges that ascend from at least 1, got"):
        by_frequency(result, edges=edges)


def test_identical_words_are_those_with_themselves_among_their_translations():
    vectors = torch.eye(4)
    gold = torch.tensor([[0, 0], [1, 1], [1, 2], [2, 3], [3, 2]])
    result = word_translation(vectors, vectors, gold, ks=(1,))
    source, target = ["taxi", "note", "main", "hand"], ["taxi", "bill", "note", "main"]
    left = without_identical(result, source, target)
    gone = only_identical(result, source, target)
    # 1 is spelt like its second translation, 2 like its only one; 3 is not.
    assert left.words.tolist() == [3]
    assert gone.words.tolist() == [0, 1, 2]
    with pytest.raises(
        ValueError, match=r"expected the source vocabulary .* at least 4 words, got 2"
    ):
        without_identical(result, source[:2], target)
