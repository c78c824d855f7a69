"""Pruning to a density: exact counts, schedules, and layers that collapse or do not."""

import itertools
import math
import warnings
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from gonzo.pruning.magnitude import Magnitude
from gonzo.pruning.masks import Masks
from gonzo.pruning.pruning_at_init import LayerCollapseWarning, prune_at_init
from gonzo.pruning.random_scores import RandomScores
from gonzo.pruning.snip import SNIP
from gonzo.pruning.synflow import SynFlow


class Recorder:
    """Random scores, and the masks that they were asked for."""

    def __init__(self):
        self.seen = []

    def scores(self, model, masks):
        self.seen.append(masks)
        return RandomScores(len(self.seen)).scores(model, masks)


def mlp():
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 10), nn.Linear(10, 3))


@given(
    percent=st.integers(1, 1000),
    rounds=st.integers(1, 6),
    scope=st.sampled_from(["layer", "global"]),
    schedule=st.sampled_from(["exponential", "linear"]),
)
@settings(max_examples=40, deadline=None)
def test_counts_are_exact_whatever_the_way(percent, rounds, scope, schedule):
    density, model, recorder = Fraction(percent, 1000), mlp(), Recorder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)
        masks = prune_at_init(
            model, recorder, density, rounds=rounds, scope=scope, schedule=schedule
        )
    groups = [masks] if scope == "global" else [[name] for name in masks]
    for names in groups:
        total = sum(masks[name].numel() for name in names)
        alive = sum(masks.alive_of(name) for name in names)
        assert alive == total - math.floor((1 - density) * total)
    steps = [*recorder.seen, masks]
    for before, after in itertools.pairwise(steps):
        assert all((after[name] <= before[name]).all() for name in masks)


def test_the_schedules_are_those_of_the_equations():
    for schedule, share in [
        ("exponential", lambda k: 0.1 ** (k / 4)),
        ("linear", lambda k: 1 - 0.9 * k / 4),
    ]:
        recorder = Recorder()
        masks = prune_at_init(mlp(), recorder, 0.1, rounds=4, schedule=schedule)
        counts = [seen.alive for seen in recorder.seen]
        assert counts == pytest.approx([430 * share(k) for k in range(4)], abs=1)
        assert masks.alive == 43


def test_what_is_pruned_is_what_the_criterion_scores_lowest_and_the_model_stays():
    model = mlp()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    masks = prune_at_init(model, Magnitude(), "30 %", exclude=["3"])
    assert list(masks) == ["0.weight", "2.weight"]
    weights = torch.cat([model.get_parameter(name).abs().flatten() for name in masks])
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert weights[kept].min() > weights[~kept].max()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_nothing_is_asked_where_nothing_is_to_be_pruned():
    recorder = Recorder()
    assert prune_at_init(mlp(), recorder, 1).density == 1
    assert recorder.seen == []


def vgg():
    """Widths like those of VGG, whose wide layers have small weights."""
    widths = [3, 16, 32, 64, 128, 128]
    layers = []
    for i, (narrow, wide) in enumerate(itertools.pairwise(widths)):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide)]
        layers += [nn.ReLU(), *([nn.MaxPool2d(2)] if i % 2 else [])]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return model


def test_magnitude_collapses_layers_and_synflow_does_not():
    """The figure of Tanaka et al. that SynFlow was made for, on a small network."""
    model = vgg()
    images = torch.randn(8, 3, 16, 16)
    snip = SNIP(lambda m, batch: F.cross_entropy(m(batch), torch.arange(8)), [images])
    density = Fraction(1, 1000)
    for criterion in (Magnitude(), snip):
        with pytest.warns(LayerCollapseWarning, match=r"\.weight: no weight is left at density"):
            collapsed = prune_at_init(model, criterion, density)
        assert 0 in [collapsed.alive_of(name) for name in collapsed]
    masks = prune_at_init(model, SynFlow((3, 16, 16)), density, rounds=100)
    assert masks.alive == collapsed.alive == masks.total - math.floor(0.999 * masks.total)
    assert min(masks.alive_of(name) for name in masks) > 0
    # And what is alive is connected: the output depends on the input through the masked weights.
    scores = SynFlow((3, 16, 16)).scores(model, masks)
    assert min(float(score.sum()) for score in scores.values()) > 0
    with pytest.warns(LayerCollapseWarning, match="0.weight"):
        once = prune_at_init(model, SynFlow((3, 16, 16)), density)
    assert once.alive == masks.alive


def test_the_warning_names_the_layers():
    model = mlp()
    with torch.no_grad():
        model[2].weight.mul_(1e-6)
    with pytest.warns(LayerCollapseWarning, match=r"^2\.weight: no weight is left at density 0.5"):
        masks = prune_at_init(model, Magnitude(), 0.5)
    assert masks.alive_of("2.weight") == 0
    assert isinstance(masks, Masks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"density": 0}, "expected a density above 0, got 0: nothing would be left"),
        ({"density": 1.5}, "got 1.5"),
        ({"rounds": 0}, "expected at least one round, got 0"),
        ({"rounds": True}, "expected at least one round, got True"),
        ({"schedule": "cubic"}, "the schedule 'exponential' or 'linear', got 'cubic'"),
        ({"scope": "row"}, "the scope 'layer' or 'global', got 'row'"),
        ({"exclude": ["nine"]}, "nine"),
    ],
)
def test_bad_input_is_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        prune_at_init(mlp(), Magnitude(), **{"density": 0.5, **arguments})
