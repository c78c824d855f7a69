import numpy as np
import pytest

from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.learning import learn
from gonzo.ithemal.predictor import Predictor
from gonzo.ithemal.seen import remember, seen
from gonzo.ithemal.training import TrainConfig

PIECES = ["4801d8", "480fafd8", "488b07", "488907", "90", "f30f58c1", "4889d8", "ffc0"]
COSTS = np.array([1.0, 3.0, 0.5, 1.5, 0.25, 4.0, 0.3, 0.8])
CONFIG = TrainConfig(steps=150, batch=64, lr=0.1, warmup=10)


def made(count, seed=0):
    """Blocks whose cycles are the sum of their instructions', which a linear bag can learn."""
    generator = np.random.default_rng(seed)
    blocks, cycles = {}, []
    while len(blocks) < count:
        picked = generator.integers(len(PIECES), size=generator.integers(1, 9))
        block = BasicBlock.from_hex("".join(PIECES[k] for k in picked))
        if block not in blocks:
            blocks[block] = None
            cycles.append(COSTS[picked].sum())
    return list(blocks), np.array(cycles)


@pytest.fixture(scope="module")
def learnt():
    blocks, cycles = made(500)
    return blocks, cycles, learn(blocks, cycles, ["a"] * 500, model="LinearBag", config=CONFIG)


def test_it_learns(learnt):
    found = learnt[2]
    assert found.errors["a"].mape < 0.05
    fresh, truth = made(300, seed=1)
    answer = found.predictor.predict(fresh, machine="a")
    assert np.mean(np.abs(answer.cycles - truth) / truth) < 0.05
    assert np.mean((answer.low <= truth) & (truth <= answer.high)) > 0.75


def test_what_is_said_was_kept_from_training(learnt):
    blocks, _, found = learnt
    assert found.errors["a"].count == len(blocks) - len(found.used)
    assert len(found.used) == len(set(found.used.tolist())) == pytest.approx(425, abs=5)
    card = found.predictor.card
    assert card["training_blocks"]["a"] + 75 == pytest.approx(len(found.used), abs=5)
    assert card["held_out_errors"]["a"]["mape"] == found.errors["a"].mape
    assert card["held_out_errors"]["a"]["interval_coverage"] == found.coverage["a"]
    assert card["config"]["steps"] == 150


def test_the_same_call_gives_the_same_predictor(learnt):
    blocks, cycles, found = learnt
    again = learn(blocks, cycles, ["a"] * 500, model="LinearBag", config=CONFIG)
    for one, other in zip(
        found.predictor.predict(blocks, machine="a"),
        again.predictor.predict(blocks, machine="a"),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_two_machines_and_a_third(learnt):
    blocks, cycles = made(400)
    twice = [*blocks, *blocks]
    both = np.concatenate([cycles, 2 * cycles])
    names = ["a"] * 400 + ["b"] * 400
    found = learn(twice, both, names, model="LinearBag", config=CONFIG)
    assert found.predictor.machines == ("a", "b")
    a, b = (found.predictor.predict(blocks, machine=name).cycles for name in "ab")
    assert np.median(b / a) == pytest.approx(2, rel=0.1)
    # A block is on one side of the line for both machines.
    used = {twice[row] for row in found.used}
    kept = {twice[row] for row in range(800) if row not in set(found.used.tolist())}
    assert not used & kept
    third = learn(blocks, 3 * cycles, ["c"] * 400, config=CONFIG, start=found.predictor)
    assert third.predictor.machines == ("a", "b", "c")
    c = third.predictor.predict(blocks, machine="c").cycles
    assert np.median(c / cycles) == pytest.approx(3, rel=0.1)


def test_bad_input():
    blocks, cycles = made(250)
    with pytest.raises(ValueError, match="at least 200 measured blocks to learn, got 199"):
        learn(blocks[:199], cycles[:199], ["a"] * 199)
    with pytest.raises(ValueError, match="cycles and machines as blocks, 250, got 250 and 249"):
        learn(blocks, cycles, ["a"] * 249)
    with pytest.raises(ValueError, match="GraphThroughput, Ithemal, LinearBag, got 'Tree'"):
        learn(blocks, cycles, ["a"] * 250, model="Tree")


def test_a_model_has_seen_what_its_start_has_seen(tmp_path):
    blocks, _ = made(30)
    for name in ("start", "new"):
        (tmp_path / name).mkdir()
    remember(tmp_path / "start", blocks[:10])
    remember(tmp_path / "new", blocks[5:20], also=tmp_path / "start")
    assert seen(tmp_path / "new", blocks).tolist() == [True] * 20 + [False] * 10


def test_blocks_are_remembered(tmp_path, learnt):
    blocks = learnt[0]
    assert not seen(tmp_path, blocks).any()
    remember(tmp_path, blocks[:100])
    np.testing.assert_array_equal(seen(tmp_path, blocks), np.arange(500) < 100)
    (tmp_path / "trained-on.npy").write_bytes(b"\x93NUMPY damaged")
    with pytest.raises(ValueError, match=r"trained-on\.npy is damaged"):
        seen(tmp_path, blocks)


def test_a_saved_predictor_predicts_the_same(tmp_path, learnt):
    blocks, _, found = learnt
    found.predictor.save_pretrained(tmp_path)
    again = Predictor.from_pretrained(tmp_path)
    assert again.card == found.predictor.card
    for one, other in zip(
        found.predictor.predict(blocks, machine="a"),
        again.predict(blocks, machine="a"),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_blocks_that_the_start_has_seen_are_no_test():
    blocks, cycles = made(600)
    start = learn(blocks[:300], cycles[:300], ["here"] * 300, model="LinearBag", config=CONFIG)
    start = start.predictor
    seen_before = np.arange(len(blocks)) < 300
    learnt = learn(
        blocks,
        cycles,
        ["here"] * len(blocks),
        start=start,
        known=seen_before,
        config=TrainConfig(steps=1, batch=16),
    )
    kept = np.setdiff1d(np.arange(len(blocks)), learnt.used)
    assert len(kept)
    assert not seen_before[kept].any()
    assert seen_before[learnt.used].sum() == 300
    assert learnt.predictor.card["instructions_of_99_percent"] >= 1
    with pytest.raises(ValueError, match=r"trained on all but 100 of these .* at least 200 others"):
        learn(
            blocks,
            cycles,
            ["here"] * len(blocks),
            start=start,
            known=np.arange(len(blocks)) >= 100,
        )
