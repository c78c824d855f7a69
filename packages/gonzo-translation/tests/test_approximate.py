"""Searches through faiss beside the exact op."""

import pytest
import torch

pytest.importorskip("faiss", reason="needs the extra gonzo-translation[faiss]")

from gonzo.core.ops.csls_topk import Retrieved, csls_topk
from gonzo.translation.approximate import (
    ApproximateIndex,
    IndexSettings,
    approximate_csls_topk,
    recall,
)


@pytest.fixture
def clouds():
    """Two noisy copies of clusters, of lengths that differ."""
    centres = torch.randn(20, 16)
    target = centres.repeat(60, 1) + 0.6 * torch.randn(1200, 16)
    source = target[:900] + 0.3 * torch.randn(900, 16)
    return source * torch.rand(900, 1).add(0.5), target


@pytest.mark.parametrize("rows", [None, torch.tensor([5, 0, 899, 5])])
def test_flat_is_exact(clouds, rows):
    exact = csls_topk(*clouds, 7, rows=rows)
    found = approximate_csls_topk(*clouds, 7, rows=rows, settings=IndexSettings("flat"))
    torch.testing.assert_close(found.scores, exact.scores, rtol=0, atol=2e-6)
    assert recall(found, exact) > 0.999
    assert found.indices.dtype == torch.int64


@pytest.mark.parametrize(
    ("settings", "at_least"),
    [
        (IndexSettings("ivf", cells=30, probes=12), 0.95),
        (IndexSettings("ivf", cells=30, probes=30), 0.999),
        (IndexSettings("hnsw"), 0.95),
    ],
)
def test_parts_of_the_vocabulary_are_nearly_exact(clouds, settings, at_least):
    exact = csls_topk(*clouds, 5)
    found = approximate_csls_topk(*clouds, 5, settings=settings)
    assert recall(found, exact) >= at_least
    assert (found.scores.diff() <= 0).all()
    again = approximate_csls_topk(*clouds, 5, settings=settings)
    assert torch.equal(found.indices, again.indices)
    assert torch.equal(found.scores, again.scores)


def test_more_probes_find_more(clouds):
    exact = csls_topk(*clouds, 5)
    shares = [
        recall(approximate_csls_topk(*clouds, 5, settings=IndexSettings(cells=60, probes=p)), exact)
        for p in (1, 4, 60)
    ]
    assert shares[0] < shares[1] < shares[2]


def test_a_query_whose_cells_hold_too_few_is_searched_exactly():
    vectors = torch.nn.functional.normalize(torch.randn(40, 8))
    index = ApproximateIndex(vectors, IndexSettings(cells=20, probes=1))
    assert len(index) == 40
    found = index.search(vectors[:6], 40)
    products = vectors[:6] @ vectors.T
    expected = products.sort(descending=True).values
    torch.testing.assert_close(found.scores, expected, rtol=0, atol=1e-6)
    assert found.indices.sort().values.equal(torch.arange(40).expand(6, 40))


def test_of_equal_scores_the_lower_row_comes_first():
    vectors = torch.eye(3)[[2, 0, 0, 1, 0]]
    found = ApproximateIndex(vectors, IndexSettings("flat")).search(torch.eye(3)[:1], 5)
    assert found.indices.tolist() == [[1, 2, 4, 0, 3]]


def test_the_threads_of_faiss_are_left_as_they_were():
    import faiss

    before = faiss.omp_get_max_threads()
    ApproximateIndex(torch.eye(3), IndexSettings("flat", threads=before + 1))
    assert faiss.omp_get_max_threads() == before


def test_small_vocabularies():
    vectors = torch.randn(4, 3)
    found = approximate_csls_topk(vectors, vectors, 4)  # fewer than the 10 neighbours
    exact = csls_topk(vectors, vectors, 4)
    torch.testing.assert_close(found.scores, exact.scores, rtol=0, atol=1e-6)


def test_recall_by_hand():
    def retrieved(*rows):
        return Retrieved(torch.zeros(len(rows), 2), torch.tensor(rows))

    assert recall(retrieved([1, 2], [3, 4]), retrieved([2, 1], [4, 0])) == 0.75
    with pytest.raises(ValueError, match="recall: expected results for the same queries"):
        recall(retrieved([1, 2]), retrieved([1, 2], [3, 4]))


def test_wrong_arguments():
    vectors = torch.eye(3)
    with pytest.raises(ValueError, match="expected an index of flat, ivf, hnsw, got 'pq'"):
        IndexSettings("pq")
    with pytest.raises(ValueError, match="expected probes of at least 1, got 0"):
        IndexSettings(probes=0)
    with pytest.raises(ValueError, match="expected a seed of at least 0, got -1"):
        IndexSettings(seed=-1)
    with pytest.raises(ValueError, match="expected at most 3 cells, the vectors, got 4"):
        ApproximateIndex(vectors, IndexSettings(cells=4))
    index = ApproximateIndex(vectors)
    with pytest.raises(ValueError, match="expected k in 1 … 3, the vectors of the index, got 4"):
        index.search(vectors, 4)
    with pytest.raises(ValueError, match="expected queries of width 3, got 2"):
        index.search(vectors[:, :2], 1)
    with pytest.raises(
        ValueError, match=r"expected at least one vector, \(m, d\), got shape \(0, 3"
    ):
        ApproximateIndex(vectors[:0])
    with pytest.raises(
        ValueError, match=r"expected source \(n, d\) and target \(m, d\), got \(3, 3"
    ):
        approximate_csls_topk(vectors, vectors[:, :2], 1)
    with pytest.raises(ValueError, match="expected at least 1 neighbour, got 0"):
        approximate_csls_topk(vectors, vectors, 1, neighbours=0)
