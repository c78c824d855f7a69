"""ListOps: the expressions against the published grammar, and the recipe that learns them."""

import math
import statistics
from itertools import pairwise

import pytest
import torch

pytestmark = pytest.mark.recipe


@pytest.fixture
def recipe():
    """It imports gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.ssm.recipes import listops

    return listops


@pytest.fixture
def data():
    from gonzo.ssm.recipes import listops_data

    return listops_data


def strings(data, split):
    return [
        " ".join(data.TOKENS[token] for token in row if token != data.PADDING)
        for row in split.x.tolist()
    ]


def parsed(text):
    """Read an expression: its value, its depth, and the number of arguments of each of its lists.

    It shares nothing with the generator: the operators are spelt out once more.
    """
    words = text.split()

    def read(position):
        word = words[position]
        if not word.startswith("["):
            assert word in set("0123456789"), word
            return int(word), 1, [], position + 1
        position += 1
        values, depths, counts = [], [], []
        while words[position] != "]":
            value, depth, inside, position = read(position)
            values.append(value)
            depths.append(depth)
            counts += inside
        value = {
            "[MIN": lambda: min(values),
            "[MAX": lambda: max(values),
            "[MED": lambda: int(statistics.median(values)),
            "[SM": lambda: sum(values) % 10,
        }[word]()
        return value, 1 + max(depths), [len(values), *counts], position + 1

    value, depth, counts, end = read(0)
    assert end == len(words), "words after the end"
    return value, depth, counts


@pytest.mark.parametrize(
    ("text", "value", "depth"),
    [
        ("[MAX 4 3 [MIN 2 3 ] 1 0 [MED 1 5 8 9 2 ] ]", 5, 3),
        ("[SM 9 8 7 ]", 4, 2),
        ("[MED 1 2 ]", 1, 2),
        ("[MED 0 3 4 9 ]", 3, 2),
    ],
)
def test_the_evaluator_of_these_tests(text, value, depth):
    assert parsed(text)[:2] == (value, depth)


SIZES = [(500, 2000, 10, 10, 30), (20, 100, 10, 10, 400), (3, 30, 4, 3, 400)]


@pytest.mark.parametrize(("shortest", "longest", "max_depth", "max_args", "n"), SIZES)
def test_expressions_are_of_the_grammar_and_come_to_their_values(
    data, shortest, longest, max_depth, max_args, n
):
    grammar = data.Grammar(shortest, longest, max_depth, max_args)
    split = data.listops(grammar, {"train": n}, seed=0)["train"]
    assert split.x.shape == (n, longest - 1)
    assert split.x.dtype == torch.uint8
    depths, counts = [], []
    for text, value in zip(strings(data, split), split.label.tolist(), strict=True):
        assert shortest < len(text.split()) < longest
        expected, depth, inside = parsed(text)
        assert value == expected, text
        depths.append(depth)
        counts += inside
    assert max(depths) <= max_depth
    assert set(counts) == set(range(2, max_args + 1))
    if shortest == 500:
        assert set(depths) == {10}  # as long as this only the deepest are
    padding = split.x == data.PADDING
    assert (padding[:, 1:] >= padding[:, :-1]).all(), "padding is at the end"


def test_the_distribution_is_the_grammars(data):
    """Of everything but the length: none is too long here, and every list is long enough."""
    grammar = data.Grammar(min_length=3, max_length=4000, max_depth=4, max_args=10)
    split = data.listops(grammar, {"train": 2000}, seed=1)["train"]
    arguments = {}  # of the lists at each depth, how many are digits and how many lists
    counts = []  # of arguments of the outermost list
    for text in strings(data, split):
        depth = 0
        for word in text.split():
            if word != "]":
                found = arguments.setdefault(depth, [0, 0])
                found[word.startswith("[")] += 1
            depth += word.startswith("[") - (word == "]")
        counts.append(parsed(text)[2][0])
    assert arguments[0] == [0, 2000]
    assert_shares(arguments[1], [0.75, 0.25])
    assert_shares(arguments[2], [0.75, 0.25])
    assert arguments[3][1] == 0
    assert_shares([counts.count(number) for number in range(2, 11)], [1 / 9] * 9)
    words = " ".join(strings(data, split)).split()
    assert_shares([words.count(name) for name in data.TOKENS[:10]], [0.1] * 10)
    assert_shares([words.count(name) for name in data.TOKENS[10:14]], [0.25] * 4)
    first = split.x[:, 0]
    assert split.label[first == data.TOKENS.index("[MAX")].float().mean() > 7
    assert split.label[first == data.TOKENS.index("[MIN")].float().mean() < 2
    sums = torch.bincount(split.label[first == data.TOKENS.index("[SM")], minlength=10)
    assert_shares(sums.tolist(), [0.1] * 10)


def assert_shares(counts, shares):
    total = sum(counts)
    for count, share in zip(counts, shares, strict=True):
        assert abs(count / total - share) < 4 * math.sqrt(share * (1 - share) / total), counts


def test_splits_are_disjoint_and_functions_of_the_seed(data):
    grammar = data.Grammar(3, 12)  # so short that repeats are frequent
    sizes = {"test": 200, "valid": 100, "train": 500}
    splits = data.listops(grammar, sizes, seed=0)
    texts = {name: strings(data, split) for name, split in splits.items()}
    assert {name: len(text) for name, text in texts.items()} == sizes
    every = [text for part in texts.values() for text in part]
    assert len(set(every)) == len(every)
    again = data.listops(grammar, sizes, seed=0)
    for name, split in splits.items():
        assert torch.equal(split.x, again[name].x)
        assert torch.equal(split.label, again[name].label)
    fewer = data.listops(grammar, {"test": 200, "train": 10}, seed=0)
    assert torch.equal(fewer["test"].x, splits["test"].x)
    other = data.listops(grammar, sizes, seed=1)
    assert strings(data, other["test"]) != texts["test"]


def tiny(recipe, **changes):
    from gonzo.lab.training import Training

    return recipe.Config(
        model=recipe.Model(d_model=8, d_state=16, n_layer=1, n_head=2),
        data=recipe.Data(recipe.Grammar(3, 16), train=40, valid=8, test=20),
        training=Training(steps=3, batch=5, warmup=1),
        **changes,
    )


def test_it_runs_and_repeats(tmp_path, recipe):
    from gonzo.lab import Run

    results = []
    for directory in ("run", "run", "another"):  # the second time, loops are restored
        with Run(tmp_path / directory) as run:
            results.append(recipe.main(tiny(recipe), run))
    assert results[0] == results[1] == results[2]
    result = results[0]
    assert recipe.RECIPE.metrics.keys() <= result.keys()
    assert result["gap"] == result["s4"] - result["transformer"]
    assert all(0 <= result[name] <= 100 for name in ("s4", "transformer", "first", "majority"))
    assert (tmp_path / "run" / "figures" / "length.svg").exists()


@pytest.mark.parametrize("preset", ["quick", "cpu", "paper"])
def test_both_arms_have_as_many_parameters(tmp_path, recipe, preset):
    from gonzo.lab import Run

    config = recipe.RECIPE.presets[preset].config
    with Run(tmp_path / "run") as run:
        sizes = [
            sum(p.numel() for p in recipe.build(arm, config, run).parameters())
            for arm in ("s4", "transformer")
        ]
    assert abs(sizes[0] - sizes[1]) < 0.01 * sizes[0]


@pytest.mark.parametrize("arm", ["s4", "transformer"])
def test_padding_changes_nothing_and_every_token_counts(tmp_path, recipe, data, arm):
    from gonzo.lab import Run

    with Run(tmp_path / "run") as run:
        classifier = recipe.build(arm, tiny(recipe), run)
    tokens = torch.full((2, 15), data.PADDING, dtype=torch.uint8)
    tokens[0, :5] = torch.tensor([10, 1, 2, 3, 14])
    tokens[1, :9] = torch.tensor([11, 4, 4, 2, 9, 9, 9, 9, 14])
    logits = classifier(tokens)
    torch.testing.assert_close(classifier(tokens[:1, :5]), logits[:1], rtol=1e-4, atol=1e-5)
    for place in (0, 2, 4):
        changed = tokens.clone()
        changed[0, place] = 7
        difference = (classifier(changed) - logits).abs().amax(1)
        assert difference[0] > 1e-4
        assert difference[1] < 1e-5


def test_the_transformer_tells_order(tmp_path, recipe):
    from gonzo.lab import Run

    with Run(tmp_path / "run") as run:
        classifier = recipe.build("transformer", tiny(recipe), run)
    tokens = torch.tensor([[10, 1, 2, 3, 14], [10, 3, 2, 1, 14]], dtype=torch.uint8)
    one, other = classifier(tokens)
    assert (one - other).abs().max() > 1e-3


def test_baselines(recipe, data):
    from gonzo.lab.training import Examples

    def examples(*pairs):
        x = torch.tensor([[first, 1, 2, 14] for first, _ in pairs], dtype=torch.uint8)
        return Examples(x, torch.tensor([value for _, value in pairs]))

    least, most = data.TOKENS.index("[MIN"), data.TOKENS.index("[MAX")
    training = examples(
        (least, 1), (least, 1), (least, 7), (most, 9), (most, 7), (most, 9), (13, 7)
    )
    test = examples((least, 1), (least, 7), (most, 9), (most, 9))
    assert recipe.baselines(training, test) == {"majority": 25.0, "first": 75.0}


def test_quarters_are_the_split_by_length(recipe, data):
    split = data.listops(data.Grammar(3, 30), {"test": 50}, seed=0)["test"]
    quarters = recipe.by_length(split)
    assert [len(q.label) for q in quarters] == [13, 13, 13, 11]
    lengths = [(q.x != data.PADDING).sum(1) for q in quarters]
    assert all(shorter.max() <= longer.min() for shorter, longer in pairwise(lengths))
    texts = [text for quarter in quarters for text in strings(data, quarter)]
    assert sorted(texts) == sorted(strings(data, split))


@pytest.mark.parametrize(
    ("kind", "field", "expected"),
    [
        ("Model", {"d_state": 3}, "an even d_state of at least 2, got 3"),
        ("Model", {"n_layer": 0}, "n_layer of at least 1, got 0"),
        ("Model", {"d_model": 6, "n_head": 4}, "n_head to divide d_model=6, got 4"),
        ("Model", {"dt_min": 1.0}, "0 < dt_min <= dt_max"),
        ("Data", {"test": 3}, "at least 4 examples to test, got 3"),
        ("Grammar", {"max_args": 1}, "max_args of at least 2, got 1"),
        ("Grammar", {"max_depth": 1}, "max_depth of at least 2, got 1"),
        ("Grammar", {"min_length": 2}, "min_length of at least 3, got 2"),
        ("Grammar", {"min_length": 10, "max_length": 11}, "max_length of at least min_length"),
    ],
)
def test_sizes_are_checked(recipe, kind, field, expected):
    with pytest.raises(ValueError, match=expected):
        getattr(recipe, kind)(**field)


def test_a_transformer_that_cannot_be_as_small_is_refused(tmp_path, recipe):
    from dataclasses import replace

    from gonzo.lab import Run

    long = replace(tiny(recipe).data, grammar=recipe.Grammar(3, 1000))  # so many positions
    config = replace(tiny(recipe), data=long)
    with Run(tmp_path / "run") as run, pytest.raises(ValueError, match="a larger d_state"):
        recipe.build("transformer", config, run)
