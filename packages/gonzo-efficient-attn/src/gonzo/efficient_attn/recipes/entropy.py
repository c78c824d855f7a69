"""How spiky and how monotone the attention weights of each feature map are, on a trained model.

Claim: softmax's weights are of low entropy and rise with q·k. The maps of earlier linear attentions
do neither, and Hedgehog's does both, once it is fitted to softmax's weights.

A small Transformer learns Tiny Shakespeare by characters. Its own queries and keys, as it reads
stretches of the text that it has not seen, then go through every map, and the weights that come out
are looked at, for each layer and head:

    entropy         -Σ a log a in nats, mean over queries; and its distance from softmax's, the mean
                    of the absolute difference over layers and heads
    monotonicity    Spearman's rank correlation of q·k and the weight, over the keys of a query,
                    mean over queries; 1 for softmax
    the same key    the share of queries whose heaviest key is softmax's

The maps: elu + 1, ReLU, Performer (256 random features), Taylor's of Based, ReBased's at its
beginning, and Hedgehog's at its beginning (W is the identity) and after distillation on the
training text. None but the last has been fitted to these queries and keys: a model that is trained
with a map learns queries and keys for it, which is not measured here. The loss of distillation
counts each key by softmax's weight on it, so that the order of keys that softmax hardly looks at is
left to chance; Spearman's correlation counts all alike.

A query whose ReLU features are all zero has weights of zero and an entropy of zero, which is not
spikiness; `relu_silent` says how many there are.

What was tried, on the part of the text between the two (`--judge valid`), one seed, at the size
`quick`: 150 steps of distillation leave Hedgehog at a distance of 0.436 and a correlation of 0.664,
400 steps at 0.337 and 0.675. Nothing was tried at the size `cpu`, whose targets were set before.

What is reduced: the paper looks at BERT and at models trained on associative recall, and shows
figures; it gives no numbers for these two properties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from gonzo.core.nn import LanguageModel
from gonzo.efficient_attn import HedgehogMap, language_model
from gonzo.efficient_attn.analysis import (
    attention_entropy,
    attention_scores,
    attention_weights,
    spearman,
)
from gonzo.efficient_attn.hedgehog import Activation
from gonzo.efficient_attn.linearize import linearize
from gonzo.efficient_attn.projections import attention_inputs, attention_layers
from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.characters import Text, learn, load, windows
from gonzo.lab.training import Training, require

from .distilling import distil
from .hedgehog_distill import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAPS: dict[str, str] = {
    "softmax": "softmax",
    "hedgehog": "Hedgehog, distilled",
    "untaught": "Hedgehog, at first",
    "elu": "elu + 1",
    "relu": "ReLU",
    "performer": "Performer",
    "taylor": "Taylor (Based)",
    "rebased": "ReBased, at first",
}
"""In words."""

_EARLIER = ("elu", "relu", "performer", "taylor", "rebased")


@dataclass(frozen=True)
class Config:
    """The model, its training, and how much of its attention is looked at."""

    model: Model = Model()
    training: Training = Training(steps=2000, batch=16, lr=5e-3, warmup=100)
    """Of the softmax model."""
    distillation: Training = Training(steps=600, batch=16, lr=3e-2, weight_decay=0, warmup=10)
    """Of Hedgehog's map."""
    activation: Activation = "exp"
    """Of Hedgehog's map."""
    context: int = 128
    """Characters in a stretch of text."""
    stretches: int = 16
    """Stretches of the text that are looked at, evenly spread over it."""
    judge: Literal["valid", "test"] = "test"
    """The text that they are from. Choose settings on `valid`, which no result comes from."""

    def __post_init__(self) -> None:
        require(self.context >= 3, f"context of at least 3, got {self.context}")
        require(self.stretches >= 1, f"stretches of at least 1, got {self.stretches}")


