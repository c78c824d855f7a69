"""Pathfinder's pictures are what their definition says, and the recipe runs end to end."""

import dataclasses

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.recipe


@pytest.fixture
def data():
    """The recipes import gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.ssm.recipes import pathfinder_data

    return pathfinder_data


@pytest.fixture
def recipe():
    from gonzo.ssm.recipes import pathfinder

    return pathfinder


def tasks():
    """The tasks of the presets by name."""
    from gonzo.ssm.recipes.pathfinder import RECIPE

    return {name: preset.config.task for name, preset in RECIPE.presets.items()}


def tiny(recipe):
    from gonzo.lab import training
    from gonzo.ssm.recipes import pixels

    return recipe.Config(
        task=dataclasses.replace(tasks()["quick"], strokes=3),
        data=recipe.Data(train=20, test=12),
        model=pixels.Model(d_model=4, d_state=4, n_layer=2),
        training=training.Training(steps=3, batch=5, warmup=1),
    )


def test_it_runs_and_repeats(tmp_path, recipe):
    from gonzo.lab import Run

    results = []
    for _ in range(2):  # the second time, every finished loop is restored
        with Run(tmp_path / "run") as run:
            results.append(recipe.main(tiny(recipe), run))
    with Run(tmp_path / "another") as run:
        results.append(recipe.main(tiny(recipe), run))
    assert results[0] == results[1] == results[2]
    assert results[0].keys() == recipe.RECIPE.metrics.keys()
    assert all(0 <= value <= 100 for value in results[0].values())
    assert {path.stem for path in (tmp_path / "run" / "figures").iterdir()} == {
        "pictures",
        "kernels",
    }


def test_the_splits(tmp_path, recipe, data):
    from gonzo.lab import Run

    config = tiny(recipe)
    with Run(tmp_path / "run") as run:
        train, test = recipe.load(config, run)
    side = config.task.side
    assert train.x.shape == (20, side**2, 1)
    assert test.x.shape == (12, side**2, 1)
    assert train.label.sum() == 10
    assert test.label.sum() == 6
    # Standardised over the training set, in rows.
    torch.testing.assert_close(train.x.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    expected = torch.from_numpy(data.draw(config.task, 0, data.TEST_START, 12).pixels).flatten(1)
    assert torch.equal(test.x[..., 0].argmax(1), expected.float().argmax(1))
    # Half of the training pictures have shorter curves, and no test picture is among all of them.
    assert train.x[:10].sum() < train.x[10:].sum()
    assert not (train.x[:, None] == test.x[None]).flatten(2).all(2).any()


@pytest.mark.parametrize(("pixels", "size"), [(256, 9000), (1024, 40_000)])
def test_the_control_has_as_many_parameters(recipe, pixels, size):
    counted = sum(p.numel() for p in recipe.mlp(pixels, size).parameters())
    assert abs(counted / size - 1) < 0.04  # one unit more or less in a hidden layer


def test_the_stack_reads_in_both_directions(recipe):
    from gonzo.ssm.recipes import pixels

    torch.manual_seed(0)
    layer = recipe.build(pixels.Model(d_model=4, d_state=4, n_layer=1), 1.0).stack.layers[0]
    x = torch.randn(1, 9, 4)
    changed = x.clone()
    changed[:, 4] += 1
    differs = (layer(x) != layer(changed)).any(-1)[0]
    assert differs.all()


def test_a_picture_depends_on_seed_and_index_alone(data):
    task = tasks()["quick"]
    together = data.draw(task, 3, 10, 40)
    alone = data.draw(task, 3, 33, 1)
    for name in ("pixels", "label", "strokes", "discs"):
        assert np.array_equal(getattr(together, name)[23], getattr(alone, name)[0]), name
    assert not np.array_equal(data.draw(task, 4, 33, 1).pixels, alone.pixels)


@pytest.mark.parametrize("preset", ["quick", "cpu", "paper"])
def test_the_geometry_keeps_the_rules(data, preset):
    task = tasks()[preset]
    drawn = data.draw(task, 0, 0, 8 if preset == "paper" else 300)
    assert (drawn.label == np.arange(len(drawn.label)) % 2).all()
    length = np.linalg.norm(drawn.strokes[:, :, 1] - drawn.strokes[:, :, 0], axis=-1)
    assert np.allclose(length, task.stroke)
    assert (drawn.strokes > task.radius).all()
    assert (drawn.strokes < task.side - 1 - task.radius).all()
    for picture in range(len(drawn.label)):
        strokes = drawn.strokes[picture]
        apart = distances(strokes)
        follows = np.eye(len(strokes), k=1, dtype=bool) & (drawn.curve[:, None] == drawn.curve)
        neighbours = follows | follows.T | np.eye(len(strokes), dtype=bool)
        assert np.allclose(apart[follows], task.gap)
        assert (apart[~neighbours] >= task.clearance - 1e-9).all()
        along = np.diff(strokes, axis=1)[:, 0] / task.stroke
        turn = np.degrees(np.arccos(np.clip((along @ along.T)[follows], -1, 1)))
        assert (turn <= task.turn + 1e-6).all()
        ends = [curve_ends(strokes[drawn.curve == which]) for which in (0, 1)]
        worn = [[tuple(disc) in curve for disc in drawn.discs[picture]] for curve in ends]
        assert worn == (
            [[True] * 2, [False] * 2] if drawn.label[picture] else [[True, False], [False, True]]
        )


@pytest.mark.parametrize("preset", ["quick", "cpu"])
def test_linking_what_is_close_answers_the_question(data, preset):
    """From the pixels and where the discs are: flood over lit pixels, across gaps of one pixel."""
    task = tasks()[preset]
    drawn = data.draw(task, 1, 0, 300)
    answers = [joined(*both) for both in zip(drawn.pixels, drawn.discs, strict=True)]
    assert np.mean(answers == drawn.label) >= 0.97


@pytest.mark.parametrize("preset", ["quick", "cpu"])
def test_local_statistics_do_not_tell_the_classes(data, preset):
    drawn = data.draw(tasks()[preset], 2, 0, 4000)
    features = statistics(drawn)
    features = (features - features.mean(0)) / features.std(0)
    features = torch.from_numpy(np.column_stack([features, features**2]))
    label = torch.from_numpy(drawn.label)
    regression = torch.nn.Linear(features.shape[1], 2, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(regression.parameters(), max_iter=100)

    def loss():
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(regression(features[:2000]), label[:2000])
        value.backward()
        return value

    optimizer.step(loss)
    right = regression(features[2000:]).argmax(-1) == label[2000:]
    assert abs(right.double().mean() - 0.5) <= 0.05


def statistics(drawn):
    """What a picture is like on the whole, and how far apart its discs are."""
    value = drawn.pixels / 255.0
    lit = drawn.pixels > 64
    apart = np.linalg.norm(drawn.discs[:, 0] - drawn.discs[:, 1], axis=-1)
    beside = (lit[:, 1:] & lit[:, :-1]).sum((1, 2)), (lit[:, :, 1:] & lit[:, :, :-1]).sum((1, 2))
    return np.column_stack([value.mean((1, 2)), value.std((1, 2)), lit.sum((1, 2)), apart, *beside])


def distances(strokes, points=20):
    """Pairwise distances of strokes, by points along them."""
    share = np.linspace(0, 1, points)[:, None]
    along = strokes[:, None, 0] * (1 - share) + strokes[:, None, 1] * share
    flat = along.reshape(-1, 2)
    apart = np.hypot(*(flat[:, None] - flat[None]).transpose(2, 0, 1))
    return apart.reshape(len(strokes), points, len(strokes), points).min((1, 3))


def curve_ends(strokes):
    return {tuple(strokes[0, 0]), tuple(strokes[-1, 1])}


def joined(pixels, discs):
    """Whether lit pixels, each at most two steps from the next, lead from one disc to the other."""
    lit = np.argwhere(pixels > 64)[:, ::-1]
    near = np.hypot(*(lit[:, None] - lit).transpose(2, 0, 1)) < 2.1
    start, goal = (np.hypot(*(lit - disc).T).argmin() for disc in discs)
    seen = near[start]
    while not np.array_equal(more := near[seen].any(0), seen):
        seen = more
    return seen[goal]
