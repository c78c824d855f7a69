"""Induced pairs against the definition in loops, and refinement on vocabularies with a truth."""

import pytest
import torch

from gonzo.translation.criterion import mean_similarity
from gonzo.translation.induction import induce_lexicon
from gonzo.translation.orthogonal import nearest_orthogonal, procrustes
from gonzo.translation.refinement import RefinementConfig, Refiner, refine


def scores(x, y, k):
    """CSLS as the paper writes it, a pair at a time."""
    x, y = (v / v.norm(dim=1, keepdim=True) for v in (x, y))
    cosine = x @ y.T
    r_x = [sum(sorted(row.tolist())[-k:]) / min(k, len(y)) for row in cosine]
    r_y = [sum(sorted(column.tolist())[-k:]) / min(k, len(x)) for column in cosine.T]
    return [
        [2 * float(cosine[i, j]) - r_x[i] - r_y[j] for j in range(len(y))] for i in range(len(x))
    ]


def one_way(table, rows, columns, threshold=0.0):
    """MUSE's rule: best of all, ordered by margin, cut by rank afterwards."""
    found = []
    for i, line in enumerate(table[:rows]):
        order = sorted(range(len(line)), key=lambda j: -line[j])
        found.append((line[order[0]] - line[order[1]], i, order[0]))
    found.sort(key=lambda item: -item[0])
    return [(i, j) for margin, i, j in found if j < columns and margin >= threshold]


def vocabularies(n=60, m=70, dim=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(size, dim, generator=generator, dtype=torch.float64) for size in (n, m))
    return x, y


@pytest.mark.parametrize("max_rank", [None, 20, (30, 50)])
def test_pairs_are_those_of_the_definition(max_rank):
    x, y = vocabularies()
    rows, columns = (60, 70) if max_rank is None else (20, 20)
    if isinstance(max_rank, tuple):
        rows, columns = max_rank
    table = scores(x, y, 5)
    there = one_way(table, rows, columns)
    back = [
        (i, j) for j, i in one_way([list(line) for line in zip(*table, strict=True)], columns, rows)
    ]

    def ours(direction):
        pairs = induce_lexicon(x, y, direction=direction, max_rank=max_rank, neighbours=5)
        return [tuple(pair) for pair in pairs.tolist()]

    assert ours("source-to-target") == there
    assert ours("target-to-source") == back
    assert ours("intersection") == [pair for pair in there if pair in back]
    assert ours("union") == there + [pair for pair in back if pair not in there]


def test_limits_on_the_number_of_pairs():
    x, y = vocabularies()
    table = scores(x, y, 10)
    everything = one_way(table, 60, 70)
    assert induce_lexicon(x, y, max_pairs=7).tolist() == [list(pair) for pair in everything[:7]]
    confident = one_way(table, 60, 70, 0.2)
    assert 0 < len(confident) < 20
    assert len(induce_lexicon(x, y, threshold=0.2)) == len(confident)
    assert len(induce_lexicon(x, y, threshold=0.2, min_pairs=20)) == 20


def test_vocabularies_smaller_than_the_neighbourhood():
    x, y = vocabularies(4, 3, 5)
    pairs = induce_lexicon(x, y, neighbours=10, max_rank=15_000)
    assert pairs[:, 0].sort().values.tolist() == [0, 1, 2, 3]
    assert induce_lexicon(x[:1], y[:1]).tolist() == [[0, 0]]


