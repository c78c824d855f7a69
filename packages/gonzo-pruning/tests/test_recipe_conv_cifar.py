"""The recipe pruning.conv-cifar: the paper's networks and rates, and a tiny run of it."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

pytest.importorskip("gonzo.lab", reason="recipes need the extra gonzo-pruning[recipes]")
pytest.importorskip("matplotlib", reason="recipes need the extra gonzo-pruning[recipes]")

from gonzo.lab import Run
from gonzo.lab.data.cifar10 import ColourImages
from gonzo.pruning.plan import plan_pruning
from gonzo.pruning.recipes import labelled_images
from gonzo.pruning.recipes.conv_cifar import RECIPE, Config, main
from gonzo.pruning.recipes.conv_nets import ConvNet
from gonzo.pruning.recipes.image_training import Schedule
from gonzo.pruning.recipes.labelled_images import photographs

pytestmark = pytest.mark.recipe

IMAGES = Path(os.environ.get("GONZO_DATA_DIR", "")) / "cifar10_jpeg" / "cifar10_jpeg.tar.xz"
TINY = Config(
    data="digits",
    validation=100,
    blocks=(2,),
    units=8,
    training=Schedule(steps=6, every=6),
    rounds=2,
    controlled=(1, 2),
    compared=2,
    seeds=1,
)


@pytest.fixture
def drawn(monkeypatch):
    """60 training and 20 test images of one colour each, in place of CIFAR-10."""

    def cifar10(split, *, data_dir):
        count = {"train": 60, "test": 20}[split]
        generator = torch.Generator().manual_seed(count)
        colours = torch.randint(0, 256, (count, 3, 1, 1), generator=generator)
        images = colours.expand(count, 3, 32, 32).to(torch.uint8)
        return ColourImages(images, torch.arange(count, dtype=torch.uint8) % 10, "binary")

    monkeypatch.setattr(labelled_images, "cifar10", cifar10)


@pytest.mark.parametrize(
    ("blocks", "weights"),
    # Frankle and Carbin, figure 2: 38 thousand of 4.3 million, 260 thousand of 2.4 million.
    [((64,), (38_592, 4_300_992)), ((64, 128), (259_776, 2_425_024))],
)
def test_networks_have_the_paper_s_sizes(blocks, weights):
    model = ConvNet(blocks)
    sizes = {name: p.numel() for name, p in model.named_parameters() if name.endswith("weight")}
    convolutions = sum(size for name, size in sizes.items() if name.startswith("conv"))
    assert (convolutions, sum(sizes.values())) == weights
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_a_network_is_its_layers_in_turn():
    torch.manual_seed(0)
    model = ConvNet((3, 5), 7, channels=2, side=8).double()
    x = torch.rand(4, 2, 8, 8, dtype=torch.float64)
    expected = x
    for block in ("0", "1"):
        for place in ("0", "1"):
            layer = model.convolutions.get_submodule(f"conv{block}{place}")
            expected = torch.conv2d(expected, layer.weight, padding=1).clamp(min=0)
        windows = expected.unfold(2, 2, 2).unfold(3, 2, 2)
        expected = windows.amax((-1, -2))
    expected = expected.reshape(4, -1)
    for layer in (model.hidden1, model.hidden2):
        expected = (expected @ layer.weight.T).clamp(min=0)
    assert torch.allclose(model(x), expected @ model.output.weight.T, rtol=1e-10)


def test_a_side_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="2 blocks halve the side so often, expected a multiple"):
        ConvNet((4, 4), side=30)


def test_rates_are_the_paper_s_or_several_rounds_of_them_exactly():
    model = ConvNet((2,), 4)
    plan = plan_pruning(model, replace(TINY, rounds_at_once=1).rates)
    tenth, fifth = Fraction(1, 10), Fraction(1, 5)
    assert dict(plan.rates) == {
        "convolutions.conv00.weight": tenth,
        "convolutions.conv01.weight": tenth,
        "hidden1.weight": fifth,
        "hidden2.weight": fifth,
        "output.weight": tenth,
    }
    three = plan_pruning(model, replace(TINY, rounds_at_once=3).rates).rates
    assert set(three.values()) == {Fraction(271, 1000), Fraction(488, 1000)}


def test_photographs_are_scaled_by_channel_and_split(drawn):
    splits = photographs(train=40, validation=15, test=10, seed=0, data_dir=None)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (40, 15, 10)
    seen = torch.cat([splits.train.images, splits.validation.images])[:, :, 0, 0]
    assert len(seen.unique(dim=0)) == 55
    images, _ = splits.train.take(torch.arange(40))
    assert images.shape == (40, 3, 32, 32)
    pixels = splits.train.images.double()
    scaled = (pixels - splits.train.mean) / splits.train.deviation
    assert torch.allclose(images.double(), scaled, atol=1e-5)
    # Moments are those of all training images, about; of every fifth, exactly.
    whole = labelled_images.cifar10("train", data_dir=None).images[::5].double()
    channels = (whole - splits.test.mean) / splits.test.deviation
    assert channels.mean((0, 2, 3)).abs().max() < 1e-5
    assert (channels.std((0, 2, 3)) - 1).abs().max() < 1e-5
    other = photographs(train=40, validation=15, test=10, seed=1, data_dir=None)
    assert not torch.equal(splits.test.images, other.test.images)


def test_it_returns_its_metrics(tmp_path):
    with Run(tmp_path / "run", threads=1) as run:
        results = main(TINY, run)
    assert set(results) == set(RECIPE.metrics)
    assert results["dense_step"] == results["ticket_step"] == 6
    assert results["above_reinit"] == pytest.approx(
        results["ticket_accuracy"] - results["reinit_accuracy"]
    )
    assert {path.name for path in (tmp_path / "run" / "figures").iterdir()} == {
        "levels.svg",
        "trainings.svg",
    }


def test_it_trains_on_colour_images(drawn, tmp_path):
    config = replace(
        TINY,
        data="cifar10",
        train_images=40,
        validation=15,
        test_images=10,
        training=Schedule(steps=2, batch=20, every=1),
        rounds=1,
        controlled=(1,),
        compared=1,
    )
    with Run(tmp_path / "run", threads=1) as run:
        results = main(config, run)
    assert 0 <= results["ticket_accuracy"] <= 100
    assert 0 < results["remaining"] < 60


@pytest.mark.skipif(
    not (os.environ.get("GONZO_DATA_DIR") and IMAGES.is_file()),
    reason="GONZO_DATA_DIR names no folder with cifar10_jpeg/cifar10_jpeg.tar.xz",
)
def test_a_little_is_learnt_from_the_real_images(tmp_path):
    config = replace(
        TINY,
        data="cifar10",
        train_images=2000,
        validation=200,
        test_images=300,
        blocks=(8,),
        units=32,
        training=Schedule(steps=60, learning_rate=1e-3, every=30),
        rounds=1,
        controlled=(1,),
        compared=1,
    )
    with Run(tmp_path / "run", threads=1) as run:
        results = main(config, run)
    # One class is a tenth.
    assert results["dense_accuracy"] > 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "seeds of at least 1, got 0"),
        ({"data": "cifar"}, "data cifar10 or digits, got 'cifar'"),
        ({"units": 0}, "units of at least 1, got 0"),
        ({"rounds_at_once": 0}, "rounds_at_once of at least 1, got 0"),
        ({"compared": 3}, r"among the rounds with controls, \(1, 2\), got 3"),
        ({"rounds": 1}, "rounds of at least 2, got 1"),
        (
            {"data": "cifar10", "train_images": 49_950},
            "train_images and validation of 50,000 together, got 49950 and 100",
        ),
    ],
)
def test_configs_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)
