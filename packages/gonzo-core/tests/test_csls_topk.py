"""Retrieval by cosine, CSLS and inverted softmax: closed forms, the definition by hand, laws."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.core import explain
from gonzo.core.backends import backend
from gonzo.core.bench import peak_memory
from gonzo.core.ops.csls_topk import (
    cosine_topk,
    cpu,
    cpu_scores,
    csls_topk,
    csls_topk_both,
    inverted_softmax_topk,
    neighbourhood_means,
)
from gonzo.core.ops.csls_topk.unit import unit_rows
from gonzo.core.testing import assert_close, poisoned_allocations

F32, F64 = torch.float32, torch.float64
SEARCHES = {
    "cosine": cosine_topk,
    "csls": functools.partial(csls_topk, neighbours=4),
    "both, forth": lambda *a, **k: csls_topk_both(*a, **renamed(k, "source_rows"), neighbours=4)[0],
    "both, back": lambda x, y, k, **o: csls_topk_both(
        y, x, k, **renamed(o, "target_rows"), neighbours=4
    )[1],
    "inverted softmax": functools.partial(inverted_softmax_topk, temperature=10.0),
}

# What both directions give is what one gives, which can find all words of the other vocabulary.
JUDGES = SEARCHES | dict.fromkeys(["both, forth", "both, back"], SEARCHES["csls"])


def renamed(options, name):
    return {name if key == "rows" else key: value for key, value in options.items()}


def vectors(words, d=20, *, dtype=F64, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(words, d))).to(dtype)


def hubs(words, d=20, *, dtype=F32, seed=0):
    """Vectors with a shared direction, clusters of very different spread, and copies."""
    draw = np.random.default_rng(seed)
    centre = np.random.default_rng(9).normal(size=(5, d))
    which = draw.integers(5, size=words)
    x = 2 * centre[0] + centre[which] + (0.1 + which)[:, None] * 0.3 * draw.normal(size=(words, d))
    x[words // 2 : words // 2 + words // 50] = x[: words // 50]
    return torch.from_numpy(x).to(dtype)


def dyadic(words, seed, *, dtype=F32):
    """Vectors with 1, 4 or 16 entries of ±1: cosines are multiples of 1/16, and ties are exact."""
    draw = np.random.default_rng(seed)
    x = np.zeros((words, 16))
    for row in x:
        at = draw.choice(16, 4 ** int(draw.integers(3)), replace=False)
        row[at] = draw.choice([-1, 1], len(at))
    return torch.from_numpy(x).to(dtype)


def by_hand(name, x, y, k, *, neighbours=4, temperature=10.0):
    """All scores and the k best, in Python's numbers."""
    x, y = x.double().tolist(), y.double().tolist()

    def cosine(a, b):
        sizes = math.hypot(*a) * math.hypot(*b)
        return math.fsum(p * q for p, q in zip(a, b, strict=True)) / sizes if sizes else 0.0

    c = [[cosine(a, b) for b in y] for a in x]

    def mean(some):
        best = sorted(some, reverse=True)[:neighbours]
        return math.fsum(best) / len(best)

    if name == "cosine":
        scores = c
    elif name == "inverted softmax":
        total = [math.fsum(math.exp(temperature * row[j]) for row in c) for j in range(len(y))]
        scores = [[temperature * v - math.log(t) for v, t in zip(r, total, strict=True)] for r in c]
    else:
        own, other = [mean(row) for row in c], [mean(column) for column in zip(*c, strict=True)]
        scores = [[2 * v - o - r for v, o in zip(row, other, strict=True)]
                  for row, r in zip(c, own, strict=True)]  # fmt: skip
    order = [sorted(range(len(y)), key=lambda j: (-row[j], j))[:k] for row in scores]
    best = [[row[j] for j in js] for row, js in zip(scores, order, strict=True)]
    return torch.tensor(best, dtype=F64), torch.tensor(order).reshape(len(x), k)


def agree(actual, search, x, y, rows=None):
    """Scores are the best there are, each that of its word, and no word comes twice.

    Judged in float64. Which of two words is first is not asked where rounding decides it.
    """
    k = actual.scores.shape[1]
    best = search(x.double(), y.double(), len(y), rows=rows, backend="reference")
    dense = torch.full_like(best.scores, math.nan).scatter(1, best.indices, best.scores)
    assert actual.scores.dtype == x.dtype
    assert actual.indices.dtype == torch.int64
    limit = (2e-6 if x.dtype == F32 else 1e-13) * max(1, float(best.scores.abs().max()))
    assert (actual.scores - best.scores[:, :k]).abs().max() < limit
    assert (actual.scores - dense.gather(1, actual.indices)).abs().max() < limit
    assert (actual.scores.diff() <= 0).all()
    assert (actual.indices.sort().values.diff() > 0).all()


