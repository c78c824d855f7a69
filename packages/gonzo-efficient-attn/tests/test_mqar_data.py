"""Associative recall: what an example holds, its distribution, and that it repeats."""

import itertools
import math

import pytest
import torch

pytestmark = pytest.mark.recipe

IGNORED = -100


@pytest.fixture
def data():
    """It imports gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.efficient_attn.recipes import mqar_data

    return mqar_data


# The last two leave no choice: of a gap, of a key.
SIZES = [(64, 8, 128), (61, 5, 40), (512, 64, 8192), (32, 8, 64), (24, 3, 8)]


@pytest.mark.parametrize("filler", ["random", "zero"])
@pytest.mark.parametrize(("length", "pairs", "vocab_size"), SIZES)
def test_every_example_is_recalled_by_looking_it_up(data, length, pairs, vocab_size, filler):
    n = 300
    task = data.MultiQuery(length, pairs, vocab_size, filler)
    tokens, targets = task.examples(n, seed=0)
    assert tokens.shape == targets.shape == (n, length)
    assert tokens.dtype == targets.dtype == torch.int64
    for row, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
        keys, values = row[: 2 * pairs : 2], row[1 : 2 * pairs : 2]
        assert set(keys) <= set(range(1, vocab_size // 2))
        assert set(values) <= set(range(vocab_size // 2, vocab_size))
        assert len(set(keys)) == len(set(values)) == pairs
        known = dict(zip(keys, values, strict=True))
        assert all(target == IGNORED for target in wanted[: 2 * pairs])
        asked = set()
        for token, target in zip(row[2 * pairs :], wanted[2 * pairs :], strict=True):
            # A filler that were a key of the context would fail here: it has no target.
            assert known.get(token, IGNORED) == target
            if target != IGNORED:
                asked.add(token)
            elif filler == "zero":
                assert token == 0
            else:
                assert 1 <= token < vocab_size
                assert token not in known.values()
        assert asked == set(keys)


def test_no_filler_is_a_key_or_a_value_of_its_example(data):
    n, pairs = 20_000, 4
    task = data.MultiQuery(64, pairs, 128)  # 1.5 of the usual filler an example would be keys
    tokens, targets = task.examples(n, seed=3)
    context, rest = tokens[:, : 2 * pairs], tokens[:, 2 * pairs :]
    fillers = targets[:, 2 * pairs :] == IGNORED
    known = (rest[:, :, None] == context[:, None]).any(2)
    assert not (known & fillers).any()
    assert known[~fillers].all()
    assert (known.sum(1) == pairs).all()


def test_tokens_are_uniform(data):
    pairs, vocab_size, n = 3, 24, 20_000
    tokens, targets = data.MultiQuery(16, pairs, vocab_size).examples(n, seed=5)
    keys, values = range(1, 12), range(12, 24)
    for place in range(2 * pairs):
        half = values if place % 2 else keys
        assert_shares(tokens[:, place], half, [1 / len(half)] * len(half))
    fillers = tokens[:, 2 * pairs :][targets[:, 2 * pairs :] == IGNORED]
    # Free of the context are 8 of 11 keys and 9 of 12 values.
    shares = [8 / 11 / 17] * 11 + [9 / 12 / 17] * 12
    assert_shares(fillers, [*keys, *values], shares, repeats=10)


def assert_shares(numbers, expected, shares, repeats=1):
    """Compare frequencies with probabilities; `repeats` numbers of an example go together."""
    counts = torch.bincount(numbers, minlength=max(expected) + 1)
    total = len(numbers)
    assert sum(counts[number] for number in expected) == total
    for number, share in zip(expected, shares, strict=True):
        bound = 4.5 * math.sqrt(repeats * share * (1 - share) / total)
        assert abs(counts[number] / total - share) <= bound, (number, counts)


def gaps_of(task, tokens, targets):
    """Return (n, pairs): the gap of each key, found by looking for it."""
    keys = tokens[:, : 2 * task.pairs : 2]
    asked = (tokens[:, None] == keys[:, :, None]) & (targets != IGNORED)[:, None]
    places = asked.int().argmax(2)
    assert (asked.sum(2) == 1).all()
    return (places - 2 * task.pairs) / 2 + 1


@pytest.mark.parametrize("power", [0.01, 0.5, 1.0])
def test_gaps_are_drawn_without_replacement_from_the_power_law(data, power):
    task = data.MultiQuery(12, 2, 16, power=power)
    gaps = gaps_of(task, *task.examples(40_000, seed=1))
    assert task.gaps == 4
    weights = {gap: power * gap ** (power - 1) for gap in range(1, 5)}
    total = sum(weights.values())
    expected = {
        (a, b): weights[a] / total * weights[b] / (total - weights[a])
        for a, b in itertools.permutations(weights, 2)
    }
    assert math.isclose(sum(expected.values()), 1)
    numbers = (10 * gaps[:, 0] + gaps[:, 1]).long()
    assert_shares(numbers, [10 * a + b for a, b in expected], list(expected.values()))


def test_the_first_gap_of_a_long_sequence_follows_the_power_law(data):
    task = data.MultiQuery(256, 8, 64)
    first = gaps_of(task, *task.examples(20_000, seed=2))[:, 0].long()
    weights = [0.01 * gap**-0.99 for gap in range(1, task.gaps + 1)]
    shares = [weight / sum(weights) for weight in weights]
    assert_shares(first, range(1, task.gaps + 1), shares)


@pytest.mark.parametrize("kind", ["MultiQuery", "SingleQuery"])
def test_an_example_depends_on_the_seed_and_its_number_alone(data, kind, monkeypatch):
    task = {"MultiQuery": data.MultiQuery(40, 6, 32), "SingleQuery": data.SingleQuery(6, 32)}[kind]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    all_at_once = task.examples(100, seed=4)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"
    monkeypatch.setattr(data, "_NUMBERS_AT_ONCE", 200)  # a few rows at once
    for start, n in ((0, 100), (37, 1), (37, 63)):
        some = task.examples(n, seed=4, start=start)
        for part, whole in zip(some, all_at_once, strict=True):
            assert torch.equal(part, whole[start : start + n])
    other = task.examples(100, seed=5)
    assert (other.tokens != all_at_once.tokens).any(1).all()


@pytest.mark.parametrize(("pairs", "vocab_size"), [(4, 16), (1, 4), (20, 64), (7, 16)])
def test_a_single_query_is_a_key_of_the_context(data, pairs, vocab_size):
    task = data.SingleQuery(pairs, vocab_size)
    tokens, targets = task.examples(2000, seed=0)
    assert tokens.shape == (2000, task.length) == (2000, 2 * pairs + 1)
    assert (targets[:, :-1] == IGNORED).all()
    places = []
    for row, wanted in zip(tokens.tolist(), targets[:, -1].tolist(), strict=True):
        keys, values = row[:-1:2], row[1::2]
        assert set(keys) <= set(range(1, vocab_size // 2))
        assert set(values) <= set(range(vocab_size // 2, vocab_size))
        assert len(set(keys)) == len(set(values)) == pairs
        places.append(keys.index(row[-1]))
        assert values[places[-1]] == wanted
    assert_shares(torch.tensor(places), range(pairs), [1 / pairs] * pairs)


@pytest.mark.parametrize(
    ("kind", "field", "expected"),
    [
        ("MultiQuery", {"length": 31, "pairs": 8}, r"length of at least 4 · pairs = 32, got 31"),
        ("MultiQuery", {"pairs": 0}, "pairs of at least 1, got 0"),
        ("MultiQuery", {"vocab_size": 9}, r"vocab_size of at least 2 · \(pairs \+ 1\) = 10, got 9"),
        ("MultiQuery", {"filler": "none"}, "filler 'random' or 'zero', got 'none'"),
        ("MultiQuery", {"power": 0.0}, "power above 0, got 0"),
        ("SingleQuery", {"pairs": 8, "vocab_size": 17}, "vocab_size of at least .* = 18, got 17"),
        ("SingleQuery", {"pairs": 0}, "pairs of at least 1, got 0"),
    ],
)
def test_sizes_are_checked(data, kind, field, expected):
    with pytest.raises(ValueError, match=expected):
        getattr(data, kind)(**field)


@pytest.mark.parametrize("arguments", [{"n": 0}, {"n": 1, "start": -1}])
def test_what_to_draw_is_checked(data, arguments):
    with pytest.raises(ValueError, match="expected n >= 1 and start >= 0"):
        data.MultiQuery().examples(seed=0, **arguments)
