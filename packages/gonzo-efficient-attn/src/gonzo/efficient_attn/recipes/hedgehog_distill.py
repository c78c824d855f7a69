"""A trained softmax model made linear: Hedgehog's distillation and its worth, with controls.

Claim: a softmax model whose attention is exchanged for linear attention with Hedgehog's map keeps
nearly all of its quality, if the maps are first fitted to its attention weights and the model then
trained a little further.

A small Transformer learns Tiny Shakespeare by characters. Then its attention is exchanged, in
copies, and every copy is trained further with the same stretches of text, number of steps and
learning rate:

    softmax     nothing is exchanged: the ceiling
    none        the attention layers add nothing: the floor
    elu         elu + 1, which has nothing to distil
    t2r         a learned projection and a ReLU, not distilled, as in T2R
    untaught    Hedgehog's map, not distilled
    hedgehog    Hedgehog's map, distilled
    hybrid      softmax over the last `window` steps and Hedgehog's map for the rest, distilled

All are judged in bits per character on the last 5 % of the text. What is recovered is the share of
the gap between floor and ceiling, both trained further like the student:
(none - student) / (none - softmax). Distillation costs `hedgehog` and `hybrid` steps that the
others do not get; only the maps (and the hybrid's balances) change in them.

The hybrid is then judged with its linear side alone, its window alone, and no attention, as it is:
whether its linear side does anything cannot be seen from the whole. The linear side alone sees
nothing of the last `window` steps, and it was trained beside the window, so that its number says
what it learned to do there and not how good a linear model could be.

What was tried, on the part of the text between the two (`--judge valid`, 16,384 characters), one
seed, with two layers as in `quick`, 500 steps, 150 of distillation and 100 after it. With 4 heads
of 16 numbers, bits per character after all of it at learning rates of 2e-3 and 5e-3:

    softmax 2.994, 2.974; t2r 3.679, 3.603; none 3.679 (5e-3)
    hedgehog, `softmax` features, distilled at 1e-2: 3.325, 3.250; at 3e-2: 3.299, 3.238
    hedgehog, `exp` features, distilled at 1e-2: 3.230, 3.168

With 2 heads of 32, at 5e-3 and 1e-2:

    softmax 3.141, 3.158; t2r 3.619, 3.589; none 3.677 (5e-3)
    hedgehog, `softmax` features, distilled at 3e-2: 3.284, 3.312
    hedgehog, `exp` features, distilled at 1e-2: 3.249, 3.244; at 3e-2: 3.246, 3.260
    hybrid, window of 4, distilled at 3e-2, 5e-3 after it: `softmax` features 3.162, `exp` 3.793

So heads of 32 numbers are taken, and `exp`, the paper's equation, where Hedgehog's map is alone.
Beside a window `exp` fails, since a far weight can be thousands of times the largest near one. The
rates of `cpu` and `paper` were not tried.

What is reduced: the paper converts BERT, GPT-2 (125 million parameters, WikiText-103) and Llama-2;
here a model of 0.1 million learns a short text by characters, 64 or 128 at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gonzo.core.nn import LanguageModel
from gonzo.efficient_attn import EluPlusOne, HedgehogMap, language_model
from gonzo.efficient_attn.controls import attention_branches, control_report
from gonzo.efficient_attn.feature_maps import FeatureMap
from gonzo.efficient_attn.hedgehog import Activation
from gonzo.efficient_attn.linearize import linearize
from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.characters import Text, bits_per_character, learn, load
from gonzo.lab.training import Training, require

from .distilling import distil
from .t2r import T2RMap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arm = Literal["softmax", "none", "elu", "t2r", "untaught", "hedgehog", "hybrid"]

ARMS: dict[Arm, str] = {
    "softmax": "softmax",
    "none": "no attention",
    "elu": "elu + 1",
    "t2r": "T2R",
    "untaught": "Hedgehog, not distilled",
    "hedgehog": "Hedgehog",
    "hybrid": "Hedgehog and window",
}
"""In words, and in the order in which they are trained."""

_NEEDED: tuple[Arm, ...] = ("softmax", "none", "hedgehog", "hybrid")
_DISTILLED: tuple[Arm, ...] = ("hedgehog", "hybrid")


@dataclass(frozen=True)
class Model:
    """The softmax model's sizes; its feed-forward networks are 4 · d_model wide."""

    d_model: int = 64
    n_layer: int = 3
    n_head: int = 2

    def __post_init__(self) -> None:
        require(
            self.n_head >= 1 and self.d_model >= 2 and self.d_model % (2 * self.n_head) == 0,
            f"d_model to be a multiple of 2 · n_head, got {self.d_model} and {self.n_head}",
        )
        require(self.n_layer >= 1, f"n_layer of at least 1, got {self.n_layer}")