@pytest.fixture
def small_blocks(monkeypatch):
    """Many blocks with rests, buffers that fill, and few candidates: every path in small sizes."""
    monkeypatch.setattr(cpu, "_BLOCK", (7, 37))
    monkeypatch.setattr(cpu, "_CANDIDATES", 1)


@pytest.mark.parametrize("which", ["reference", "cpu"])
def test_a_permuted_basis_is_matched(which):
    """Cosines are 0 and 1; with one neighbour every r is 1."""
    order = torch.tensor([3, 0, 2, 1])
    x, y = torch.eye(4, dtype=F64), 5 * torch.eye(4, dtype=F64)[order]
    found = csls_topk(x, y, 2, neighbours=1, backend=which)
    assert found.indices[:, 0].tolist() == order.argsort().tolist()
    assert found.scores.tolist() == [[0.0, -2.0]] * 4
    soft = inverted_softmax_topk(x, y, 1, temperature=3.0, backend=which)
    assert_close(soft.scores, torch.full((4, 1), 3 - math.log(math.exp(3) + 3), dtype=F64))


@pytest.mark.parametrize("which", ["reference", "cpu"])
@pytest.mark.parametrize("name", SEARCHES)
def test_it_is_the_definition(name, which):
    x, y = vectors(23, 5), vectors(31, 5, seed=1)
    y[7] = 0
    scores, indices = by_hand(name, x, y, 6)
    found = SEARCHES[name](x, y, 6, backend=which)
    assert torch.equal(found.indices, indices)
    assert_close(found.scores, scores)


def test_a_hub_is_nearest_but_not_chosen():
    """A target in the middle of all sources is the nearest of those far from their own."""
    angle = torch.tensor([-0.5, 0.5], dtype=F64)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    y = torch.stack([(1.9 * angle).cos(), (1.9 * angle).sin()], 1)
    y = torch.cat([torch.tensor([[1.0, 0.0]], dtype=F64), y])
    assert cosine_topk(x, y, 1).indices.tolist() == [[1], [2]]
    y[1:] = torch.stack([(2.1 * angle).cos(), (2.1 * angle).sin()], 1)
    assert cosine_topk(x, y, 1).indices.tolist() == [[0], [0]]
    assert csls_topk(x, y, 1, neighbours=2).indices.tolist() == [[1], [2]]


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 40), (40, 1), (9, 700), (700, 9), (90, 111)])
@pytest.mark.parametrize("name", SEARCHES)
def test_backends_agree(name, n, m, dtype, small_blocks):
    x, y = hubs(n, dtype=dtype), hubs(m, dtype=dtype, seed=1)
    for k in sorted({1, min(3, n, m), min(n, m) if name.startswith("both") else m}):
        with poisoned_allocations():
            found = SEARCHES[name](x, y, k)
        agree(found, JUDGES[name], x, y)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("name", SEARCHES)
def test_backends_agree_at_sizes_of_several_blocks(name, dtype):
    x, y = hubs(550, 40, dtype=dtype), hubs(2100, 40, dtype=dtype, seed=1)
    agree(SEARCHES[name](x, y, 5), JUDGES[name], x, y)


@pytest.mark.parametrize("neighbours", [1, 3, 10, 500])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_means_agree(neighbours, dtype, small_blocks):
    x, y = hubs(90, dtype=dtype), hubs(111, dtype=dtype, seed=1)
    expected = neighbourhood_means(x.double(), y.double(), neighbours, backend="reference")
    with poisoned_allocations():
        actual = neighbourhood_means(x, y, neighbours)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == dtype
        assert_close(a, e.to(dtype))


