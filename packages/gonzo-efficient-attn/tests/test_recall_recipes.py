"""The recipes of associative recall run, repeat, compare like with like, and can learn."""

import dataclasses
from itertools import pairwise

import pytest
import torch

pytestmark = pytest.mark.recipe

NAMES = ["mqar", "associative_recall"]


@pytest.fixture
def recipes():
    """They import gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.efficient_attn.recipes import associative_recall, mqar

    return {"mqar": mqar, "associative_recall": associative_recall}


def tiny(recipes, name, **training):
    from gonzo.lab.training import Training

    recipe = recipes[name]
    data = {
        "mqar": lambda: recipe.Data(sizes=((16, 2), (24, 4)), vocab_size=16, test=20),
        "associative_recall": lambda: recipe.Data(pairs=(2, 5), vocab_size=16, test=20),
    }[name]()
    return recipe.Config(
        model=recipe.Model(d_model=8, n_head=2),
        data=data,
        training=Training(**({"steps": 3, "batch": 5, "warmup": 1} | training)),
        seeds=2,
    )


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_repeats(tmp_path, recipes, name):
    from gonzo.lab import Run

    recipe, config = recipes[name], tiny(recipes, name)
    results = []
    for directory in ("run", "run", "another"):  # the second time, loops are restored
        with Run(tmp_path / directory) as run:
            results.append(recipe.main(config, run))
    assert results[0] == results[1] == results[2]
    result = results[0]
    assert recipe.RECIPE.metrics.keys() <= result.keys()
    sizes = list(config.data.tasks())
    for arm in recipe.ARMS:
        for size in sizes:
            of_seeds = [result[f"{arm}_{size}_seed{i}"] for i in range(2)]
            assert result[f"{arm}_{size}"] == sum(of_seeds) / 2
            assert all(0 <= accuracy <= 100 for accuracy in of_seeds)
        assert result[arm] == result[f"{arm}_{sizes[-1]}"]
    assert (tmp_path / "run" / "figures" / "accuracy.svg").exists()


def test_gaps_are_between_the_arms_they_name(tmp_path, recipes):
    from gonzo.lab import Run

    results = {}
    for name in NAMES:
        with Run(tmp_path / name) as run:
            results[name] = recipes[name].main(tiny(recipes, name), run)
    result = results["mqar"]
    assert result["gap"] == result["rebased"] - result["based"]
    result = results["associative_recall"]
    assert result["gap"] == result["hedgehog"] - max(result["elu"], result["performer"])
    assert result["behind"] == result["softmax"] - result["hedgehog"]


@pytest.mark.parametrize("name", NAMES)
def test_all_arms_learn_from_the_same_examples(tmp_path, recipes, name, monkeypatch):
    from gonzo.efficient_attn.recipes import recall
    from gonzo.lab import Run

    seen = []
    asked = recall._asked

    def remember(model, batch, device):
        seen.append(batch.tokens)
        return asked(model, batch, device)

    monkeypatch.setattr(recall, "_asked", remember)
    config = tiny(recipes, name)
    with Run(tmp_path / "run") as run:
        recipes[name].main(config, run)
    arms = len(recipes[name].ARMS)
    assert len(seen) % (2 * arms) == 0
    each = len(seen) // (2 * arms)  # three steps, and the tests
    of_arms = [seen[begin : begin + each] for begin in range(0, len(seen), each)]
    for one, other in pairwise(of_arms[:arms]):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(of_arms[0][0], of_arms[arms][0]), "a seed has examples of its own"
    short, long, again = of_arms[0][:3]  # in turn
    assert short.shape[1] == again.shape[1] < long.shape[1]
    assert len(short) == config.training.batch
    assert len(long) == short.numel() // long.shape[1]
    assert not torch.equal(short, again), "examples are new at every step"


@pytest.mark.parametrize("name", NAMES)
def test_the_arms_differ_in_the_mixer_alone(recipes, name):
    config = tiny(recipes, name)
    kinds = set()
    for arm in recipes[name].ARMS:
        conv, mixer = recipes[name].build(arm, config).stack.layers
        assert type(conv).__name__ == "ShortConv"
        kinds.add((type(mixer), type(getattr(mixer, "feature_map", None))))
    assert len(kinds) == len(recipes[name].ARMS)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_says_what_it_reduces(recipes, name):
    recipe = recipes[name].RECIPE
    assert {"quick", "cpu"} <= recipe.presets.keys()
    for preset in recipe.presets.values():
        assert dataclasses.is_dataclass(preset.config)
        assert preset.reduced
        assert preset.config.data.tasks()


def test_softmax_attention_behind_a_convolution_learns_to_recall(tmp_path, recipes):
    from gonzo.efficient_attn.recipes.mqar_data import MultiQuery
    from gonzo.efficient_attn.recipes.recall import learn, recall_accuracy
    from gonzo.lab import Run
    from gonzo.lab.training import Training

    recipe = recipes["mqar"]
    config = recipe.Config(
        model=recipe.Model(d_model=32), data=recipe.Data(vocab_size=32, sizes=((16, 4),))
    )
    task = MultiQuery(16, 4, 32)
    with Run(tmp_path / "run") as run:
        model = recipe.build("softmax", config)
        before = recall_accuracy(model, task, 200, run, seed=1)
        learn(model, [task], Training(steps=250, batch=64, lr=1e-2, warmup=20), run, seed=1)
        after = recall_accuracy(model, task, 200, run, seed=1)
    assert before < 20
    assert after > 95


def test_accuracy_counts_right_answers(tmp_path, recipes, monkeypatch):
    from gonzo.efficient_attn.recipes import recall
    from gonzo.efficient_attn.recipes.mqar_data import MultiQuery
    from gonzo.lab import Run

    task = MultiQuery(16, 3, 32)

    class Oracle(torch.nn.Module):
        """Right about even values, and wrong about odd ones."""

    def answers(model, batch, device):
        wanted = batch.targets[batch.targets != -100]
        return torch.nn.functional.one_hot(wanted - wanted % 2, 32).float(), wanted

    monkeypatch.setattr(recall, "_asked", answers)
    monkeypatch.setattr(recall, "_TOKENS_AT_ONCE", 100)  # batches of six, the last one smaller
    with Run(tmp_path / "run") as run:
        accuracy = recall.recall_accuracy(Oracle(), task, 50, run, seed=7)
    from gonzo.lab.seeding import derive_seed

    targets = task.examples(50, seed=derive_seed(7, "test")).targets
    even = (targets[targets != -100] % 2 == 0).float().mean()
    assert accuracy == pytest.approx(100 * float(even), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "kind", "field", "expected"),
    [
        ("mqar", "Model", {"d_model": 9, "n_head": 2}, "d_model to be a multiple of n_head"),
        ("mqar", "Model", {"d_key": 0}, "d_key of at least 1, got 0"),
        ("mqar", "Data", {"sizes": ()}, "at least one size"),
        ("mqar", "Data", {"sizes": ((16, 2), (16, 2))}, "different sizes"),
        ("mqar", "Data", {"sizes": ((16, 5),)}, "a length of at least 4 · pairs = 20, got 16"),
        ("mqar", "Data", {"test": 0}, "at least 1 example to test, got 0"),
        ("mqar", "Config", {"seeds": 0}, "seeds of at least 1, got 0"),
        ("mqar", "Config", {"rebased_lr": 0.0}, "rebased_lr above 0, got 0.0"),
        ("associative_recall", "Model", {"d_model": 9}, "d_model to be a multiple of n_head"),
        ("associative_recall", "Model", {"n_random": 0}, "n_random of at least 1, got 0"),
        ("associative_recall", "Data", {"pairs": ()}, "at least one number of pairs"),
        ("associative_recall", "Data", {"pairs": (4, 4)}, "different numbers"),
        ("associative_recall", "Data", {"pairs": (64,)}, "a vocab_size of at least .* = 130"),
        ("associative_recall", "Data", {"test": 0}, "at least 1 example to test, got 0"),
        ("associative_recall", "Config", {"seeds": 0}, "seeds of at least 1, got 0"),
        ("associative_recall", "Config", {"hedgehog_lr": 0.0}, "hedgehog_lr above 0, got 0.0"),
        ("associative_recall", "Model", {"d_key": 0}, "d_key of at least 1, got 0"),
    ],
)
def test_sizes_are_checked(recipes, name, kind, field, expected):
    with pytest.raises(ValueError, match=expected):
        getattr(recipes[name], kind)(**field)