@dataclass(frozen=True)
class Config:
    """The model, its three trainings, and what becomes of it."""

    model: Model = Model()
    training: Training = Training(steps=2000, batch=16, lr=5e-3, warmup=100)
    """Of the softmax model."""
    distillation: Training = Training(steps=600, batch=16, lr=3e-2, weight_decay=0, warmup=10)
    """Of the maps."""
    tuning: Training = Training(steps=800, batch=16, lr=3e-3, warmup=40)
    """Of every arm, after the exchange."""
    activation: Activation = "exp"
    """Of Hedgehog's map, where it is alone."""
    hybrid_activation: Activation = "softmax"
    """Of Hedgehog's map beside a window."""
    window: int = 8
    """Steps that the hybrid keeps softmax for."""
    context: int = 128
    """Characters that a prediction may look back on, in training and when judged."""
    arms: tuple[Arm, ...] = tuple(ARMS)
    judge: Literal["valid", "test"] = "test"
    """What the models are judged on. Choose settings on `valid`, which no result comes from."""
    judged: int = 55_770
    """Characters of it, from its beginning."""

    def __post_init__(self) -> None:
        missing = set(_NEEDED) - set(self.arms)
        require(not missing, f"arms with {', '.join(_NEEDED)}, got {', '.join(self.arms)}")
        require(self.window >= 1, f"window of at least 1, got {self.window}")
        require(self.context >= 2, f"context of at least 2, got {self.context}")
        require(self.judged >= 2, f"judged of at least 2, got {self.judged}")


