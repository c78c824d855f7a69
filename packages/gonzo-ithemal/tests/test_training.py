"""Training: it learns, it repeats, it can be resumed at any step; and splits keep their promise."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gonzo.ithemal.bag import LinearBag
from gonzo.ithemal.batch import EncodedBlocks, encode
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.graph import GraphThroughput
from gonzo.ithemal.losses import interval_loss, prediction_loss
from gonzo.ithemal.lstm import Ithemal
from gonzo.ithemal.model import Estimate, ThroughputModel
from gonzo.ithemal.splits import split, unseen
from gonzo.ithemal.tokens import Vocabulary, tokenize
from gonzo.ithemal.training import TrainConfig, estimate, fit

# Instructions and what they cost a made-up processor: four instructions a cycle, and chains.
ADDS = ("4801d8", "4801d9", "4801da")  # add rax | rcx | rdx, rbx
MULTIPLIES = ("480fafc3", "480fafcb", "480fafd3")  # imul of the same


def made_up(n: int, seed: int = 0) -> tuple[list[BasicBlock], np.ndarray]:
    """Random blocks and the cycles that their longest chain or their number costs."""
    draw = random.Random(seed)
    blocks: dict[str, float] = {}
    while len(blocks) < n:
        chain = [0.0, 0.0, 0.0]
        code = ""
        length = draw.randint(1, 8)
        for _ in range(length):
            register, slow = draw.randrange(3), draw.random() < 0.3
            code += (MULTIPLIES if slow else ADDS)[register]
            chain[register] += 3 if slow else 1
        blocks[code] = max(*chain, length / 4)
    return [BasicBlock.from_hex(code) for code in blocks], np.array(list(blocks.values()))


BLOCKS, CYCLES = made_up(600)
VOCABULARY = Vocabulary.build((tokenize(block) for block in BLOCKS), min_count=1)
ENCODED = encode(BLOCKS, VOCABULARY)


def small(kind: str, machines: tuple[str, ...] = ("here",)) -> ThroughputModel:
    torch.manual_seed(0)
    n = len(VOCABULARY)
    if kind == "graph":
        return GraphThroughput(n, machines=machines, d_model=32, rounds=1, sums=4, chains=4)
    if kind == "lstm":
        return Ithemal(n, machines=machines, d_token=32, d_instruction=32, d_model=32)
    return LinearBag(n, machines=machines)


def error(model: ThroughputModel, rows: np.ndarray, machine: str | None = None) -> float:
    cycles = estimate(model, ENCODED, rows=rows, machine=machine).cycles.numpy()
    return float((np.abs(cycles - CYCLES[rows]) / CYCLES[rows]).mean())


# --- it learns


def test_the_graph_learns_chains_that_it_was_not_shown() -> None:
    train, test = split(range(600), (0.8, 0.2))
    model = small("graph")
    before = error(model, test)
    fit(model, ENCODED, CYCLES, TrainConfig(steps=150, batch=64, warmup=10, lr=5e-3), rows=train)
    assert before > 0.2
    assert error(model, test) < 0.05


def test_the_lstm_learns() -> None:
    train, test = split(range(600), (0.8, 0.2))
    model = small("lstm")
    fit(model, ENCODED, CYCLES, TrainConfig(steps=250, batch=64, warmup=10, lr=5e-3), rows=train)
    best = min((np.abs(c - CYCLES) / CYCLES).mean() for c in np.linspace(0.3, 8, 100))
    assert error(model, test) < 0.7 * best  # that of one number for every block


def test_a_sum_is_learnt_by_the_bag() -> None:
    weights = np.linspace(0.01, 0.2, len(VOCABULARY))
    cycles = np.array(
        [
            sum(weights[VOCABULARY.encode(word)] for words in tokenize(block) for word in words)
            for block in BLOCKS
        ]
    )
    model = small("bag")
    fit(model, ENCODED, cycles, TrainConfig(steps=400, batch=64, lr=5e-2))
    got = estimate(model, ENCODED).cycles.numpy()
    assert (np.abs(got - cycles) / cycles).mean() < 0.03


def test_the_papers_settings_learn() -> None:
    model = Ithemal(len(VOCABULARY), d_token=16, d_instruction=16, d_model=16, positive=False)
    config = TrainConfig.paper(600, epochs=2)
    assert (config.steps, config.batch, config.loss, config.optimizer) == (300, 4, "paper", "sgd")
    assert (config.lr, config.clip, config.schedule) == (0.1, 2.0, "epoch")
    errors: list[float] = []
    fit(model, ENCODED, CYCLES, config, log=lambda step, **n: errors.append(float(n["error"])))
    assert np.mean(errors[-50:]) < 0.8 * np.mean(errors[:20])


def test_intervals_hold_about_nine_of_ten() -> None:
    noise = np.random.default_rng(0).lognormal(0, 0.2, len(BLOCKS))
    model = small("bag")
    config = TrainConfig(steps=600, batch=128, lr=5e-2, interval=1.0)
    costs = estimate(model, ENCODED).cycles.numpy()  # what the bag can say without an error
    fit(model, ENCODED, costs * noise, config)
    out = estimate(model, ENCODED)
    held = (out.low.numpy() <= costs * noise) & (costs * noise <= out.high.numpy())
    assert 0.85 < held.mean() < 0.95


# --- losses, by hand


def test_losses_are_those_of_their_formulas() -> None:
    cycles, y = torch.tensor([1.0, 4.0]), torch.tensor([2.0, 2.0])
    assert prediction_loss(cycles, y, "relative").item() == pytest.approx((0.5 + 1) / 2)
    assert prediction_loss(cycles, y, "log").item() == pytest.approx(np.log(2))
    paper = 1 / 2.001 + 2 / 2.001
    assert prediction_loss(cycles, y, "paper").item() == pytest.approx(paper)


def test_the_interval_loss_is_least_at_the_quantiles_and_leaves_the_prediction_alone() -> None:
    y = torch.tensor(np.random.default_rng(1).lognormal(0, 0.5, 4001))

    def loss(low: float, high: float) -> float:
        cycles = torch.ones(4001, dtype=torch.float64)
        return interval_loss(Estimate(cycles, cycles * low, cycles * high), y).item()

    low, high = (float(y.quantile(q)) for q in (0.05, 0.95))
    best = loss(low, high)
    for a, b in ((low * 1.1, high), (low / 1.1, high), (low, high * 1.1), (low, high / 1.1)):
        assert loss(a, b) > best
    raw = torch.zeros(4001, 3, dtype=torch.float64, requires_grad=True)
    out = ThroughputModel.estimate(torch.cat([raw[:, :1].exp(), raw[:, 1:]], 1))
    (gradient,) = torch.autograd.grad(interval_loss(out, y), raw)
    assert gradient[:, 0].abs().max() < 1e-12
    assert gradient[:, 1:].any(0).all()


# --- it repeats


class Cut(Exception):  # noqa: N818  it is no error
    """The loop ends here."""


def test_a_loop_that_is_cut_goes_on_to_the_same_numbers() -> None:
    config = TrainConfig(steps=20, batch=32, warmup=5, token_dropout=0.1)

    def run(*cuts: int) -> tuple[dict[str, torch.Tensor], list[tuple[int, float]]]:
        saved: dict[str, Any] = {}
        losses: list[tuple[int, float]] = []
        for stop in (*cuts, None):
            torch.manual_seed(len(losses))  # which must not matter
            model = small("graph")

            def loop(total: int, /, *, until: int | None = stop, **stateful: Any) -> Iterator[int]:
                for name, value in saved.get("state", {}).items():
                    stateful[name].load_state_dict(value)
                for step in range(saved.get("step", 0), total):
                    yield step
                    if step + 1 == until:
                        saved["step"] = step + 1
                        saved["state"] = {
                            name: copy.deepcopy(value.state_dict())
                            for name, value in stateful.items()
                        }
                        raise Cut

            try:
                fit(
                    model,
                    ENCODED,
                    CYCLES,
                    config,
                    loop=loop,
                    log=lambda step, **n: losses.append((step, float(n["loss"]))),
                )
            except Cut:
                continue
        return model.state_dict(), losses

    state, losses = run()
    assert [step for step, _ in losses] == list(range(20))
    other, resumed = run(7, 13)
    assert resumed == losses
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_seeds_change_the_order_and_nothing_else_does() -> None:
    losses: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        model = small("bag")
        config = TrainConfig(steps=5, batch=16, seed=seed)
        fit(
            model,
            ENCODED,
            CYCLES,
            config,
            log=lambda step, name=name, **n: losses[name].append(float(n["loss"])),
        )
        torch.rand(3)
    assert losses["a"] == losses["b"] != losses["c"]


def test_an_epoch_shows_every_block_once_and_each_in_another_order() -> None:
    shown: list[tuple[int, ...]] = []
    real = EncodedBlocks.batch

    class Watched(EncodedBlocks):
        def batch(self, rows: Any) -> Any:
            shown.append(tuple(map(int, rows)))
            return real(self, rows)

    encoded = Watched(**vars(ENCODED))
    rows = np.arange(0, 600, 2)
    fit(small("bag"), encoded, CYCLES, TrainConfig(steps=40, batch=15), rows=rows)
    epochs = [[frozenset(batch) for batch in shown[first : first + 20]] for first in (0, 20)]
    for epoch in epochs:
        assert frozenset().union(*epoch) == frozenset(rows.tolist())
        assert sum(map(len, epoch)) == 300
    in_order = [frozenset(rows[k : k + 15].tolist()) for k in range(0, 300, 15)]
    assert not {*epochs[0]} & {*epochs[1]}
    assert not {*epochs[0]} & {*in_order}
    # Of like length: within a batch lengths vary less than among all.
    spread = np.mean([np.std(ENCODED.lengths[list(batch)]) for batch in shown])
    assert spread < 0.5 * np.std(ENCODED.lengths[rows])
    # Batches of short blocks do not all come first.
    means = [np.mean(ENCODED.lengths[list(batch)]) for batch in shown[:20]]
    assert means != sorted(means)


def test_the_rate_rises_and_falls() -> None:
    rates: list[float] = []

    def loop(total: int, /, **stateful: Any) -> Iterator[int]:
        for step in range(total):
            yield step
            rates.append(stateful["schedule"].get_last_lr()[0])

    fit(small("bag"), ENCODED, CYCLES, TrainConfig(steps=40, warmup=9, lr=1.0), loop=loop)
    assert np.argmax(rates) == 8
    assert rates[8] == 1.0
    assert rates[0] == pytest.approx(0.2)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    rates.clear()
    config = TrainConfig(steps=8, batch=300, warmup=0, lr=1.0, schedule="epoch")
    fit(small("bag"), ENCODED, CYCLES, config, loop=loop)
    assert rates == pytest.approx([1, *(1.2**-k for k in (1, 1, 2, 2, 3, 3, 4))])


# --- machines


def test_measurements_of_two_machines_train_two_heads() -> None:
    model = small("graph", ("fast", "slow"))
    machines = ["fast" if row % 2 else "slow" for row in range(600)]
    cycles = np.where(np.arange(600) % 2, CYCLES, 3 * CYCLES)
    config = TrainConfig(steps=120, batch=64, warmup=10, lr=5e-3)
    fit(model, ENCODED, cycles, config, machines=machines)
    slow, fast = (estimate(model, ENCODED, machine=name).cycles for name in ("slow", "fast"))
    assert float((slow / fast).median()) == pytest.approx(3, rel=0.1)


def test_one_machine_trains_its_own_head_alone() -> None:
    model = small("bag", ("one", "two"))
    before = copy.deepcopy(model.heads[0].state_dict())
    fit(model, ENCODED, CYCLES, TrainConfig(steps=3, weight_decay=0.0), machines=["two"] * 600)
    assert all(
        torch.equal(before[name], value) for name, value in model.heads[0].state_dict().items()
    )


def test_estimates_come_in_the_order_of_the_rows() -> None:
    model = small("graph")
    rows = [5, 3, 599, 3]
    out = estimate(model, ENCODED, rows=rows, nodes=3)
    whole = estimate(model, ENCODED)
    for a, b in zip(out, whole, strict=True):
        torch.testing.assert_close(a, b[rows])
    assert len(estimate(model, ENCODED, rows=[]).cycles) == 0


# --- what is refused


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("steps", -1, "at least 0"),
        ("batch", 0, "at least 1"),
        ("loss", "l2", "relative, log or paper"),
        ("optimizer", "lion", "adamw or sgd"),
        ("lr", 0.0, "above 0"),
        ("schedule", "linear", "cosine or epoch"),
        ("token_dropout", 1.0, "at least 0 and below 1"),
        ("clip", 0.0, "above 0"),
    ],
)
def test_a_config_says_what_it_expects(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"expected {field} {expected}, got {value!r}"):
        TrainConfig(**{field: value})


def test_cycles_must_be_positive_where_they_are_used() -> None:
    cycles = CYCLES.copy()
    cycles[[7, 9]] = 0, np.nan
    with pytest.raises(ValueError, match=r"cycles above 0; row 7 has 0\.0, and so on for 2 rows"):
        fit(small("bag"), ENCODED, cycles, TrainConfig(steps=1))
    rows = np.setdiff1d(np.arange(600), [7, 9])
    fit(small("bag"), ENCODED, cycles, TrainConfig(steps=1), rows=rows)


def test_columns_must_be_as_long_as_the_blocks() -> None:
    with pytest.raises(ValueError, match="one value in cycles for each of 600 blocks, got 599"):
        fit(small("bag"), ENCODED, CYCLES[1:], TrainConfig(steps=1))
    with pytest.raises(ValueError, match="one value in machines for each of 600 blocks, got 1"):
        fit(small("bag"), ENCODED, CYCLES, TrainConfig(steps=1), machines=["here"])


def test_a_batch_must_not_be_larger_than_the_data() -> None:
    with pytest.raises(ValueError, match="50 training blocks are less than a batch of 128"):
        fit(small("bag"), ENCODED, CYCLES, TrainConfig(steps=1), rows=range(50))


def test_a_machine_must_be_known() -> None:
    with pytest.raises(ValueError, match="the model knows 'here' and not 'there'"):
        fit(small("bag"), ENCODED, CYCLES, TrainConfig(steps=1), machines=["there"] * 600)
    with pytest.raises(ValueError, match="the model knows 'here' and not 'there'"):
        estimate(small("bag"), ENCODED, machine="there")


# --- splits


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 5))
def test_a_split_is_a_partition_that_keeps_keys_together(keys: list[int], seed: int) -> None:
    parts = split(keys, (0.6, 0.3, 0.1), seed=seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(keys)))
    owners = [{keys[row] for row in part} for part in parts]
    assert sum(map(len, owners)) == len(set(keys))


def test_single_rows_get_exact_shares_and_seeds_differ() -> None:
    parts = split(range(1000), (0.8, 0.1, 0.1))
    assert [len(part) for part in parts] == [800, 100, 100]
    again, other = split(range(1000), (0.8, 0.1, 0.1)), split(range(1000), seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert not np.array_equal(parts[2], other[2])


@pytest.mark.parametrize("shares", [(), (0.5, 0.4), (1.5, -0.5)])
def test_shares_must_be_a_whole(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="positive shares with the sum 1, got"):
        split(range(9), shares)


def test_token_sequences_of_a_grouped_split_are_unseen() -> None:
    twice = encode([*BLOCKS[:100], *BLOCKS[50:150]], VOCABULARY)
    train, test = split(range(200), (0.5, 0.5))
    mask = unseen(twice, train, test)
    known = {BLOCKS[row if row < 100 else row - 50].code for row in train}
    assert mask.tolist() == [
        BLOCKS[row if row < 100 else row - 50].code not in known for row in test
    ]
    assert 0 < mask.sum() < len(test)
    train, test = split([twice.signature(row) for row in range(200)], (0.5, 0.5))
    assert unseen(twice, train, test).all()
