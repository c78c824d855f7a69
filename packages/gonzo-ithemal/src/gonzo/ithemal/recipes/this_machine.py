"""A throughput model of the processor that this runs on: measured, learnt and judged here.

Claim: a network that is trained on measured basic blocks predicts their throughput with much less
error than analytical models of the same processor.

Everything happens on this machine. Real blocks are timed (`gonzo.ithemal.measure`), a dependency
graph network learns most of them, and the rest are predicted. What stands beside it:

    llvm-mca            where one is installed, with the model of this processor
    instructions / 4    four instructions a cycle, whatever they are
    linear bag          a cost for each token, learnt on the same blocks

The test blocks are judged in three ways: all of them (`mape`); those whose tokens occur in no
training block in that order (`unseen`); and, with a network trained anew, the blocks of
applications that it was not trained on (`application`). A fourth set are blocks extracted from
programs that are installed here (`installed`). Errors count blocks whose passes agree: the three
fastest within 5 %.

The network is left in the run's directory, in `model/`: `gonzo-ithemal predict --model` takes it.

`noise` is the floor: the test blocks are measured a second time, after the training, and the first
measurement is judged as if it were a prediction of the second. `coverage` is the share of test
blocks within the interval that should hold 90 %.

What is reduced: the paper has 1.4 million blocks, measured on three Intel processors for days.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gonzo.ithemal import BasicBlock, GraphThroughput, LinearBag
from gonzo.ithemal.batch import EncodedBlocks, encode
from gonzo.ithemal.comparison import Comparison, compare
from gonzo.ithemal.learning import usual_length
from gonzo.ithemal.mca import find, llvm_mca, version
from gonzo.ithemal.measurement import cpu_model
from gonzo.ithemal.metrics import Errors, coverage, errors
from gonzo.ithemal.model import ThroughputModel
from gonzo.ithemal.predictor import Predictor
from gonzo.ithemal.seen import remember
from gonzo.ithemal.splits import split, unseen
from gonzo.ithemal.tokens import Vocabulary, tokenize
from gonzo.ithemal.training import TrainConfig, fit
from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require

from .measuring import Labelled, installed, labelled, measured, samples

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Size:
    """Sizes of the network."""

    d_model: int = 96
    rounds: int = 3


@dataclass(frozen=True)
class Config:
    """How many blocks, how they are measured, and what learns them."""

    blocks: int = 30_000
    installed: int = 3_000
    """Blocks of programs that are installed here."""
    passes: int = 5
    workers: int = 1
    """Measuring programs side by side."""
    held_out: tuple[str, ...] = ("sqlite", "redis-server", "openssl")
    """Applications that the second network is not trained on."""
    test: float = 0.09
    """Share of the blocks."""
    calibration: float = 0.035
    """Share of the blocks that sets the width of the intervals."""
    min_count: int = 5
    """Tokens that occur less often in the training blocks count as their class."""
    model: Size = Size()
    training: TrainConfig = TrainConfig()
    bag: TrainConfig = TrainConfig(steps=4000, lr=1e-2, weight_decay=0.0, token_dropout=0.0)
    """Of the linear bag."""

    def __post_init__(self) -> None:
        require(self.blocks >= 1000, f"blocks of at least 1000, got {self.blocks}")
        require(self.passes >= 3, f"passes of at least 3, got {self.passes}")
        require(self.workers >= 1, f"workers of at least 1, got {self.workers}")
        require(0 < self.test < 0.5, f"test above 0 and below 0.5, got {self.test}")
        require(
            0 < self.calibration < 0.5, f"calibration above 0 and below 0.5, got {self.calibration}"
        )


RECIPE = Recipe(
    claim="a network trained on measured blocks predicts throughput better than analytical models",
    paper=Paper(
        "Mendis, Renda, Amarasinghe and Carbin, Ithemal: Accurate, Portable and Fast Basic Block "
        "Throughput Estimation using Deep Neural Networks, ICML 2019",
        where="section 6, Haswell; other blocks and another processor",
        url="https://arxiv.org/abs/1808.07412",
    ),
    metrics={
        "mape": Metric("mean error", unit="%", paper=8.9, digits=1),
        "median": Metric("median error", unit="%", digits=1),
        "tau": Metric("Kendall's τ", digits=3),
        "unseen_mape": Metric("mean error, token sequences not trained on", unit="%", digits=1),
        "application_mape": Metric("mean error, applications not trained on", unit="%", digits=1),
        "installed_mape": Metric("mean error, programs installed here", unit="%", digits=1),
        "noise_mape": Metric("mean error of a second measurement", unit="%", digits=1),
        "coverage": Metric("test blocks within the 90 % interval", unit="%", digits=1),
        "rival_mape": Metric("mean error of the best of the others", unit="%", digits=1),
        "gain": Metric("that, over the network's", digits=2),
        "have_value": Metric("blocks that yield a value", unit="%", digits=1),
        "agreement": Metric("second measurements within 5 %", unit="%", digits=1),
        "training_cpu_minutes": Metric("CPU time of one training", unit="min", digits=1),
    },
    presets={
        "quick": Preset(
            Config(
                blocks=3_000,
                installed=300,
                test=0.15,
                calibration=0.1,
                min_count=2,
                model=Size(d_model=48, rounds=2),
                training=TrainConfig(steps=1000, batch=64, lr=5e-3, warmup=40),
                bag=TrainConfig(steps=500, lr=3e-2, weight_decay=0.0, token_dropout=0.0),
            ),
            time="45 s",
            targets=[Target("gain", ">", 1)],
            reduced=["3,000 blocks", "a small network, 1,000 steps"],
        ),
        "cpu": Preset(
            Config(),
            time="15 min on one core",
            targets=[
                Target("mape", "<=", 9.5),
                Target("median", "<=", 3),
                Target("tau", ">=", 0.87),
                Target("unseen_mape", "<=", 11.5),
                Target("have_value", ">=", 97),
                Target("agreement", ">=", 96),
                Target("training_cpu_minutes", "<=", 15),
            ],
            reduced=["30,000 blocks in place of 1.4 million"],
        ),
        "paper": Preset(
            Config(
                blocks=1_400_000,
                workers=8,
                model=Size(d_model=256, rounds=4),
                training=TrainConfig(steps=300_000, batch=256, weight_decay=0.01),
            ),
            time="days on 8 cores, guessed",
            targets=[Target("mape", "<=", 8.9)],
        ),
    },
    headline=True,
)


@dataclass(frozen=True)
class Parts:
    """Rows of the labelled blocks."""

    train: NDArray[np.int64]
    calibration: NDArray[np.int64]
    test: NDArray[np.int64]


def main(config: Config, run: Run) -> dict[str, float]:
    """Measure, train, predict and compare."""
    torch.set_num_threads(1)  # blocks are small: a second thread waits more than it works
    drawn = samples(config.blocks, run)
    blocks = [sample.block for sample in drawn]
    how = {"passes": config.passes, "workers": config.workers}
    data = labelled(measured("blocks", blocks, run, **how), blocks)
    others = installed(config.installed, blocks)
    own = labelled(measured("installed", others, run, **how), others)
    applications = [drawn[row].application for row in data.rows]

    parts = random_parts(len(data.blocks), config)
    with run.part("random"):
        predictor = trained(data, parts, config, run)
    with run.part("application"):
        stranger, strange = across_applications(data, applications, config, run)
    with run.part("bag"):
        bag = trained_bag(data, parts, config, run)

    test = [data.blocks[row] for row in parts.test]
    truth = data.cycles[parts.test]
    again = measured("again", test, run, **how)
    network = run.once("network", lambda: judged(predictor, data, parts))
    beyond = run.once("beyond", lambda: _prefixed(predictor, own, "installed"))
    floor = noise(truth, [one.cycles for one in again], [one.accepted for one in again])
    far = run.once("far", lambda: _prefixed(stranger, _some(data, strange), "application"))
    comparison = beside(test, truth, predictor, bag)
    rivals = {row.name: 100 * row.all.mape for row in comparison.rows[1:]}
    run.figure("errors", _figure(comparison))
    run.figure("predicted-against-measured", _scatter(comparison.rows[0].cycles, truth))
    keep(predictor, data, parts, network, run.directory / "model")
    best = min(rivals.values())
    return (
        network
        | far
        | beyond
        | floor
        | {f"mape_{_slug(name)}": value for name, value in rivals.items()}
        | {
            "rival_mape": best,
            "gain": best / network["mape"],
            "have_value": 100 * data.have_value,
            "accepted": 100 * data.accepted,
            "training_blocks": float(len(parts.train)),
        }
    )


def random_parts(count: int, config: Config) -> Parts:
    """Divide blocks at random."""
    shares = (1 - config.calibration - config.test, config.calibration, config.test)
    return Parts(*split(range(count), shares))


def trained(data: Labelled, parts: Parts, config: Config, run: Run) -> Predictor:
    """Train a network, and set the width of its intervals."""
    sizes = vars(config.model)
    return _predictor(data, parts, config, config.training, run, GraphThroughput, **sizes)


def trained_bag(data: Labelled, parts: Parts, config: Config, run: Run) -> Predictor:
    """Train the linear baseline."""
    return _predictor(data, parts, config, config.bag, run, LinearBag)


def _predictor(
    data: Labelled,
    parts: Parts,
    config: Config,
    training: TrainConfig,
    run: Run,
    kind: type[ThroughputModel],
    **sizes: int,
) -> Predictor:
    words = (tokenize(data.blocks[row]) for row in parts.train)
    vocabulary = Vocabulary.build(words, min_count=config.min_count)
    model = kind(len(vocabulary), machines=(cpu_model(),), **sizes)
    encoded = encode(data.blocks, vocabulary)
    began = time.process_time()
    fit(
        model,
        encoded,
        data.cycles,
        replace(training, batch=min(training.batch, len(parts.train))),
        rows=parts.train,
        loop=run.steps,
        log=run.log,
    )
    minutes = (time.process_time() - began) / 60
    cost = run.once("cost", lambda: minutes)
    predictor = Predictor(model, vocabulary, card={"training_cpu_minutes": cost})
    calibration = encode([data.blocks[row] for row in parts.calibration], vocabulary)
    predictor.calibrate(calibration, data.cycles[parts.calibration])
    return predictor


def keep(
    predictor: Predictor, data: Labelled, parts: Parts, found: Mapping[str, float], folder: Path
) -> None:
    """Save the predictor with its card, for `gonzo-ithemal predict --model`."""
    predictor.card = {
        "processor": cpu_model(),
        "measured": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "blocks": "of BHive's lists, as they come with gonzo-ithemal; random split",
        "training_blocks": len(parts.train),
        "held_out": dict(found),
        **usual_length([len(data.blocks[row]) for row in parts.train]),
        "limits": "unrolled blocks, data in the first-level cache, no x87, MMX, AMX or rep strings",
    }
    predictor.save_pretrained(folder)
    used = np.concatenate([parts.train, parts.calibration])
    remember(folder, [data.blocks[row] for row in used])


def across_applications(
    data: Labelled, applications: Sequence[str], config: Config, run: Run
) -> tuple[Predictor, NDArray[np.int64]]:
    """Train on some applications; return the predictor and the rows of the others."""
    away = np.array([name in config.held_out for name in applications])
    if not away.any() or away.all():
        raise ValueError(
            f"expected some of the blocks' applications in held_out, and not all: "
            f"{', '.join(sorted(set(applications)))}; got {', '.join(config.held_out)}"
        )
    here = np.flatnonzero(~away)
    train, calibration = split(range(len(here)), (1 - config.calibration, config.calibration))
    parts = Parts(here[train], here[calibration], np.flatnonzero(away))
    return trained(data, parts, config, run), parts.test


def judged(predictor: Predictor, data: Labelled, parts: Parts) -> dict[str, float]:
    """Errors on the test blocks: of all, and of those with unseen tokens."""
    encoded = encode(data.blocks, predictor.vocabulary)
    answer = predictor.predict([data.blocks[row] for row in parts.test])
    truth = data.cycles[parts.test]
    new = unseen(encoded, list(parts.train), list(parts.test))
    found = errors(answer.cycles, truth)
    strict = errors(answer.cycles[new], truth[new])
    return {
        "mape": 100 * found.mape,
        "median": 100 * found.median,
        "tau": found.tau,
        "within_10": 100 * found.within_10,
        "within_25": 100 * found.within_25,
        "unseen_share": 100 * float(new.mean()),
        "unseen_mape": 100 * strict.mape,
        "unseen_median": 100 * strict.median,
        "unseen_tau": strict.tau,
        "coverage": 100 * coverage(answer.low, answer.high, truth),
        "width": float(np.median(answer.high / answer.low)),
        "training_cpu_minutes": predictor.card["training_cpu_minutes"],
        "blocks_per_second": speed(predictor, encoded),
    }


def speed(predictor: Predictor, encoded: EncodedBlocks) -> float:
    """Blocks that are predicted in a second, tokenised before."""
    began = time.perf_counter()
    predictor.predict_encoded(encoded)
    return len(encoded) / (time.perf_counter() - began)


def noise(
    first: NDArray[np.float64], second: Sequence[float], steady: Sequence[bool]
) -> dict[str, float]:
    """Judge the first measurement as a prediction of the second, where that is accepted too."""
    rows = np.flatnonzero(steady)
    other = np.asarray(second)[rows]
    ratio = np.maximum(first[rows], other) / np.minimum(first[rows], other) - 1
    found = errors(first[rows], other)
    return {
        "noise_mape": 100 * found.mape,
        "noise_median": 100 * found.median,
        "noise_tau": found.tau,
        "agreement": 100 * float((ratio <= 0.05).mean()),
    }


def beside(
    test: Sequence[BasicBlock], truth: NDArray[np.float64], predictor: Predictor, bag: Predictor
) -> Comparison:
    """Compare with what else there is on this machine."""
    predictors = {
        "this network": lambda blocks: predictor.predict(blocks).cycles,
        "linear bag": lambda blocks: bag.predict(blocks).cycles,
        "instructions / 4": lambda blocks: np.array([len(block) / 4 for block in blocks]),
    }
    if _has_mca():
        predictors[f"llvm-mca {version().partition('.')[0]}"] = llvm_mca
    return compare(test, truth, predictors)


def _has_mca() -> bool:
    try:
        find()
    except (ValueError, OSError):
        return False
    return True


def _some(data: Labelled, rows: NDArray[np.int64]) -> Labelled:
    return data._replace(blocks=[data.blocks[row] for row in rows], cycles=data.cycles[rows])


def _prefixed(predictor: Predictor, data: Labelled, name: str) -> dict[str, float]:
    found: Errors = errors(predictor.predict(data.blocks).cycles, data.cycles)
    return {
        f"{name}_mape": 100 * found.mape,
        f"{name}_median": 100 * found.median,
        f"{name}_tau": found.tau,
        f"{name}_blocks": float(found.count),
    }


def _slug(name: str) -> str:
    return name.replace(" / ", "_over_").replace(" ", "_").replace("-", "_")


def _figure(comparison: Comparison) -> Figure:
    from matplotlib.figure import Figure

    kinds = list(comparison.classes)
    figure = Figure(figsize=(8, 3))
    axes = figure.subplots()
    width = 0.8 / len(comparison.rows)
    for i, row in enumerate(comparison.rows):
        heights = [100 * row.all.mape, *(100 * row.by_class[kind].mape for kind in kinds)]
        at = np.arange(len(heights)) + i * width
        axes.bar(at, np.clip(heights, 0, 100), width, label=row.name, color=f"C{i}")
    axes.set_xticks(np.arange(1 + len(kinds)) + 0.4 - width / 2, ["all", *kinds])
    axes.set_ylabel("mean error (%), cut at 100")
    axes.legend(fontsize="small")
    figure.tight_layout()
    return figure


def _scatter(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4))
    axes = figure.subplots()
    ends = (0.8 * truth.min(), 1.25 * truth.max())
    axes.plot(ends, ends, color="k", linewidth=1)
    axes.plot(truth, predicted, ".", color="C0", markersize=2, alpha=0.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("measured (cycles per repetition)")
    axes.set_ylabel("predicted")
    figure.tight_layout()
    return figure
