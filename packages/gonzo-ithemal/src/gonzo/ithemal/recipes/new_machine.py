"""A model of one processor, taught another one with few measurements.

Claim: what a network has learnt of one microarchitecture makes another one cheap: fine-tuned with
100 or 1,000 measured blocks, it beats a network trained on these alone.

The first processor is the one that the shipped model was trained on, or any other (`--source`). The
new one is Haswell: 2,900 blocks of Ithemal's own data, timed by its authors, come with the package
(`gonzo.ithemal.samples`; 1,932 of them do not say their machine, and Haswell fits them best; they
are taken for Haswell too). Blocks that the first processor's model was trained on are left out:
139 of them for the shipped one. Nothing is measured, so this runs on any computer.

For each number of blocks of the new processor three networks of one shape are judged on the same
1,000 blocks that none has seen, over several draws of the training blocks:

    fine-tuned      starts as the first processor's model, with a new head
    from scratch    the same, with random weights, and more steps
    as it is        the first processor's model with its predictions scaled by one number, which is
                    the median ratio on the same blocks

`linear bag` is the baseline of the other recipe, trained from scratch.

No setting was chosen on these blocks. What is reduced: the paper trains on many blocks of each
machine; this is its question of several machines, asked with few.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gonzo.ithemal import LinearBag, Predictor
from gonzo.ithemal.batch import EncodedBlocks, encode
from gonzo.ithemal.metrics import errors
from gonzo.ithemal.model import ThroughputModel
from gonzo.ithemal.predictor import SHIPPED
from gonzo.ithemal.samples import haswell_blocks
from gonzo.ithemal.seen import seen
from gonzo.ithemal.tokens import Vocabulary, tokenize
from gonzo.ithemal.training import TrainConfig, estimate, fit
from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEW = "Haswell"
_TEST = 1000


@dataclass(frozen=True)
class Config:
    """Numbers of blocks, and how each network is trained."""

    source: str = ""
    """Folder of the first processor's model; the shipped one by default."""
    sizes: tuple[int, ...] = (100, 300, 1000)
    """Numbers of blocks of the new processor."""
    draws: int = 3
    """Draws of the training blocks."""
    tuning: TrainConfig = TrainConfig(steps=400, batch=32, lr=5e-4, warmup=20)
    scratch: TrainConfig = TrainConfig(steps=1200, batch=32, lr=2e-3, warmup=50)
    bag: TrainConfig = TrainConfig(steps=1200, batch=32, lr=3e-2, weight_decay=0.0, warmup=20)

    def __post_init__(self) -> None:
        require(
            bool(self.sizes) and min(self.sizes) >= 32 and max(self.sizes) <= 1500,
            f"sizes between 32 and 1500, got {self.sizes}",
        )
        require(self.draws >= 1, f"draws of at least 1, got {self.draws}")


RECIPE = Recipe(
    claim="a model of one processor learns another from a few hundred measured blocks",
    paper=Paper(
        "Sýkora, Phothilimthana, Mendis and Yazdanbakhsh, GRANITE: A Graph Neural Network Model "
        "for Basic Block Throughput Estimation, IISWC 2022",
        where="its heads for several machines; numbers for few blocks are not given",
        url="https://arxiv.org/abs/2210.03894",
    ),
    metrics={
        "tuned_100": Metric("mean error with 100 blocks: fine-tuned", unit="%", digits=1),
        "scratch_100": Metric("from scratch", unit="%", digits=1),
        "tuned_1000": Metric("with 1,000 blocks: fine-tuned", unit="%", digits=1),
        "scratch_1000": Metric("from scratch", unit="%", digits=1),
        "scaled_100": Metric("the first processor's model, scaled, 100 blocks", unit="%", digits=1),
        "ratio_100": Metric("fine-tuned over from scratch, 100 blocks", digits=2),
        "ratio_1000": Metric("fine-tuned over from scratch, 1,000 blocks", digits=2),
    },
    presets={
        "quick": Preset(
            Config(
                sizes=(100, 1000),
                draws=1,
                tuning=TrainConfig(steps=150, batch=32, lr=5e-4, warmup=20),
                scratch=TrainConfig(steps=300, batch=32, lr=2e-3, warmup=30),
                bag=TrainConfig(steps=300, batch=32, lr=3e-2, weight_decay=0.0, warmup=20),
            ),
            time="15 s",
            targets=[Target("ratio_100", "<", 1), Target("ratio_1000", "<", 1)],
            reduced=["one draw of the training blocks", "few steps"],
        ),
        "cpu": Preset(
            Config(),
            time="3 min on one core",
            targets=[Target("ratio_100", "<", 0.8), Target("ratio_1000", "<", 1)],
            reduced=["2,900 blocks of the new processor"],
        ),
    },
)