RECIPE = Recipe(
    claim="Hedgehog's distilled weights are spiky and rise with q·k; those of earlier maps do not",
    paper=Paper(
        "Zhang, Bhatia, Kumbong and Ré, The Hedgehog & the Porcupine: Expressive Linear Attentions "
        "with Softmax Mimicry, ICLR 2024",
        where="section 3, in figures; no numbers are given",
        url="https://arxiv.org/abs/2402.04347",
    ),
    metrics={
        "softmax_entropy": Metric("softmax's entropy, in nats", digits=3),
        "hedgehog_distance": Metric("distance of Hedgehog's from it", digits=3),
        "nearest_distance": Metric("of the nearest among the earlier maps", digits=3),
        "hedgehog_monotone": Metric("Hedgehog's monotonicity", digits=3),
        "most_monotone": Metric("of the most monotone among the earlier maps", digits=3),
        "distance_ratio": Metric(
            "Hedgehog's distance over that of the nearest earlier map", digits=2
        ),
        "monotone_lead": Metric("Hedgehog's monotonicity above the best earlier map's", digits=3),
        "hedgehog_same": Metric(
            "queries whose heaviest key is softmax's: Hedgehog", unit="%", digits=1
        ),
        "most_same": Metric("of the best earlier map", unit="%", digits=1),
    },
    presets={
        "quick": Preset(
            Config(
                Model(n_layer=2),
                Training(steps=500, batch=16, lr=1e-2, warmup=50),
                Training(steps=400, batch=16, lr=3e-2, weight_decay=0, warmup=10),
                context=64,
            ),
            time="25 s",
            targets=[
                Target("distance_ratio", "<=", 0.6),
                Target("monotone_lead", ">", 0),
            ],
            reduced=[
                "Tiny Shakespeare by characters",
                "2 layers of 64 features, trained for 500 steps",
                "64 characters at a time",
            ],
        ),
        "cpu": Preset(
            Config(),
            time="4 min on one core",
            targets=[
                Target("distance_ratio", "<=", 0.5),
                Target("hedgehog_monotone", ">=", 0.8),
                Target("monotone_lead", ">", 0),
            ],
            reduced=[
                "Tiny Shakespeare by characters",
                "3 layers of 64 features, trained for 2000 steps",
                "128 characters at a time",
            ],
        ),
    },
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Train a softmax model, fit Hedgehog's map to it, and look at the weights of every map."""
    text = load(config.judge, run)
    with run.part("teacher"):
        teacher = language_model("softmax", text.vocab_size, **vars(config.model)).to(run.device)
        learn(teacher, text.train, config.training, config.context, run)
    tokens = stretches(text, config)
    results: dict[str, float] = {}
    looks: dict[str, tuple[Tensor, Tensor]] = {}
    softmax: list[Tensor] = []
    for name in MAPS:
        with run.part(name):
            model = converted(name, teacher, config)
            if name == "hedgehog":
                distil(teacher, model, text.train, config.distillation, config.context, run)
            weights = weights_of(model, teacher, tokens)
            looks[name] = _look(weights, teacher, tokens)
            if name == "softmax":
                softmax = [attention_entropy(layer) for layer in weights]
            numbers = run.once(
                "numbers", lambda: _numbers(weights, softmax, scores_of(teacher, tokens))
            )
        results |= {f"{name}_{key}": value for key, value in numbers.items()}
    nearest = min(results[f"{name}_distance"] for name in _EARLIER)
    most = {key: max(results[f"{n}_{key}"] for n in _EARLIER) for key in ("monotone", "same")}
    run.figure("entropy", _figure(results))
    run.figure("weight-against-score", _curves(looks))
    return results | {
        "nearest_distance": nearest,
        "most_monotone": most["monotone"],
        "most_same": most["same"],
        "distance_ratio": results["hedgehog_distance"] / nearest,
        "monotone_lead": results["hedgehog_monotone"] - most["monotone"],
    }


def stretches(text: Text, config: Config) -> Tensor:
    """Return stretches of the held-out text, (n, context), evenly spread."""
    last = len(text.held_out) - config.context
    starts = torch.linspace(0, last, config.stretches).long()
    return windows(text.held_out, starts, config.context)


def converted(name: str, teacher: LanguageModel, config: Config) -> LanguageModel:
    """Return the softmax model with another map, or as it is."""
    if name == "softmax":
        return teacher
    feature_map: Any = name
    if name in ("hedgehog", "untaught"):
        n_head, d_head = config.model.n_head, config.model.d_model // config.model.n_head
        feature_map = HedgehogMap(n_head, d_head, activation=config.activation)
    return linearize(teacher, feature_map=feature_map)


def weights_of(model: LanguageModel, teacher: LanguageModel, tokens: Tensor) -> list[Tensor]:
    """Return the weights of each layer on the softmax model's hidden states."""
    layers = attention_layers(model).values()
    inputs = [hidden for _, hidden in attention_inputs(teacher, tokens)]
    return [attention_weights(layer, x) for layer, x in zip(layers, inputs, strict=True)]


def scores_of(teacher: LanguageModel, tokens: Tensor) -> list[Tensor]:
    """Return q·k of each layer."""
    return [attention_scores(layer, hidden) for layer, hidden in attention_inputs(teacher, tokens)]


def heaviest(scores: Tensor) -> Tensor:
    """Return the key, of those up to each query, with the largest score, (…, time)."""
    future = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).argmax(-1)