def languages(n=400, dim=12, noise=0.0, seed=0):
    """Clustered words and a rotated copy with noise; word i is the translation of word i."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    centres = draw(20, dim)
    x = centres[torch.randint(20, (n,), generator=generator)] + 0.7 * draw(n, dim)
    w = torch.linalg.qr(draw(dim, dim))[0]
    y = x @ w.T + noise * draw(n, dim)
    return x, y, w


def bend(w, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    skew = size * torch.randn(w.shape, generator=generator, dtype=w.dtype)
    return torch.linalg.matrix_exp(skew - skew.T) @ w


@pytest.mark.parametrize("config", [RefinementConfig.paper(), RefinementConfig.muse()])
def test_a_rough_mapping_becomes_exact(config):
    x, y, w = languages()
    rough = bend(w, 0.12)
    refined = refine(x, y, rough, config)
    assert (refined.mapping - w).abs().max() < 1e-10
    assert refined.criteria[-1] == pytest.approx(1, abs=1e-12)
    assert refined.criteria[0] < 0.95


def test_the_best_step_is_kept_and_reported():
    x, y, w = languages(noise=0.3)
    refiner = Refiner(x, y, bend(w, 0.1))
    seen = [refiner.step() for _ in range(5)]
    refined = refiner.result()
    assert list(refined.criteria[1:]) == seen
    assert torch.equal(refine(x, y, bend(w, 0.1)).mapping, refined.mapping)
    assert refined.criteria[refined.best] == max(refined.criteria)
    assert mean_similarity(x @ refined.mapping.T, y) == pytest.approx(max(refined.criteria))
    assert procrustes(x[refined.pairs[:, 0]], y[refined.pairs[:, 1]]).shape == (12, 12)


@pytest.mark.parametrize("direction", ["source-to-target", "target-to-source", "union"])
@pytest.mark.parametrize("words", [15, 1000])
def test_one_look_gives_the_same_as_two(direction, words):
    x, y, w = languages(noise=0.3)
    start = bend(w, 0.1)
    config = RefinementConfig(
        steps=1, direction=direction, max_rank=100, criterion_words=words, criterion_rule="muse"
    )
    refined = refine(x, y, start, config)
    pairs = induce_lexicon(x @ start.T, y, direction=direction, max_rank=100)
    assert torch.equal(refined.pairs, pairs)
    after = procrustes(x[pairs[:, 0]], y[pairs[:, 1]])
    expected = [mean_similarity(x @ m.T, y, words=words, rule="muse") for m in (start, after)]
    assert refined.criteria == pytest.approx(expected, abs=1e-12)


def test_it_goes_on_where_it_was_saved():
    x, y, w = languages(noise=0.3)
    whole = refine(x, y, bend(w, 0.1))
    first = Refiner(x, y, bend(w, 0.1))
    first.step()
    first.step()
    second = Refiner(x, y, torch.eye(12, dtype=torch.float64))
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.step()
    again = second.result()
    assert torch.equal(again.mapping, whole.mapping)
    assert torch.equal(again.pairs, whole.pairs)
    assert again.criteria == whole.criteria


def test_a_start_that_nothing_improves_is_returned():
    x, y, w = languages()
    refined = refine(x, y, w, RefinementConfig(steps=2))
    assert refined.best == 0
    assert torch.equal(refined.mapping, w)


def test_the_criterion_is_higher_the_closer_the_mapping_is():
    x, y, w = languages(noise=0.3)
    values = [mean_similarity(x @ bend(w, size).T, y) for size in (0.0, 0.05, 0.1, 0.2)]
    assert values == sorted(values, reverse=True)


def test_the_two_rules_of_the_criterion():
    x, y = vocabularies()
    table = scores(x, y, 10)
    unit_x, unit_y = (v / v.norm(dim=1, keepdim=True) for v in (x, y))
    best = [max(range(70), key=lambda j, i=i: table[i][j]) for i in range(25)]
    cosine = [float(unit_x[i] @ unit_y[j]) for i, j in enumerate(best)]
    paper = sum(cosine) / 25
    assert mean_similarity(x, y, words=25) == pytest.approx(paper, abs=1e-12)
    kept = [value for value, j in zip(cosine, best, strict=True) if j <= 25]
    muse = sum(kept) / len(kept)
    assert mean_similarity(x, y, words=25, rule="muse") == pytest.approx(muse, abs=1e-12)
    assert len(kept) < 25


def test_bad_input():
    x, y = vocabularies()
    w = nearest_orthogonal(torch.randn(9, 9, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"one dimension d, got \(60, 9\) and \(70, 8\)"):
        refine(x, y[:, :8], w)
    with pytest.raises(ValueError, match=r"mapping of shape \(9, 9\), got \(8, 8\)"):
        refine(x, y, w[:8, :8])
    with pytest.raises(ValueError, match="empty vocabulary"):
        refine(x[:0], y, w)
    with pytest.raises(ValueError, match="both in float32 or both in float64"):
        refine(x.float(), y, w)
    with pytest.raises(ValueError, match="max_rank of at least 1, got 0"):
        induce_lexicon(x, y, max_rank=0)
    with pytest.raises(ValueError, match="expected direction 'source-to-target'"):
        induce_lexicon(x, y, direction="both")  # ty: ignore[invalid-argument-type]
    with pytest.raises(ValueError, match=r"no pair is left \(source-to-target, max_rank 15000"):
        induce_lexicon(x, y, threshold=100.0)
    with pytest.raises(ValueError, match="expected max_pairs of at least 0"):
        induce_lexicon(x, y, max_pairs=-1)
    with pytest.raises(ValueError, match="criterion_words of at least 1, got 0"):
        refine(x, y, w, RefinementConfig(criterion_words=0))
    with pytest.raises(ValueError, match="rule 'paper' or 'muse'"):
        refine(x, y, w, RefinementConfig(criterion_rule="best"))  # ty: ignore[invalid-argument-type]
    with pytest.raises(ValueError, match="refine: no pair is left"):
        refine(x, y, w, RefinementConfig(threshold=100.0))
    with pytest.raises(ValueError, match="rule 'paper' or 'muse'"):
        mean_similarity(x, y, rule="best")  # ty: ignore[invalid-argument-type]
    with pytest.raises(ValueError, match="at least 1 word"):
        mean_similarity(x, y, words=0)