def test_the_mean_of_one_neighbour_is_the_largest_cosine():
    x, y = vectors(30), vectors(20, seed=1)
    own, other = neighbourhood_means(x, y, 1)
    assert_close(own, cosine_topk(x, y, 1).scores[:, 0])
    assert_close(other, cosine_topk(y, x, 1).scores[:, 0])


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(8, 70), m=st.integers(8, 70), k=st.integers(1, 8), power=st.integers(0, 3),
    candidates=st.integers(1, 20), rows=st.integers(1, 20), columns=st.integers(1, 40),
    seed=st.integers(0, 99), dtype=st.sampled_from([F32, F64]),
)  # fmt: skip
def test_ties_go_to_the_lower_index(n, m, k, power, candidates, rows, columns, seed, dtype):
    """Every score is an exact number here, so the words must be those of the judge, every one."""
    x, y = dyadic(n, seed, dtype=dtype), dyadic(m, seed + 100, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "_BLOCK", (rows, columns))
        patch.setattr(cpu, "_CANDIDATES", candidates)
        patch.setattr(cpu, "_candidates", lambda k: max(k, candidates))
        found = {
            "cosine": cosine_topk(x, y, k),
            "csls": csls_topk(x, y, k, neighbours=2**power),
            "both": csls_topk_both(x, y, k, neighbours=2**power)[0],
        }
        back = csls_topk_both(x, y, k, neighbours=2**power)[1]
    for name, actual in found.items():
        scores, indices = by_hand(name, x, y, k, neighbours=2**power)
        assert torch.equal(actual.indices, indices)
        assert torch.equal(actual.scores.double(), scores)
    assert torch.equal(back.indices, by_hand("csls", y, x, k, neighbours=2**power)[1])


def test_copies_are_found_in_their_order():
    x = dyadic(3, 0).repeat(40, 1)
    found = cosine_topk(x, x, 40)
    assert found.indices[0].tolist() == list(range(0, 120, 3))
    assert (found.scores == 1).all()


def lonely():
    """Source 0 and the targets near it, which hide one that is far, but from all others farther."""

    def at(*degrees):
        angle = torch.deg2rad(torch.tensor(degrees, dtype=F64))
        return torch.stack([angle.cos(), angle.sin()], 1)

    return at(90.0, *[-30.0] * 60), at(*[65.0] * 300, 150.0)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_word_beyond_all_candidates_is_found(monkeypatch, dtype):
    """The certificate must see that target 300, with the least cosine of all, can win, and does."""
    x, y = (t.to(dtype) for t in lonely())
    calls = []
    score_all = cpu_scores._score_all
    monkeypatch.setattr(cpu_scores, "_score_all", lambda *a: (calls.append(1), score_all(*a)))
    found = csls_topk(x, y, 3, rows=torch.tensor([0]))
    assert found.indices.tolist() == [[300, 0, 1]]
    assert cosine_topk(x, y, 301).indices[0, -1] == 300
    assert len(calls) == 1
    agree(found, csls_topk, x, y, torch.tensor([0]))


def test_without_hubs_the_candidates_suffice(monkeypatch):
    def fail(*_):
        raise AssertionError("scored against more than the candidates")

    monkeypatch.setattr(cpu_scores, "_score_all", fail)
    x, y = vectors(400, 200, dtype=F32), vectors(500, 200, dtype=F32, seed=1)
    agree(csls_topk(x, y, 2), csls_topk, x, y)


@pytest.mark.parametrize("which", ["reference", "cpu"])
def test_both_directions_are_the_two_single_ones(which):
    x, y = hubs(150, dtype=F64), hubs(200, dtype=F64, seed=1)
    some, others = torch.tensor([3, 149, 0]), torch.arange(70)
    forth, back = csls_topk_both(
        x, y, 4, neighbours=7, source_rows=some, target_rows=others, backend=which
    )
    single = functools.partial(csls_topk, neighbours=7)
    agree(forth, single, x, y, some)
    agree(back, single, y, x, others)


@pytest.mark.parametrize("which", ["reference", "cpu"])
@pytest.mark.parametrize("name", SEARCHES)
def test_rows_are_those_of_all(name, which, small_blocks):
    x, y = dyadic(60, 1), dyadic(80, 2)
    rows = torch.tensor([59, 0, 17, 17, 3])
    whole = SEARCHES[name](x, y, 5, backend=which)
    some = SEARCHES[name](x, y, 5, rows=rows, backend=which)
    assert torch.equal(some.scores, whole.scores[rows])
    assert torch.equal(some.indices, whole.indices[rows])
    none = SEARCHES[name](x, y, 5, rows=rows[:0], backend=which)
    assert none.scores.shape == none.indices.shape == (0, 5)