@dataclass(frozen=True)
class Data:
    """The new processor's blocks."""

    encoded: EncodedBlocks
    cycles: NDArray[np.float64]
    pool: NDArray[np.int64]
    """Rows to train on."""
    test: NDArray[np.int64]


def main(config: Config, run: Run) -> dict[str, float]:
    """Fine-tune and train with each number of blocks."""
    folder = Path(config.source) if config.source else SHIPPED
    source = Predictor.from_pretrained(folder)
    blocks = haswell_blocks()
    known = seen(folder, [one.block for one in blocks])
    blocks = [one for one, old in zip(blocks, known, strict=True) if not old]
    order = np.random.default_rng(0).permutation(len(blocks))
    cycles = np.array([one.cycles for one in blocks])
    code = [one.block for one in blocks]
    known = Data(encode(code, source.vocabulary), cycles, order[_TEST:], order[:_TEST])
    results: dict[str, list[float]] = {}
    for draw in range(config.draws):
        chosen = np.random.default_rng(draw).permutation(known.pool)
        for size in config.sizes:
            rows = chosen[:size]
            vocabulary = Vocabulary.build(tokenize(code[row]) for row in rows)
            own = replace(known, encoded=encode(code, vocabulary))
            for arm in ("tuned", "scratch", "bag"):
                with run.part(f"{arm}-{size}-draw{draw}"):
                    model, data, training = _arm(arm, source, len(vocabulary), known, own, config)
                    fit(
                        model,
                        data.encoded,
                        data.cycles,
                        replace(training, batch=min(training.batch, size)),
                        rows=rows,
                        machines=[NEW] * len(cycles),
                        loop=run.steps,
                        log=run.log,
                    )
                    error = run.once("mape", lambda: mape(model, data))
                results.setdefault(f"{arm}_{size}", []).append(error)
            results.setdefault(f"scaled_{size}", []).append(scaled(source.model, known, rows))
    means = {name: float(np.mean(values)) for name, values in results.items()}
    run.figure("errors", _figure(means, config.sizes))
    return (
        means
        | {
            f"{name}_draw{draw}": value
            for name, values in results.items()
            for draw, value in enumerate(values)
        }
        | {
            f"ratio_{size}": means[f"tuned_{size}"] / means[f"scratch_{size}"]
            for size in config.sizes
        }
    )


def _arm(
    arm: str, source: Predictor, n_token: int, known: Data, own: Data, config: Config
) -> tuple[ThroughputModel, Data, TrainConfig]:
    if arm == "tuned":
        return source.model.with_machine(NEW), known, config.tuning
    if arm == "bag":
        return LinearBag(n_token, machines=(NEW,)), own, config.bag
    sizes = {**source.model.arguments(), "n_token": n_token, "machines": (NEW,)}
    return type(source.model)(**sizes), own, config.scratch


def mape(model: ThroughputModel, data: Data) -> float:
    """Mean error on the test blocks, in per cent."""
    predicted = estimate(model, data.encoded, rows=data.test, machine=NEW).cycles
    return 100 * errors(predicted.double().numpy(), data.cycles[data.test]).mape


def scaled(model: ThroughputModel, data: Data, rows: NDArray[np.int64]) -> float:
    """Mean error of the first processor's predictions times one number, in per cent."""
    factor = np.median(data.cycles[rows] / _cycles(model, data.encoded, rows))
    predicted = factor * _cycles(model, data.encoded, data.test)
    return 100 * errors(predicted, data.cycles[data.test]).mape


def _cycles(
    model: ThroughputModel, encoded: EncodedBlocks, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    return estimate(model, encoded, rows=rows).cycles.double().numpy()


def _figure(means: dict[str, float], sizes: tuple[int, ...]) -> Figure:
    from matplotlib.figure import Figure

    labels = {
        "tuned": "fine-tuned",
        "scratch": "from scratch",
        "bag": "linear bag",
        "scaled": "the first processor's, scaled",
    }
    figure = Figure(figsize=(5, 3))
    axes = figure.subplots()
    for arm, label in labels.items():
        axes.plot(sizes, [means[f"{arm}_{size}"] for size in sizes], "o-", label=label)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("measured blocks of the new processor")
    axes.set_ylabel("mean error (%)")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    figure.tight_layout()
    return figure
