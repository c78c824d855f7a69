"""Selection is bit-equal to a stable sort in float64, by compiled loops and by torch alone."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gonzo.pruning import selection_torch
from gonzo.pruning.magnitude import Magnitude
from gonzo.pruning.masks import Masks
from gonzo.pruning.plan import plan_pruning
from gonzo.pruning.radix_selection import keep_highest
from gonzo.pruning.rates import count_to_prune
from gonzo.pruning.selection import prune, prune_by_magnitude

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = {"w": (7, 5), "empty": (0, 3), "a": (40,), "scalar": (), "conv": (2, 3, 2, 2)}
GROUPS = {"w": "x", "empty": "y", "a": "y", "scalar": "x", "conv": "y"}


def judge(scores, masks, rate):
    """The rule as it is said: sort what is alive, stably, in float64; the first floor(p n) go."""
    entries = [
        (float(score), name, index)
        for name in scores
        for index, (score, alive) in enumerate(
            zip(scores[name].double().flatten(), masks[name].flatten(), strict=True)
        )
        if alive
    ]
    entries.sort(key=lambda entry: entry[0])
    kept = {name: masks[name].flatten().clone() for name in scores}
    for _, name, index in entries[: math.floor(Fraction(str(rate)) * len(entries))]:
        kept[name][index] = False
    return {name: mask.view(scores[name].shape) for name, mask in kept.items()}


def judge_scope(scores, masks, rates, scope):
    if scope == "layer":
        members = [[name] for name in scores]
    elif scope == "global":
        members = [list(scores)]
    else:
        members = [[n for n in scores if scope[n] == group] for group in set(scope.values())]
    kept = {}
    for names in members:
        rate = rates[names[0]] if isinstance(rates, dict) else rates
        kept |= judge({name: scores[name] for name in names}, masks, rate)
    return Masks({name: kept[name] for name in scores})


def drawn(seed, kind, dtype, shapes=SHAPES):
    """Scores of one kind; those of few values have many ties."""
    generator = torch.Generator().manual_seed(seed)
    scores = {}
    for name, shape in shapes.items():
        score = torch.randn(shape, generator=generator)
        if kind == "few values":
            score = (2 * score).round() / 2  # with -0.0 among them
        if kind == "close":  # alike in the leading digit, alive and pruned
            score = 1 + (8 * score).round().to(dtype) * 2**-20
        if kind == "equal":
            score = torch.zeros(shape)
        if kind == "extreme":
            chosen = torch.rand(shape, generator=generator) < 0.5
            score = torch.where(chosen, (1e30 * score) ** 3, score)  # ±inf
        scores[name] = score.to(dtype)
    return scores


def some_alive(seed, density, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed + 1)
    return Masks({n: torch.rand(s, generator=generator) < density for n, s in shapes.items()})


kinds = st.sampled_from(["normal", "few values", "close", "equal", "extreme"])
rates = st.sampled_from([0, 0.1, 0.2, 0.29, "1/3", 0.5, 0.99, 1])


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 2),
    kind=kinds,
    dtype=st.sampled_from(DTYPES),
    rate=rates,
    density=st.sampled_from([0.0, 0.3, 1.0]),
    scope=st.sampled_from(["layer", "global", "groups"]),
)
def test_three_rounds_against_a_stable_sort(seed, kind, dtype, rate, density, scope):
    masks = some_alive(seed, density)
    scope = GROUPS if scope == "groups" else scope
    for number in range(3):
        scores = drawn(seed + number, kind, dtype)
        sizes = {name: score.abs() for name, score in scores.items()}
        assert prune_by_magnitude(scores, masks, rate, scope=scope) == judge_scope(
            sizes, masks, rate, scope
        )
        expected = judge_scope(scores, masks, rate, scope)
        masks = prune(scores, masks, rate, scope=scope)
        assert masks == expected
        assert list(masks) == list(SHAPES)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 2),
    kind=kinds,
    dtype=st.sampled_from(DTYPES),
    rate=rates,
    magnitude=st.booleans(),
)
def test_torch_alone_agrees_with_the_compiled_loops(seed, kind, dtype, rate, magnitude):
    scores, masks = drawn(seed, kind, dtype), some_alive(seed, 0.7)
    rate = Fraction(str(rate))
    compiled = keep_highest(scores, masks, rate, magnitude=magnitude)
    alone = keep_highest(scores, masks, rate, magnitude=magnitude, compiled=False)
    assert compiled.keys() == alone.keys()
    for name in scores:
        assert torch.equal(compiled[name], alone[name])


def test_torch_alone_works_in_pieces(monkeypatch):
    monkeypatch.setattr(selection_torch, "_PIECE", 7)
    for kind in ("normal", "few values", "equal"):
        scores, masks = drawn(3, kind, torch.float32), some_alive(3, 0.7)
        alone = keep_highest(scores, masks, Fraction(2, 5), magnitude=False, compiled=False)
        expected = judge(scores, masks, "2/5")
        assert all(torch.equal(alone[name], expected[name]) for name in scores)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("compiled", [True, False])
def test_every_half_precision_number_has_its_place(dtype, compiled):
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    numbers = bits.view(dtype)
    scores = {"a": numbers[~numbers.isnan()]}
    masks = Masks({"a": torch.ones(scores["a"].shape, dtype=torch.bool)})
    order = np.argsort(scores["a"].double().numpy(), kind="stable")
    for rate in ("1/7", "1/2", "6/7"):
        kept = keep_highest(scores, masks, Fraction(rate), magnitude=False, compiled=compiled)
        pruned = order[: count_to_prune(rate, len(order))]
        assert sorted(pruned) == (~kept["a"]).nonzero().flatten().tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_that_differ_in_every_digit(dtype):
    integer, bits = (torch.int32, 32) if dtype == torch.float32 else (torch.int64, 64)
    patterns = torch.tensor([1 << k for k in range(bits - 1)] + [0, 3, 5 << 20], dtype=integer)
    numbers = patterns.view(dtype)
    numbers = torch.cat([numbers, -numbers])
    scores = {"a": numbers[~numbers.isnan()]}
    masks = Masks({"a": torch.ones(scores["a"].shape, dtype=torch.bool)})
    for count in range(len(scores["a"]) + 1):
        rate = Fraction(count, len(scores["a"]))
        expected = judge(scores, masks, rate)["a"]
        for compiled in (True, False):
            kept = keep_highest(scores, masks, rate, magnitude=False, compiled=compiled)["a"]
            assert torch.equal(kept, expected)


# What exactly goes


def test_the_earlier_of_equal_scores_goes():
    shapes = {"second": (2, 2), "first": (3,)}
    scores = {name: torch.zeros(shape) for name, shape in shapes.items()}
    masks = Masks({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})
    kept = prune(scores, masks, "3/7", scope="global")
    assert kept["second"].flatten().tolist() == [False, False, False, True]
    assert kept["first"].all()
    # The order is that of the masks, whatever that of the scores.
    assert prune(dict(reversed(scores.items())), masks, "3/7", scope="global") == kept


def test_zeros_of_both_signs_are_equal():
    scores = {"a": torch.tensor([0.0, -0.0, 0.0, -0.0, -1e-45])}
    masks = Masks({"a": torch.ones(5, dtype=torch.bool)})
    assert prune(scores, masks, "3/5")["a"].tolist() == [False, False, True, True, False]


def test_infinities_are_scores():
    scores = {"a": torch.tensor([math.inf, 1.0, -math.inf, 2.0])}
    masks = Masks({"a": torch.ones(4, dtype=torch.bool)})
    assert prune(scores, masks, 0.25)["a"].tolist() == [True, True, False, True]
    assert prune(scores, masks, 0.75)["a"].tolist() == [True, False, False, False]
    assert prune_by_magnitude(scores, masks, 0.5)["a"].tolist() == [True, False, True, False]


def test_29_of_100_go():
    masks = Masks({"a": torch.ones(100, dtype=torch.bool)})
    assert (
        prune({"a": torch.arange(100.0)}, masks, 0.29)["a"].tolist() == [False] * 29 + [True] * 71
    )


def test_one_alive_weight():
    masks = Masks({"a": torch.tensor([False, True, False])})
    scores = {"a": torch.tensor([-1.0, 0.0, -1.0])}
    assert prune(scores, masks, 0.999) == masks
    assert prune(scores, masks, 1).alive == 0


def test_all_and_nothing():
    scores, masks = drawn(0, "normal", torch.float32), some_alive(0, 0.6)
    for scope in ("layer", "global", GROUPS):
        assert prune(scores, masks, 0, scope=scope) == masks
        gone = prune(scores, masks, 1, scope=scope)
        assert (gone.alive, gone.total) == (0, masks.total)
        assert prune(scores, gone, 0.5, scope=scope) == gone


def test_nothing_to_prune_from():
    assert len(prune({}, Masks({}), 0.2)) == len(prune({}, Masks({}), 0.2, scope="global")) == 0


def test_what_pruned_weights_score_does_not_matter():
    scores, masks = drawn(0, "normal", torch.float32), some_alive(0, 0.6)
    expected = prune(scores, masks, 0.4, scope="global")
    for value in (math.nan, math.inf, -math.inf):
        other = {n: score.masked_fill(~masks[n], value) for n, score in scores.items()}
        assert prune(other, masks, 0.4, scope="global") == expected


def test_nothing_given_changes():
    scores, masks = drawn(0, "normal", torch.float32), some_alive(0, 0.6)
    before = {n: s.clone() for n, s in scores.items()}, Masks(masks)
    for rate in (0, 0.5, 1):
        kept = prune(scores, masks, rate)
        for name in masks:  # and nothing is shared
            kept[name].logical_not_()
    assert masks == before[1]
    assert all(torch.equal(scores[n], before[0][n]) for n in scores)


def test_scores_in_any_layout():
    scores = torch.randn(6, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    masks = Masks({"a": torch.ones(scores.shape, dtype=torch.bool)})
    expected = prune({"a": scores}, masks, 0.3)
    channels_last = scores.to(memory_format=torch.channels_last)
    strided = torch.stack([scores, scores + 1], -1)[..., 0]
    negated = torch.complex(scores, -scores).conj().imag
    assert negated.is_neg()
    for layout in (channels_last, strided, negated, nn.Parameter(scores)):
        assert prune({"a": layout}, masks, 0.3) == expected
    transposed = Masks({"a": masks["a"].transpose(0, 1)})
    assert prune({"a": scores.transpose(0, 1)}, transposed, 0.3)["a"].shape == (8, 6, 3, 3)


def test_precisions_of_one_group_are_compared_exactly():
    # 1 + 2⁻¹⁰ and 1 + 2⁻⁷ exist in float16 and bfloat16; the rest lies between.
    scores = {
        "half": torch.tensor([1 + 2**-10], dtype=torch.float16),
        "brain": torch.tensor([1 + 2**-7], dtype=torch.bfloat16),
        "single": torch.tensor([1 + 2**-9, 1 + 2**-20]),
        "eighth": torch.tensor([1.125, 0.875]).to(torch.float8_e4m3fn),
        "double": torch.tensor([1 + 2**-40, 1 + 2**-41, 1 + 2**-8], dtype=torch.float64),
    }
    masks = Masks(
        {name: torch.ones(score.shape, dtype=torch.bool) for name, score in scores.items()}
    )
    for names in (scores, [n for n in scores if n != "double"], ["eighth", "half"]):
        group = {name: scores[name] for name in names}
        alive = Masks({name: masks[name] for name in names})
        for count in range(alive.total):
            rate = Fraction(count, alive.total)
            assert prune(group, alive, rate, scope="global") == Masks(judge(group, alive, rate))


# Rates and the schedule of the paper


def test_rates_by_layer():
    shapes = {"a": (100,), "b": (10, 10), "c": (100,)}
    masks = Masks({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})
    scores = drawn(0, "few values", torch.float32, shapes)
    by_layer = {"c": 0.5, "a": 0.29, "b": 0}
    kept = prune(scores, masks, by_layer)
    assert [kept.alive_of(name) for name in shapes] == [71, 100, 50]
    assert kept == judge_scope(scores, masks, by_layer, "layer")
    grouped = prune(
        scores, masks, {"a": 0.2, "b": 0.2, "c": 0.6}, scope={"a": "1", "b": "1", "c": "2"}
    )
    assert (grouped.alive_of("a") + grouped.alive_of("b"), grouped.alive_of("c")) == (160, 40)


def test_lenet_reaches_the_paper_densities():
    model = nn.Sequential(nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10))
    plan = plan_pruning(model, {"2": 0.1, "*": 0.2})
    masks = Masks.full(model, plan)
    densities = []
    for _ in range(15):
        before, scores = masks, Magnitude().scores(model, masks)
        masks = prune(scores, masks, plan.rates)
        weights = {name: model.get_parameter(name) for name in plan.names}
        assert prune_by_magnitude(weights, before, plan.rates) == masks
        assert all(not (masks[name] & ~before[name]).any() for name in masks)
        densities.append(f"{100 * masks.density:.1f}")
    assert [densities[k - 1] for k in (3, 7, 12, 15)] == ["51.3", "21.1", "7.0", "3.6"]


# Errors


def ones(**shapes):
    return Masks({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [0, 0.5, 1])
@pytest.mark.parametrize("select", [prune, prune_by_magnitude])
def test_nan(dtype, rate, select):
    scores = {"a": torch.ones(3, dtype=dtype), "b": torch.tensor([1.0, math.nan], dtype=dtype)}
    with pytest.raises(ValueError, match="the scores of b are NaN for alive weights"):
        select(scores, ones(a=3, b=2), rate, scope="global")
    with pytest.raises(ValueError, match="the scores of b are NaN for alive weights"):
        keep_highest(scores, ones(a=3, b=2), Fraction(rate), magnitude=False, compiled=False)
    negative = {**scores, "b": -scores["b"]}
    with pytest.raises(ValueError, match="the scores of b are NaN for alive weights"):
        select(negative, ones(a=3, b=2), rate)


def test_scores_of_other_parameters():
    with pytest.raises(ValueError, match="scores: none for b, which the masks have"):
        prune({"a": torch.ones(3)}, ones(a=3, b=2), 0.2)
    with pytest.raises(
        ValueError, match=r"scores: there is nothing called 'fc2.weigth' in the masks; d"
    ):
        prune({"fc2.weigth": torch.ones(3)}, ones(**{"fc2.weight": 3}), 0.2)
    with pytest.raises(ValueError, match=r"scores of a have shape \(3, 1\), its mask has \(3,\)"):
        prune({"a": torch.ones(3, 1)}, ones(a=3), 0.2)


def test_scores_that_are_no_numbers():
    for score in (torch.ones(3, dtype=torch.int64), torch.ones(3, dtype=torch.complex64)):
        with pytest.raises(TypeError, match=r"scores of a: expected floating point, got torch\."):
            prune({"a": score}, ones(a=3), 0.2)
    with pytest.raises(TypeError, match="scores of a: expected floating point, got list"):
        prune({"a": [1.0]}, ones(a=1), 0.2)
    with pytest.raises(ValueError, match="scores of a are on the meta device and have no values"):
        prune({"a": torch.ones(3, device="meta")}, ones(a=3), 0.2)


def test_rates_of_other_parameters():
    scores = {"a": torch.ones(3), "b": torch.ones(2)}
    with pytest.raises(ValueError, match="rates: none for b, which the masks have"):
        prune(scores, ones(a=3, b=2), {"a": 0.2})
    with pytest.raises(ValueError, match="rates: there is nothing called 'c' in the masks"):
        prune(scores, ones(a=3, b=2), {"a": 0.2, "b": 0.2, "c": 0.2})
    with pytest.raises(ValueError, match="expected a rate from 0 to 1"):
        prune(scores, ones(a=3, b=2), {"a": 0.2, "b": 1.2})
    with pytest.raises(ValueError, match=r"ranked together but have the rates 1/5 and 3/10; give"):
        prune(scores, ones(a=3, b=2), {"a": 0.2, "b": 0.3}, scope="global")
    assert prune(scores, ones(a=3, b=2), {"a": 0.2, "b": "20 %"}, scope="global").alive == 4


def test_scopes_that_are_none():
    scores = {"a": torch.ones(3), "b": torch.ones(2)}
    with pytest.raises(ValueError, match="expected the scope 'layer', 'global' or a group"):
        prune(scores, ones(a=3, b=2), 0.2, scope="layers")
    with pytest.raises(ValueError, match="scope: none for b, which the masks have"):
        prune(scores, ones(a=3, b=2), 0.2, scope={"a": "group"})
    with pytest.raises(ValueError, match="scope: there is nothing called 'c' in the masks"):
        prune(scores, ones(a=3, b=2), 0.2, scope={"a": "group", "b": "group", "c": "group"})