@pytest.mark.parametrize("name", SEARCHES)
def test_strides_do_not_matter(name):
    x, y = vectors(40).mT.contiguous().mT, vectors(60, 40, seed=1)[:, ::2]
    rows = torch.arange(20)[::3]
    expected = SEARCHES[name](x.contiguous(), y.contiguous(), 3, rows=rows.contiguous())
    found = SEARCHES[name](x, y, 3, rows=rows)
    assert torch.equal(found.indices, expected.indices)
    assert_close(found.scores, expected.scores)


@pytest.mark.parametrize("name", SEARCHES)
def test_results_do_not_depend_on_the_number_of_threads(name):
    x, y = hubs(700), hubs(900, seed=1)
    expected = SEARCHES[name](x, y, 4)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        found = SEARCHES[name](x, y, 4)
        assert torch.equal(found.indices, expected.indices)
        assert torch.equal(found.scores, expected.scores)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_lengths_of_vectors_do_not_matter(dtype):
    """Squares that would overflow, or vanish, do not; a power of two changes no bit."""
    x, y = vectors(20, dtype=dtype), vectors(30, dtype=dtype, seed=1)
    expected = csls_topk(x, y, 3)
    largest = torch.finfo(dtype).max
    for factor in (2.0, 2.0**-20, largest / 8, 2.0**-120):
        found = csls_topk(x * factor, y / 2, 3)
        assert torch.equal(found.indices, expected.indices)
        assert_close(found.scores, expected.scores)
    assert torch.equal(csls_topk(4 * x, y, 3).scores, expected.scores)
    units = unit_rows(torch.cat([x, torch.zeros(1, 20, dtype=dtype)]))
    assert_close(units[:-1].norm(dim=1), torch.ones(20, dtype=dtype))
    assert not units[-1].any()


@pytest.mark.parametrize("which", ["reference", "cpu"])
def test_a_word_without_a_direction_has_cosine_zero(which):
    x, y = vectors(5, dtype=F32), vectors(6, dtype=F32, seed=1)
    x[2], y[4] = 0, 0
    found = cosine_topk(x, y, 6, backend=which)
    assert found.indices[2].tolist() == list(range(6))
    assert not found.scores[2].any()
    assert (found.scores[found.indices == 4] == 0).all()
    assert csls_topk(x, y, 6, backend=which).scores.isfinite().all()


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("temperature", [0.01, 30.0, 5000.0])
def test_the_inverted_softmax_is_stable(temperature, dtype, small_blocks):
    x, y = hubs(90, dtype=dtype), hubs(111, dtype=dtype, seed=1)
    found = inverted_softmax_topk(x, y, 2, temperature=temperature)
    assert found.scores.isfinite().all()
    expected = inverted_softmax_topk(
        x.double(), y.double(), 2, temperature=temperature, backend="reference"
    )
    # T cos is rounded at the size of T, whatever is left of it.
    error = (found.scores.double() - expected.scores).abs().max()
    assert error < 8 * torch.finfo(dtype).eps * max(temperature, 10)


def test_the_softmax_of_a_target_sums_to_one():
    x, y = vectors(30), vectors(20, seed=1)
    found = inverted_softmax_topk(x, y, 20)
    total = torch.zeros(20, dtype=F64).index_add(
        0, found.indices.flatten(), found.scores.exp().flatten()
    )
    assert_close(total, torch.ones(20, dtype=F64))


def test_there_is_no_gradient():
    x, y = vectors(5).requires_grad_(), vectors(6).requires_grad_()
    assert not csls_topk(x, y, 1).scores.requires_grad
    assert not neighbourhood_means(x, y)[0].requires_grad


def test_which_backend_runs():
    x = vectors(3)
    assert explain(csls_topk, x) == "csls_topk on cpu: 'cpu', the default for this device"
    with backend("reference"):
        assert "'reference', the enclosing" in explain("csls_topk", x)
        assert_close(csls_topk(x, x, 1).scores, csls_topk(x, x, 1, backend="cpu").scores)