RECIPE = Recipe(
    claim="A softmax model converted with Hedgehog's distilled maps keeps nearly all its quality",
    paper=Paper(
        "Zhang, Bhatia, Kumbong and Ré, The Hedgehog & the Porcupine: Expressive Linear Attentions "
        "with Softmax Mimicry, ICLR 2024",
        where="abstract: over 99 % of softmax's quality recovered, a share of the score and not of "
        "a gap; GPT-2 on WikiText-103: perplexity 16.7 against 15.8 of softmax trained further and "
        "19.4 of T2R. As commonly cited, not checked against the paper's tables",
        url="https://arxiv.org/abs/2402.04347",
    ),
    metrics={
        "recovered": Metric(
            "of the gap between no attention and softmax, Hedgehog recovers", unit="%", digits=1
        ),
        "recovered_t2r": Metric("T2R", unit="%", digits=1),
        "recovered_untaught": Metric("Hedgehog without distillation", unit="%", digits=1),
        "recovered_hybrid": Metric("Hedgehog with a window", unit="%", digits=1),
        "softmax": Metric("softmax's bits per character, trained further", digits=3),
        "gap": Metric("Hedgehog's above it", digits=3),
        "hybrid_linear_loss": Metric("what the hybrid loses with its linear side only", digits=3),
        "hybrid_window_loss": Metric("with its window only", digits=3),
        "hybrid_none_loss": Metric("with neither", digits=3),
    },
    presets={
        "quick": Preset(
            Config(
                Model(n_layer=2),
                Training(steps=400, batch=16, lr=1e-2, warmup=50),
                Training(steps=150, batch=16, lr=3e-2, weight_decay=0, warmup=10),
                Training(steps=100, batch=16, lr=5e-3, warmup=10),
                window=4,
                context=64,
                arms=("softmax", "none", "t2r", "untaught", "hedgehog", "hybrid"),
                judged=8192,
            ),
            time="35 s",
            targets=[
                Target("recovered", ">=", 60),
                Target("recovered_t2r", "<=", 40),
                Target("recovered_untaught", "<=", 50),
                Target("recovered_hybrid", ">=", 80),
            ],
            reduced=[
                "Tiny Shakespeare by characters for WikiText-103 by words",
                "2 layers of 64 features, 0.1 million parameters, for 125 million",
                "400 steps, then 100 after the exchange",
                "64 characters at a time, judged on 8,192",
            ],
        ),
        "cpu": Preset(
            Config(),
            time="13 min on one core",
            targets=[
                Target("recovered", ">=", 85),
                Target("recovered_t2r", "<=", 70),
                Target("recovered_untaught", "<=", 80),
                Target("recovered_hybrid", ">=", 90),
            ],
            reduced=[
                "Tiny Shakespeare by characters for WikiText-103 by words",
                "3 layers of 64 features, 0.15 million parameters, for 125 million",
                "2000 steps, then 800 after the exchange",
                "128 characters at a time",
            ],
        ),
        "paper": Preset(
            Config(
                Model(d_model=384, n_layer=6, n_head=6),
                Training(steps=5000, batch=64, lr=1e-3, weight_decay=0.1, warmup=100),
                Training(steps=2000, batch=64, lr=1e-2, weight_decay=0, warmup=20),
                Training(steps=2000, batch=64, lr=5e-4, weight_decay=0.1, warmup=100),
                window=64,
                context=256,
            ),
            time="3 h on one GPU, guessed",
            targets=[
                Target("recovered", ">=", 95),
                Target("recovered_t2r", "<=", 90),
                Target("recovered_hybrid", ">=", 98),
            ],
            reduced=[
                "Tiny Shakespeare by characters for WikiText-103 by words",
                "6 layers of 384 features, 11 million parameters, for 125 million",
            ],
        ),
    },
    headline=True,
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Train the softmax model, exchange its attention, train on, and judge every arm."""
    text = load(config.judge, run)
    text = text._replace(held_out=text.held_out[: config.judged])
    results: dict[str, float] = {}
    with run.part("teacher"):
        teacher = language_model("softmax", text.vocab_size, **vars(config.model)).to(run.device)
        learn(teacher, text.train, config.training, config.context, run)
        results["teacher"] = _judged("bits", teacher, text, config, run)
    for arm in config.arms:
        with run.part(arm):
            results |= _converted(arm, teacher, text, config, run)
    floor, ceiling = results["none"], results["softmax"]
    run.figure("bits-per-character", _figure(results))
    run.figure("controls", _control_figure(results))
    return results | {
        "gap": results["hedgehog"] - ceiling,
        "recovered": _share(results["hedgehog"], floor, ceiling),
        **{
            f"recovered_{arm}": _share(results[arm], floor, ceiling)
            for arm in config.arms
            if arm not in ("softmax", "none", "hedgehog")
        },
        **{
            f"hybrid_{side}_loss": results[f"hybrid_{side}"] - results["hybrid"]
            for side in ("linear", "window", "none")
        },
    }


def exchanged(arm: Arm, teacher: LanguageModel, config: Config) -> LanguageModel:
    """Return a copy of the softmax model with the attention of an arm."""
    if arm in ("softmax", "none"):
        return copy.deepcopy(teacher)
    n_head, d_head = config.model.n_head, config.model.d_model // config.model.n_head
    activation = config.hybrid_activation if arm == "hybrid" else config.activation
    feature_map: FeatureMap = HedgehogMap(n_head, d_head, activation=activation)
    if arm == "elu":
        feature_map = EluPlusOne(n_head, d_head)
    if arm == "t2r":
        feature_map = T2RMap(n_head, d_head)
    window = config.window if arm == "hybrid" else None
    return linearize(teacher, feature_map=feature_map, window=window)


def _converted(
    arm: Arm, teacher: LanguageModel, text: Text, config: Config, run: Run
) -> dict[str, float]:
    """Bits per character of one arm: as exchanged, as distilled, and trained further."""
    model, bits = exchanged(arm, teacher, config), {}
    with attention_branches(model, "none" if arm == "none" else "both"):
        if arm != "softmax":
            bits[f"{arm}_exchanged"] = _judged("exchanged", model, text, config, run)
        if arm in _DISTILLED:
            with run.part("distillation"):
                distil(teacher, model, text.train, config.distillation, config.context, run)
            bits[f"{arm}_distilled"] = _judged("distilled", model, text, config, run)
        with run.part("tuning"):
            learn(model, text.train, config.tuning, config.context, run)
        bits[arm] = _judged("bits", model, text, config, run)
    if arm == "hybrid":
        controls = run.once("controls", lambda: _controls(model, text, config))
        bits |= {f"hybrid_{side}": value for side, value in controls.items()}
    return bits


def _judged(name: str, model: LanguageModel, text: Text, config: Config, run: Run) -> float:
    return run.once(name, lambda: bits_per_character(model, text.held_out, config.context))


def _controls(model: LanguageModel, text: Text, config: Config) -> dict[str, float]:
    report = control_report(model, lambda m: bits_per_character(m, text.held_out, config.context))
    sides = {"linear": report.linear, "window": report.window, "none": report.none}
    return {side: value for side, value in sides.items() if value is not None}


def _share(bits: float, floor: float, ceiling: float) -> float:
    return 100 * (floor - bits) / (floor - ceiling)


def _figure(results: Mapping[str, float]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4))
    axes = figure.add_subplot()
    arms = [arm for arm in ARMS if arm in results and arm not in ("softmax", "none")]
    stages = {"_exchanged": "exchanged", "_distilled": "distilled", "": "trained further"}
    for row, arm in enumerate(arms):
        for place, (suffix, label) in enumerate(stages.items()):
            if arm + suffix in results:
                axes.plot(results[arm + suffix], row, "xo*"[place], color=f"C{place}", label=label)
    for arm, style in {"softmax": "-", "none": ":"}.items():
        axes.axvline(results[arm], color="k", linestyle=style, linewidth=1, label=ARMS[arm])
    axes.set_yticks(range(len(arms)), [ARMS[arm] for arm in arms])
    axes.set_xlabel("bits per character")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), fontsize="small")
    return figure


def _control_figure(results: Mapping[str, float]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.6))
    axes = figure.add_subplot()
    bars = {
        "softmax model": results["softmax"],
        "hybrid": results["hybrid"],
        "its window only": results["hybrid_window"],
        "its linear side only": results["hybrid_linear"],
        "neither": results["hybrid_none"],
    }
    drawn = axes.barh(list(bars), list(bars.values()), color=["k", "C0", "C1", "C2", "C7"])
    axes.bar_label(drawn, fmt="%.2f", padding=2)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(bars.values()))
    axes.set_xlabel("bits per character")
    return figure