def _numbers(
    weights: list[Tensor], softmax: list[Tensor], scores: list[Tensor]
) -> dict[str, float]:
    """Means over layers, heads and stretches of text."""
    entropies = torch.stack([attention_entropy(w).mean(0) for w in weights])  # (layers, heads)
    theirs = torch.stack([entropy.mean(0) for entropy in softmax])
    ranks = torch.stack([spearman(s, w) for s, w in zip(scores, weights, strict=True)])
    silent = torch.stack([w.sum(-1) == 0 for w in weights]).float()
    pairs = zip(scores, weights, strict=True)
    same = torch.stack([heaviest(s) == w.argmax(-1) for s, w in pairs]).float()
    return {
        "entropy": float(entropies.mean()),
        "distance": float((entropies - theirs).abs().mean()),
        "monotone": float(ranks.mean()),
        "same": 100 * float(same.mean()),
        "silent": 100 * float(silent.mean()),
    }


def _look(weights: list[Tensor], teacher: LanguageModel, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and weights of one query: the last of a stretch, in softmax's spikiest head."""
    layers = attention_inputs(teacher, tokens[:1])
    softmax = torch.stack([attention_entropy(attention_weights(*layer))[0] for layer in layers])
    layer, head = divmod(int(softmax.argmin()), softmax.shape[1])
    scores = attention_scores(*layers[layer])
    scale = scores_scale(teacher)
    return scale * scores[0, head, -1], weights[layer][0, head, -1]


def scores_scale(teacher: LanguageModel) -> float:
    """Return what softmax multiplies q·k by."""
    (layer, *_) = attention_layers(teacher).values()
    return (layer.d_model // layer.n_head) ** -0.5


def _figure(results: Mapping[str, float]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3))
    left, right = figure.subplots(1, 2, sharey=True)
    labels = list(MAPS.values())
    for axes, key, title in (
        (left, "entropy", "entropy of the weights (nats)"),
        (right, "monotone", "Spearman's correlation with q·k"),
    ):
        values = [results[f"{name}_{key}"] for name in MAPS]
        bars = axes.barh(labels, values, color=["k", "C0", *["C7"] * (len(MAPS) - 2)])
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize="small")
        axes.set_xlabel(title)
        axes.set_xlim(min(0, 1.2 * min(values)), 1.2 * max(values))
    left.axvline(results["softmax_entropy"], color="k", linestyle=":", linewidth=1)
    left.invert_yaxis()
    figure.tight_layout()
    return figure


def _curves(looks: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4))
    panels = figure.subplots(2, (len(MAPS) + 1) // 2, sharex=True)
    for axes, (name, (scores, weights)) in zip(panels.flat, looks.items(), strict=False):
        axes.plot(scores.cpu(), weights.cpu(), ".", color="C0", markersize=4)
        axes.set_title(MAPS[name], fontsize="small")
        axes.set_ylim(bottom=0)
    figure.supxlabel("q·k / √d", fontsize="small")
    figure.supylabel("weight", fontsize="small")
    figure.tight_layout()
    return figure
