"""The recipes run at a tiny size, go on where they were, and judge what they say they judge."""

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.recipe


@pytest.fixture
def this_machine():
    """They import gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.ithemal.recipes import this_machine

    return this_machine


def steps(steps, **others):
    from gonzo.ithemal.config import TrainConfig

    return TrainConfig(steps=steps, batch=32, warmup=2, **others)


@pytest.mark.measures
def test_this_machine_measures_learns_and_goes_on(tmp_path, this_machine):
    from gonzo.ithemal import Predictor
    from gonzo.lab import Run

    config = this_machine.Config(
        blocks=1000,
        installed=30,
        passes=3,
        test=0.2,
        calibration=0.1,
        model=this_machine.Size(d_model=8, rounds=1),
        training=steps(30, lr=1e-2),
        bag=steps(30, lr=3e-2),
    )
    results = []
    for _ in range(2):  # the second time, passes are read and loops restored
        with Run(tmp_path / "run") as run:
            results.append(this_machine.main(config, run))
    assert results[0] == results[1]
    result = results[0]
    wanted = this_machine.RECIPE.metrics.keys()
    assert wanted <= result.keys()
    assert all(np.isfinite(result[name]) for name in wanted)
    assert result["have_value"] > 90
    assert result["mape"] < 100
    assert result["gain"] == result["rival_mape"] / result["mape"]
    predictor = Predictor.from_pretrained(tmp_path / "run" / "model")
    assert predictor.card["held_out"]["mape"] == result["mape"]
    for name in ("errors", "predicted-against-measured"):
        assert (tmp_path / "run" / "figures" / f"{name}.svg").exists()


def test_noise_is_the_first_measurement_judged_by_the_second(this_machine):
    first, second = np.array([1.0, 2.0, 4.0, 8.0]), [1.0, 2.0, 5.0, 80.0]
    found = this_machine.noise(first, second, [True, True, True, False])
    assert found["noise_mape"] == pytest.approx(100 * 0.2 / 3)
    assert found["agreement"] == pytest.approx(200 / 3)


def test_held_out_applications_are_those_of_the_blocks(this_machine, tmp_path):
    from gonzo.ithemal.recipes.measuring import Labelled
    from gonzo.ithemal.samples import sample_blocks
    from gonzo.lab import Run

    drawn = sample_blocks(20)
    blocks = [sample.block for sample in drawn]
    data = Labelled(blocks, np.ones(20), np.arange(20), 1.0, 1.0)
    config = this_machine.Config(held_out=("nothing",))
    with Run(tmp_path) as run, pytest.raises(ValueError, match=r"not all: .*; got nothing"):
        this_machine.across_applications(data, [s.application for s in drawn], config, run)


def test_more_blocks_than_there_are(tmp_path, monkeypatch):
    from gonzo.ithemal.recipes.measuring import samples
    from gonzo.lab import LabError, Run

    monkeypatch.delenv("GONZO_DATA_DIR", raising=False)
    with Run(tmp_path / "run", data_dir=tmp_path) as run:
        assert len(samples(1200, run)) == 1200
        with pytest.raises(LabError, match=r"2,000,000 blocks are wanted and .* Name fewer"):
            samples(2_000_000, run)


def test_blocks_of_a_list_follow_those_that_ship(tmp_path, monkeypatch):
    import lzma

    from gonzo.ithemal.recipes.measuring import samples
    from gonzo.ithemal.samples import COUNT
    from gonzo.lab import Run

    monkeypatch.delenv("GONZO_DATA_DIR", raising=False)
    (tmp_path / "bhive").mkdir()
    lines = "4801d84801d84801d8,mine\n0f05,refused\nzz,odd\n"
    (tmp_path / "bhive" / "blocks_by_app.csv.xz").write_bytes(lzma.compress(lines.encode()))
    with Run(tmp_path / "run", data_dir=tmp_path) as run:
        (*_, last) = samples(COUNT + 1, run)
    assert last.application == "mine"


def test_new_machine_tunes_a_model_and_goes_on(tmp_path):
    import torch

    from gonzo.ithemal import GraphThroughput, Predictor
    from gonzo.ithemal.recipes import new_machine
    from gonzo.ithemal.samples import sample_blocks
    from gonzo.ithemal.tokens import Vocabulary, tokenize
    from gonzo.lab import Run

    vocabulary = Vocabulary.build(tokenize(sample.block) for sample in sample_blocks(300))
    torch.manual_seed(0)
    source = GraphThroughput(len(vocabulary), machines=("first",), d_model=8, rounds=1)
    Predictor(source, vocabulary).save_pretrained(tmp_path / "source")
    config = new_machine.Config(
        source=str(tmp_path / "source"),
        sizes=(40, 80),
        draws=2,
        tuning=steps(5),
        scratch=steps(5),
        bag=steps(5),
    )
    results = []
    for directory in ("run", "run", "another"):
        with Run(tmp_path / directory) as run:
            results.append(new_machine.main(config, run))
    assert results[0] == results[1] == results[2]
    for arm in ("tuned", "scratch", "bag", "scaled"):
        assert results[0][f"{arm}_40"] > 0
        draws = [results[0][f"{arm}_80_draw{draw}"] for draw in range(2)]
        assert results[0][f"{arm}_80"] == pytest.approx(sum(draws) / 2)
    assert results[0]["ratio_40"] == results[0]["tuned_40"] / results[0]["scratch_40"]


def test_the_presets_are_of_the_shape_that_main_takes(this_machine):
    from gonzo.ithemal.recipes import new_machine

    for recipe in (this_machine, new_machine):
        for preset in recipe.RECIPE.presets.values():
            assert dataclasses.is_dataclass(preset.config)
            named = {target.metric for target in preset.targets}
            assert named <= recipe.RECIPE.metrics.keys()
