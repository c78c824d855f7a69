"""The recipe pruning.lenet-mnist: the paper's levels exactly, its parts, and a run that goes on."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

pytest.importorskip("gonzo.lab", reason="recipes need the extra gonzo-pruning[recipes]")
pytest.importorskip("matplotlib", reason="recipes need the extra gonzo-pruning[recipes]")

from gonzo.lab import Run
from gonzo.pruning.masks import Masks
from gonzo.pruning.plan import plan_pruning
from gonzo.pruning.recipes.image_training import ImageTraining, Schedule
from gonzo.pruning.recipes.labelled_images import digits
from gonzo.pruning.recipes.lenet import LeNet, small_lenet
from gonzo.pruning.recipes.lenet_mnist import RECIPE, Config, main
from gonzo.pruning.recipes.ticket_figures import plot_levels, plot_trainings
from gonzo.pruning.recipes.ticket_levels import Levels
from gonzo.pruning.selection import prune
from gonzo.pruning.training import Training
from gonzo.pruning.trials import Trial

pytestmark = pytest.mark.recipe

TINY = Config(
    subset=True,
    validation=200,
    training=Schedule(steps=20, every=20),
    rounds=2,
    rate=0.5,
    controlled=(1, 2),
    compared=1,
    peak=1,
    smallest=2,
    seeds=2,
)


def trial(kind, level, history):
    best = min(history, key=lambda entry: entry["validation_loss"])
    return Trial(
        kind=kind,
        round=level,
        replicate=0,
        alive=1000 >> level,
        total=1000,
        parameters=0,
        history=tuple(history),
        early_stop_step=best["step"],
        at_early_stop=best,
        at_end=history[-1],
    )


def trained(losses, accuracies):
    """A history that was evaluated every 10 steps."""
    return [
        {
            "step": 10 * (i + 1),
            "validation_loss": loss,
            "validation_accuracy": accuracy - 1,
            "test_accuracy": accuracy,
        }
        for i, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
    ]


@pytest.fixture
def levels():
    """Two seeds whose numbers are easily followed."""
    seeds = []
    for shift in (0.0, 1.0):
        seeds.append(
            [
                trial("ticket", 0, trained([3, 2, 1, 2], [90, 91, 92 + shift, 80])),
                trial("ticket", 1, trained([2, 1, 3, 3], [93, 94 + shift, 80, 80])),
                trial("reinit", 1, trained([4, 3, 2, 1.5], [80, 81, 82, 83 + 12 * shift])),
            ]
        )
    return Levels(seeds)


def test_the_paper_s_levels_are_hit_exactly():
    torch.manual_seed(0)
    model = LeNet()
    config = RECIPE.presets["cpu"].config
    plan = plan_pruning(model, {"output": config.rate / 2, "*": config.rate})
    masks = Masks.full(model, plan)
    assert masks.total == 266_200
    scores = {name: parameter.detach().abs() for name, parameter in model.named_parameters()}
    scores = {name: scores[name] for name in masks}
    remaining = {}
    counts = {name: mask.numel() for name, mask in masks.items()}
    for level in range(1, config.rounds + 1):
        masks = prune(scores, masks, dict(plan.rates))
        for name, rate in plan.rates.items():
            counts[name] -= rate * counts[name] // 1
        assert {name: masks.alive_of(name) for name in masks} == counts
        remaining[level] = round(100 * masks.density, 1)
    assert [remaining[level] for level in config.controlled] == [51.3, 21.1, 7.0, 3.6]
    assert remaining[config.compared] == 21.1
    assert remaining[config.peak] == 13.5
    assert remaining[config.smallest] == 3.6
    assert plan.rates["output.weight"] == Fraction(1, 10)


def test_lenet_is_drawn_as_in_the_paper():
    torch.manual_seed(0)
    model = LeNet()
    assert sum(p.numel() for p in model.parameters()) == 266_200 + 410
    for layer in (model.hidden1, model.hidden2):
        fans = layer.in_features + layer.out_features
        assert float(layer.weight.detach().std()) == pytest.approx((2 / fans) ** 0.5, rel=0.02)
        assert not layer.bias.any()
    x = torch.rand(3, 1, 28, 28)
    first = torch.relu(x.reshape(3, 784) @ model.hidden1.weight.T)
    second = torch.relu(first @ model.hidden2.weight.T)
    assert torch.allclose(model(x), second @ model.output.weight.T, atol=1e-5)


@pytest.mark.parametrize("parameters", [266_610, 56_000, 18_000, 9_990])
def test_small_networks_have_about_as_many_parameters(parameters):
    model = small_lenet(parameters)
    count = sum(p.numel() for p in model.parameters())
    # A unit more or less in the first layer is 0.8 thousand weights.
    assert abs(count - parameters) <= 1200
    assert model.hidden1.out_features == pytest.approx(3 * model.hidden2.out_features, abs=2)


def test_splits_are_disjoint_and_complete():
    splits = digits(subset=True, validation=700, seed=3, data_dir=None)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (9300, 700, 2000)
    again = digits(subset=True, validation=700, seed=3, data_dir=None)
    other = digits(subset=True, validation=700, seed=4, data_dir=None)
    assert torch.equal(splits.validation.images, again.validation.images)
    assert not torch.equal(splits.validation.images, other.validation.images)
    rows = torch.cat([splits.train.images, splits.validation.images]).flatten(1)
    # Every image of the training set once: their sums are a permutation of the set's.
    whole = digits(subset=True, validation=1, seed=0, data_dir=None)
    expected = torch.cat([whole.train.images, whole.validation.images]).flatten(1)
    weights = torch.arange(784) ** 2 + 1
    assert torch.equal(
        (rows.long() @ weights).sort().values, (expected.long() @ weights).sort().values
    )
    images, labels = splits.train.take(torch.tensor([5, 2]))
    assert images.shape == (2, 1, 28, 28)
    assert torch.allclose(images, splits.train.images[[5, 2]] / 255)
    assert labels.tolist() == splits.train.labels[[5, 2]].tolist()


def test_a_training_learns_and_records_what_the_early_stop_needs():
    torch.manual_seed(0)
    model = LeNet()
    splits = digits(subset=True, validation=200, seed=0, data_dir=None)
    with Training(model, seed=1) as training:
        ImageTraining(splits, Schedule(steps=90, every=15), chunk=300)(model, training)
    history = training.history
    assert [entry["step"] for entry in history] == [15, 30, 45, 60, 75, 90]
    assert history[-1]["validation_accuracy"] > 85
    best = min(history, key=lambda entry: entry["validation_loss"])
    for entry in history:
        assert ("test_accuracy" in entry) == (entry in (best, history[-1]))
    with torch.no_grad():
        images, labels = splits.test.take(torch.arange(2000))
        right = (model(images).argmax(1) == labels).double().mean()
        images, labels = splits.validation.take(torch.arange(200))
        loss = torch.nn.functional.cross_entropy(model(images), labels)
    assert history[-1]["test_accuracy"] == pytest.approx(100 * float(right))
    assert history[-1]["validation_loss"] == pytest.approx(float(loss), rel=1e-5)


def test_the_test_accuracy_at_the_early_stop_is_that_of_its_weights():
    # A rate so high that the loss soon rises again.
    splits = digits(subset=True, validation=200, seed=0, data_dir=None)
    schedule = Schedule(steps=60, learning_rate=0.03, every=10)

    def trained(steps):
        torch.manual_seed(0)
        with Training(LeNet(), seed=1) as training:
            train = ImageTraining(splits, replace(schedule, steps=steps), chunk=300)
            train(training.model, training)
        return training.history

    history = trained(60)
    best = min(history, key=lambda entry: entry["validation_loss"])
    assert best["step"] < 60
    # The same training, ended there: the same batches come first.
    ended = trained(int(best["step"]))[-1]
    assert ended == best
    assert ended["test_accuracy"] != history[-1]["test_accuracy"]


def test_levels_count_by_seed(levels):
    assert levels.levels("ticket") == [0, 1]
    assert levels.levels("dense") == []
    assert levels.remaining(1) == 50
    assert levels.mean("ticket", 0, "step") == 30
    assert levels.each("ticket", 1, "accuracy") == [94, 95]
    assert levels.mean("reinit", 1, "accuracy") == 89
    assert levels.mean("ticket", 1, "loss") == 1
    assert levels.mean("dense", 1, "loss") != levels.mean("dense", 1, "loss")
    # Re-initialised networks come down to 1.5, after 40 steps; tickets get below after 20.
    assert levels.steps_to_loss_of("reinit", 1, ticket=1) == 20
    assert levels.steps_to_loss_of("ticket", 0, ticket=1) == 20
    # The dense network never gets below 1.
    assert levels.steps_to_loss_of("ticket", 1, ticket=0) == 30
    assert levels.steps_to_loss_of("reinit", 1, ticket=0) == 30
    # Of the second seed the re-initialised network is as accurate.
    assert levels.share_won("reinit", 1) == 0.5
    table = levels.table()
    assert [(row["kind"], row["round"], row["alive"]) for row in table] == [
        ("ticket", 0, 1000),
        ("ticket", 1, 500),
        ("reinit", 1, 500),
    ]


def test_figures_show_what_is_there(levels):
    figure = plot_levels(levels, [0, 1])
    for axes, what in zip(figure.axes, ("step", "accuracy"), strict=True):
        labels = [text.get_text() for text in axes.get_xticklabels()]
        assert labels == ["100", "50"]
        means = axes.containers[0].lines[0].get_ydata()
        assert list(means) == [levels.mean("ticket", level, what) for level in (0, 1)]
        assert len(axes.containers) == 2  # no curve of what was not trained
    tickets, controls = plot_trainings(levels, [0, 1], 1).axes
    assert list(tickets.lines[1].get_ydata()) == [92, 93.5, 79, 79]
    assert [line.get_label() for line in controls.lines] == [
        "all weights",
        "winning ticket",
        "weights drawn anew",
    ]


def test_it_returns_its_metrics_and_goes_on_after_an_interruption(tmp_path, monkeypatch):
    with Run(tmp_path / "whole", threads=1) as run:
        results = main(TINY, run)
    assert set(results) == set(RECIPE.metrics)
    assert results["ticket_accuracy"] > 50
    drawn = {path.name for path in (tmp_path / "whole" / "figures").iterdir()}
    assert drawn == {"levels.svg", "trainings.svg"}

    trainings = []
    call = ImageTraining.__call__

    def counted(self, model, training):
        trainings.append(training.seed)
        if len(trainings) == 6:
            raise KeyboardInterrupt
        call(self, model, training)

    monkeypatch.setattr(ImageTraining, "__call__", counted)
    with pytest.raises(KeyboardInterrupt), Run(tmp_path / "cut", threads=1) as run:
        main(TINY, run)
    with Run(tmp_path / "cut", threads=1) as run:
        assert main(TINY, run) == results
    # Two seeds of nine trainings, of which one was begun twice.
    assert len(trainings) == 2 * 9 + 1
    for name in ("levels.json", "tickets/seed-1/trials/dense-02-0.json"):
        whole, cut = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "cut"))
        assert whole == cut


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "seeds of at least 1, got 0"),
        ({"rate": 1.0}, "rate between 0 and 1, got 1.0"),
        ({"compared": 3}, r"among the rounds with controls, \(1, 2\), got 3 and 2"),
        ({"rounds": 1}, "rounds of at least 2, got 1"),
        ({"validation": 0}, "validation of at least 1, got 0"),
        ({"reinits": 0}, "reinits of at least 1, got 0"),
    ],
)
def test_configs_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 25}, "steps that are a multiple of every, 20, got 25"),
        ({"every": 0}, "every of at least 1, got 0"),
        ({"batch": 0}, "batch of at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate above 0, got 0.0"),
    ],
)
def test_schedules_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY.training, **change)


def test_a_batch_beyond_the_images_is_refused():
    splits = digits(subset=True, validation=9_970, seed=0, data_dir=None)
    model = LeNet()
    with (
        pytest.raises(ValueError, match="batch of at most 30, the images, got 60"),
        Training(model, seed=1) as training,
    ):
        ImageTraining(splits, Schedule(), chunk=300)(model, training)
