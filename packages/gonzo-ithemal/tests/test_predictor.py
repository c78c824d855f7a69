"""The predictor: what it promises about intervals, files, machines and bad input."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from gonzo.ithemal import measurement
from gonzo.ithemal.bag import LinearBag
from gonzo.ithemal.batch import encode
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.graph import GraphThroughput
from gonzo.ithemal.lstm import Ithemal
from gonzo.ithemal.model import ThroughputModel
from gonzo.ithemal.predictor import Predictor
from gonzo.ithemal.tokens import Vocabulary, tokenize

CODES = [f"48{op}{byte:02x}" for op in ("01", "29", "89", "0faf") for byte in range(0xC0, 0x100)]
BLOCKS = [BasicBlock.from_hex("".join(CODES[k : k + 1 + k % 5])) for k in range(200)]
VOCABULARY = Vocabulary.build((tokenize(block) for block in BLOCKS), min_count=1)
MACHINES = ("Here 1", "There 2")


def make(kind: str = "graph") -> Predictor:
    torch.manual_seed(0)
    n = len(VOCABULARY)
    model: ThroughputModel = {
        "graph": lambda: GraphThroughput(n, machines=MACHINES, d_model=16, rounds=1),
        "lstm": lambda: Ithemal(n, machines=MACHINES, d_token=8, d_instruction=8, d_model=8),
        "linear": lambda: Ithemal(
            n, machines=MACHINES, d_token=8, d_instruction=8, d_model=8, positive=False
        ),
        "bag": lambda: LinearBag(n, machines=MACHINES),
    }[kind]()
    return Predictor(model, VOCABULARY, card={"data": "made up"})


@pytest.mark.parametrize("kind", ["graph", "lstm", "linear", "bag"])
def test_a_prediction_lies_in_its_interval_whatever_the_model_says(kind: str) -> None:
    answer = make(kind).predict(BLOCKS, machine="There 2")
    for column in answer:
        assert column.shape == (200,)
        assert column.dtype == np.float64
        assert np.isfinite(column).all()
    assert (answer.low > 0).all()
    assert (answer.low <= answer.cycles).all()
    assert (answer.cycles <= answer.high).all()


@pytest.mark.parametrize("kind", ["graph", "lstm", "bag"])
def test_a_saved_predictor_predicts_the_same(kind: str, tmp_path: Path) -> None:
    predictor = make(kind)
    predictor.scales["There 2"] = 1.75
    predictor.save_pretrained(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
        "predictor.json",
    ]
    loaded = Predictor.from_pretrained(tmp_path / "model")
    assert loaded.card == {"data": "made up"}
    assert loaded.machines == MACHINES
    assert loaded.scales == {"Here 1": 1.0, "There 2": 1.75}
    for machine in MACHINES:
        for a, b in zip(
            predictor.predict(BLOCKS, machine=machine),
            loaded.predict(BLOCKS, machine=machine),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


def test_saving_again_replaces(tmp_path: Path) -> None:
    make("bag").save_pretrained(tmp_path)
    make("graph").save_pretrained(tmp_path)
    assert isinstance(Predictor.from_pretrained(tmp_path).model, GraphThroughput)


def test_order_and_company_of_blocks_do_not_matter() -> None:
    predictor = make()
    whole = predictor.predict(BLOCKS, machine="Here 1")
    some = predictor.predict([BLOCKS[7], BLOCKS[3]], machine="Here 1")
    for a, b in zip(whole, some, strict=True):
        np.testing.assert_allclose(a[[7, 3]], b, rtol=1e-5)


def test_no_blocks_give_no_predictions() -> None:
    assert make().predict([], machine="Here 1").cycles.shape == (0,)


def test_unseen_instructions_are_predicted() -> None:
    strange = BasicBlock.from_hex("62f1f548585001")  # vaddpd zmm2, zmm1, [rax + 64]
    assert np.isfinite(make().predict([strange], machine="Here 1").cycles).all()


def test_the_interval_is_stretched_on_both_sides() -> None:
    predictor = make()
    narrow = predictor.predict(BLOCKS, machine="Here 1")
    predictor.scales["Here 1"] = 2.0
    wide = predictor.predict(BLOCKS, machine="Here 1")
    np.testing.assert_array_equal(wide.cycles, narrow.cycles)
    for end in ("low", "high"):
        a, b = (np.log(getattr(x, end) / x.cycles) for x in (narrow, wide))
        np.testing.assert_allclose(b, 2 * a)


@pytest.mark.parametrize("spread", [0.05, 3.0])
def test_calibrated_intervals_hold_nine_of_ten(spread: float) -> None:
    predictor = make()
    noise = np.random.default_rng(0).lognormal(0, spread, 200)
    truth = predictor.predict(BLOCKS, machine="Here 1").cycles * noise
    scale = predictor.calibrate(encode(BLOCKS[:100], VOCABULARY), truth[:100], machine="Here 1")
    assert predictor.scales == {"Here 1": scale, "There 2": 1.0}

    def held(rows: slice) -> float:
        answer = predictor.predict(BLOCKS[rows], machine="Here 1")
        return np.mean((answer.low <= truth[rows]) & (truth[rows] <= answer.high))

    # The 91st of 100 scores is the factor, so that many are held; others, about as many.
    assert held(slice(0, 100)) in (0.90, 0.91)
    assert 0.8 <= held(slice(100, 200)) <= 0.98


def test_errors_are_measured_by_the_side_on_which_they_are() -> None:
    predictor = make()
    with torch.no_grad():  # the interval reaches ten times as far down as up, in log cycles
        for head in predictor.model.heads:
            head.mix[2].weight[1:] = 0
            head.mix[2].bias[1:] = torch.tensor([1.0, 0.1]).expm1().log()
    cycles, low, high = predictor.predict(BLOCKS, machine="Here 1")
    np.testing.assert_allclose(np.log(cycles / low), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.log(high / cycles), 0.1, rtol=1e-4)
    encoded = encode(BLOCKS, VOCABULARY)
    too_low = predictor.calibrate(encoded, cycles * np.exp(-0.5), machine="Here 1")
    assert too_low == pytest.approx(0.5, rel=1e-3)
    too_high = predictor.calibrate(encoded, cycles * np.exp(0.5), machine="Here 1")
    assert too_high == pytest.approx(5, rel=1e-3)


def test_calibration_needs_blocks_and_their_cycles() -> None:
    encoded = encode(BLOCKS[:10], VOCABULARY)
    with pytest.raises(ValueError, match="at least 20 blocks and their cycles, got 10 blocks"):
        make().calibrate(encoded, np.ones(10))


def test_this_processor_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = make()
    monkeypatch.setattr(measurement, "cpu_model", lambda: "There 2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = predictor.predict(BLOCKS[:3])
    np.testing.assert_array_equal(
        answer.cycles, predictor.predict(BLOCKS[:3], machine="There 2").cycles
    )


def test_another_processor_gets_a_plain_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = make()
    monkeypatch.setattr(measurement, "cpu_model", lambda: "Nowhere 3")
    with pytest.warns(
        UserWarning, match="processor is 'Nowhere 3'; the cycles are those of 'Here"
    ) as said:
        answer = predictor.predict(BLOCKS[:3])
    assert said[0].filename == __file__
    np.testing.assert_array_equal(
        answer.cycles, predictor.predict(BLOCKS[:3], machine="Here 1").cycles
    )


def test_an_unknown_machine_is_refused() -> None:
    for call in (
        lambda: make().predict(BLOCKS[:3], machine="Elsewhere"),
        lambda: make().calibrate(encode(BLOCKS, VOCABULARY), np.ones(200), machine="Elsewhere"),
    ):
        with pytest.raises(ValueError, match="knows 'Here 1', 'There 2' and not 'Elsewhere'"):
            call()


def test_a_vocabulary_must_fit_its_model() -> None:
    with pytest.raises(ValueError, match="a model of 3 tokens and a vocabulary of"):
        Predictor(LinearBag(3), VOCABULARY)


def test_a_folder_that_is_none_of_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no predictor\.json; expected a folder"):
        Predictor.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "predictor.json is damaged: Expecting property name"),
        ("[]", "is not of format 1"),
        ('{"format": 2}', "is not of format 1"),
        ('{"format": 1}', "predictor.json is damaged: it has no 'vocabulary'"),
        (
            '{"format": 1, "vocabulary": "[]", "scales": [], "card": {}}',
            "predictor.json is damaged: expected a vocabulary in a string, scales that are numbers",
        ),
        (
            '{"format": 1, "vocabulary": {}, "scales": {}, "card": {}}',
            "predictor.json is damaged: expected a vocabulary in a string",
        ),
    ],
)
def test_a_damaged_folder(content: str, message: str, tmp_path: Path) -> None:
    make("bag").save_pretrained(tmp_path)
    (tmp_path / "predictor.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        Predictor.from_pretrained(tmp_path)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    make("bag").save_pretrained(tmp_path)
    file = tmp_path / "predictor.json"
    content = json.loads(file.read_text())
    content["vocabulary"] = json.dumps(["unknown", "op:add.64"])
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="and a vocabulary of 2; they do not belong together"):
        Predictor.from_pretrained(tmp_path)


def test_an_interrupted_save_is_no_predictor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("bag").save_pretrained(tmp_path)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GraphThroughput, "save_pretrained", fail)
    with pytest.raises(KeyboardInterrupt):
        make("graph").save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no predictor\.json"):
        Predictor.from_pretrained(tmp_path)