def test_opcheck():
    op = torch.ops.gonzo
    x, y, rows = vectors(9), vectors(11, seed=1), torch.tensor([4, 2])
    for name in ("", "reference"):
        torch.library.opcheck(op.cosine_topk.default, (x, y, 3, None, name))
        torch.library.opcheck(op.csls_topk.default, (x, y, 3, 4, rows, name))
        torch.library.opcheck(op.csls_topk_both.default, (x, y, 3, 4, rows, None, name))
        torch.library.opcheck(op.inverted_softmax_topk.default, (x, y, 3, 9.0, rows, name))
        torch.library.opcheck(op.neighbourhood_means.default, (x, y, 4, name))


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiles_as_one_graph():
    def search(x, y, rows):
        return (
            csls_topk(x, y, 2, rows=rows).scores,
            *csls_topk_both(x, y, 1)[1],
            cosine_topk(x, y, 3).indices,
            inverted_softmax_topk(x, y, 1).scores,
            *neighbourhood_means(x, y),
        )

    arguments = vectors(9), vectors(11, seed=1), torch.tensor([4, 2])
    compiled = torch.compile(search, fullgraph=True)(*arguments)
    for actual, expected in zip(compiled, search(*arguments), strict=True):
        assert torch.equal(actual, expected)


def test_memory_grows_with_words_not_with_pairs():
    """All cosines would take 160 MiB; candidates of both sides take 14, the blocks 4."""
    x, y = torch.randn(6000, 16), torch.randn(7000, 16)
    assert peak_memory(functools.partial(csls_topk_both, x, y, 2)) < 40 << 20


x_fine, y_fine = torch.ones(5, 3), torch.ones(6, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((x_fine[0], y_fine, 1), ValueError, r"source of shape \(words, dimensions\), got \(3,\)"),
        ((x_fine, y_fine[:, :2], 1), ValueError, "one length, got 3 and 2 dimensions"),
        ((x_fine, y_fine[:0], 1), ValueError, r"target is empty, its shape is \(0, 3\)"),
        ((x_fine[:, :0], y_fine[:, :0], 1), ValueError, "source is empty"),
        ((x_fine, y_fine, 0), ValueError, "expected k of at least 1, got 0"),
        ((x_fine, y_fine, 7), ValueError, "k is 7, but target has only 6 words; lower k"),
        ((x_fine.half(), y_fine.half(), 1), TypeError, r"got torch.float16; .* use source.float"),
        ((x_fine, y_fine.bfloat16(), 1), TypeError, r"target in float32 or float64, got torch.bf"),
        ((x_fine, y_fine.double(), 1), TypeError, "share dtype and device, got torch.float32 on"),
        ((x_fine, y_fine.to("meta"), 1), TypeError, "torch.float32 on cpu and .* on meta"),
        ((x_fine / 0, y_fine, 1), ValueError, "source holds NaN or infinite values in 5 of 5 rows"),
        ((x_fine, y_fine * torch.tensor([[1.0]] * 4 + [[math.nan]] * 2), 1), ValueError,
         "target holds NaN or infinite values in 2 of 6 rows, the first is row 4"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", SEARCHES)
def test_bad_vectors_are_refused(name, arguments, error, message):
    if name == "both, back":  # which names the two the other way around
        name = "both, forth"
    with pytest.raises(error, match=message):
        SEARCHES[name](*arguments)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (torch.zeros(1, 1, dtype=torch.int64), ValueError, r"rows of shape \(rows,\), got \(1, 1"),
        (torch.zeros(1, dtype=torch.int32), TypeError, r"int64, got torch.int32; use .*long\(\)"),
        (torch.ones(5, dtype=torch.bool), TypeError, r"use .*rows.nonzero\(\)\[:, 0\]"),
        (torch.tensor([0, 5]), ValueError, "rows asks for row 5, expected 0 … 4"),
        (torch.tensor([-1, 9]), ValueError, "rows asks for row -1, expected 0 … 4"),
        (torch.zeros(1, dtype=torch.int64, device="meta"), TypeError, "rows on cpu, where"),
    ],
)
@pytest.mark.parametrize("name", SEARCHES)
def test_bad_rows_are_refused(name, rows, error, message):
    with pytest.raises(error, match=message):
        SEARCHES[name](x_fine, y_fine, 1, rows=rows)


def test_bad_numbers_are_refused():
    for call in (csls_topk, csls_topk_both):
        with pytest.raises(ValueError, match="expected neighbours of at least 1, got 0"):
            call(x_fine, y_fine, 1, neighbours=0)
    with pytest.raises(ValueError, match="expected neighbours of at least 1, got -2"):
        neighbourhood_means(x_fine, y_fine, -2)
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="expected a positive temperature, got"):
            inverted_softmax_topk(x_fine, y_fine, 1, temperature=temperature)
    with pytest.raises(ValueError, match="k is 6, but source has only 5 words"):
        csls_topk_both(x_fine, y_fine, 6)
