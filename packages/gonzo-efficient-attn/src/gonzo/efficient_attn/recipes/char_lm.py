"""Language models of characters: softmax attention, four feature maps, Based, and no attention.

Claim: with a good feature map, linear attention models text nearly as well as softmax attention;
with elu+1, the classical map, it does not.

Every model begins with one layer that is a gated convolution of three taps (`ShortConv`). Behind it
are layers of one kind, which is all that the arms differ in:

    softmax        `CausalAttention`
    Hedgehog       `LinearAttention` with `HedgehogMap`, the normalised form that is its default
    Taylor         the same with `Taylor`, the map of Based
    ReBased        the same with `ReBasedMap`, its γ and β shared by the heads
    elu+1          the same with `EluPlusOne`
    Based          `Taylor` and `SlidingWindowAttention` over a few characters, in turn
    no attention   a `ShortConv` of one tap, which sees the present alone

Queries and keys are rotated by their positions everywhere, and every layer is followed by a
feed-forward network. The models read the same stretches of Tiny Shakespeare in the same order, for
the same number of steps of AdamW, and have the same number of parameters to half a per cent, as the
feed-forward networks take up what the layers leave. They are judged on the last 5 % of the text in
bits per character, with half of `context` or more before each. Counted pairs of characters need
3.60 bits there. What a model keeps of a sequence after `context` characters is counted too.

The arm without attention predicts from three characters. What it lacks beside softmax is what
attention is worth here; only a setting where that is much can tell maps from one another. Others
were tried, on the text between training and test:

- no convolution, 3 layers, 600 steps: softmax 2.77 bits, Hedgehog 3.37 at the best of two rates,
  little better than counted pairs. Linear attention had not found the character before;
- a convolution before each of two attention layers, 1500 steps: softmax 2.165 bits, and 2.181 with
  convolutions in place of the attention, which leaves a map nothing to show.

A learning rate is chosen for softmax and one for all others, on that same text (`--judge valid`).
Bits per character after 500 steps of the size `cpu`, one seed each:

    learning rate      1e-2    2e-2
    softmax            2.503   2.494
    Hedgehog           2.620   2.585
    elu+1              2.628
    no attention       2.593

Higher ones, and a rate for each map, were not tried, and those of `paper` not at all.

The size `quick` has three of the arms. So early, attention is worth a few hundredths of a bit, and
all it shows is that Based has them too; how much of that its window does, which is softmax
attention, it does not tell.

What is reduced: Hedgehog's paper trains 125 million parameters on WikiText-103 by words, Based's
362 million on the Pile. Here the text is short and so is training, which favours what learns fast.
One seed: gaps of a few hundredths may be its doing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from gonzo.core import SequenceModule
from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack, interleave
from gonzo.core.sequence import map_state, select_batch
from gonzo.efficient_attn import LinearAttention, ShortConv, SlidingWindowAttention
from gonzo.efficient_attn.linear_attention import FeatureMapKind
from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.characters import bigram_bits, bits_per_character, learn, load
from gonzo.lab.sizes import count_parameters, equal_width
from gonzo.lab.training import Training, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arm = Literal["softmax", "hedgehog", "taylor", "rebased", "elu", "based", "none"]

ARMS: dict[Arm, str] = {
    "softmax": "softmax",
    "hedgehog": "Hedgehog",
    "taylor": "Taylor",
    "rebased": "ReBased",
    "elu": "elu+1",
    "based": "Based",
    "none": "no attention",
}
"""In words, and in the order in which they are trained."""


@dataclass(frozen=True)
class Model:
    """One size for all arms; the feed-forward networks of softmax's are 4 · d_model wide."""

    d_model: int = 64
    n_layer: int = 3
    """The convolution and what follows it."""
    n_head: int = 4
    d_key: int = 16
    """Of Taylor and ReBased, whose features grow with its square; else it is d_model / n_head."""
    window: int = 16
    """Characters that the sliding-window attention of Based sees."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require(
            self.n_head >= 1 and self.d_model >= 2 and self.d_model % (2 * self.n_head) == 0,
            f"d_model to be a multiple of 2 · n_head, got {self.d_model} and {self.n_head}",
        )
        require(self.n_layer >= 3, f"n_layer of at least 3, which Based has, got {self.n_layer}")
        require(
            self.d_key >= 2 and self.d_key % 2 == 0,
            f"an even d_key of at least 2, got {self.d_key}",
        )
        require(self.window >= 1, f"window of at least 1, got {self.window}")
        require(0 <= self.dropout < 1, f"0 <= dropout < 1, got {self.dropout}")


@dataclass(frozen=True)
class Config:
    """Models, training, and what is measured."""

    model: Model = Model()
    training: Training = Training(steps=1600, batch=8, lr=2e-2, warmup=100)
    softmax_lr: float = 2e-2
    """The learning rate of softmax attention."""
    context: int = 256
    """Characters that a prediction may look back on, in training and when judged."""
    judge: Literal["valid", "test"] = "test"
    """What the models are judged on. Choose settings on `valid`, which no result comes from."""
    arms: tuple[Arm, ...] = tuple(ARMS)

    def __post_init__(self) -> None:
        require("softmax" in self.arms, f"softmax among the arms, got {self.arms}")
        require(self.softmax_lr > 0, f"softmax_lr above 0, got {self.softmax_lr}")
        require(self.context >= 2, f"context of at least 2, got {self.context}")

    def training_of(self, arm: Arm) -> Training:
        """Return how an arm is trained."""
        return replace(self.training, lr=self.softmax_lr) if arm == "softmax" else self.training


RECIPE = Recipe(
    claim="With a good feature map, linear attention models text nearly as well as softmax",
    paper=Paper(
        "Zhang, Bhatia, Kumbong and Ré, The Hedgehog & the Porcupine: Expressive Linear Attentions "
        "with Softmax Mimicry, ICLR 2024",
        where="WikiText-103 from scratch: Hedgehog closes 68.6 % of the gap in perplexity that "
        "earlier linear attention leaves; 18.6 for a Transformer, 20.8 for Hedgehog, as commonly "
        "cited, not checked against the paper's text. Based (Arora et al., 2024), 362 million "
        "parameters on the Pile: 8.65, and 8.91 without windows. None in these units",
        url="https://arxiv.org/abs/2402.04347",
    ),
    metrics={
        "softmax": Metric("softmax attention's bits per character", digits=3),
        "hedgehog_gap": Metric("Hedgehog's above it", digits=3),
        "taylor_gap": Metric("Taylor's above it", digits=3),
        "rebased_gap": Metric("ReBased's above it", digits=3),
        "elu_gap": Metric("elu+1's above it", digits=3),
        "based_gap": Metric("Based's above it", digits=3),
        "none_gap": Metric("without attention, above it", digits=3),
        "closed": Metric("of elu+1's gap, Hedgehog closes", unit="%", paper=68.6, digits=1),
    },
    presets={
        "quick": Preset(
            Config(
                training=Training(steps=500, batch=8, lr=2e-2, warmup=50),
                context=128,
                arms=("softmax", "based", "none"),
            ),
            time="40 s",
            targets=[Target("based_gap", "<=", 0.02), Target("none_gap", ">=", 0.02)],
            reduced=[
                "Tiny Shakespeare by characters for WikiText-103 and the Pile by words",
                "3 layers of 64 features, 140,000 parameters, for 125 and 362 million",
                "500 steps, half of the text, 128 characters at a time",
                "Based alone, no other feature map",
            ],
        ),
        "cpu": Preset(
            Config(),
            time="15 min on one core",
            targets=[
                Target("hedgehog_gap", "<=", 0.1),
                Target("taylor_gap", "<=", 0.1),
                Target("rebased_gap", "<=", 0.1),
                Target("based_gap", "<=", 0.05),
                Target("elu_gap", ">=", 0.1),
                Target("none_gap", ">=", 0.1),
            ],
            reduced=[
                "Tiny Shakespeare by characters for WikiText-103 and the Pile by words",
                "3 layers of 64 features, 140,000 parameters, for 125 and 362 million",
                "1600 steps, three times the text, 256 characters at a time",
            ],
        ),
        "paper": Preset(
            Config(
                Model(d_model=384, n_layer=7, n_head=6, dropout=0.2),
                Training(steps=5000, batch=64, lr=4e-3, weight_decay=0.1, warmup=100),
                softmax_lr=1e-3,
            ),
            time="3 h on one GPU, estimated",
            targets=[
                Target("hedgehog_gap", "<=", 0.1),
                Target("taylor_gap", "<=", 0.1),
                Target("rebased_gap", "<=", 0.1),
                Target("based_gap", "<=", 0.05),
                Target("elu_gap", ">=", 0.1),
                Target("none_gap", ">=", 0.1),
            ],
            reduced=[
                "Tiny Shakespeare by characters for WikiText-103 and the Pile by words",
                "7 layers of 384 features, 12 million parameters, for 125 and 362 million",
            ],
        ),
    },
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Train and judge every arm."""
    text = load(config.judge, run)
    bits: dict[Arm, float] = {}
    parameters: dict[Arm, int] = {}
    states: dict[Arm, int] = {}
    for arm in config.arms:
        with run.part(arm):
            model = build(arm, config.model, text.vocab_size).to(run.device)
            parameters[arm] = count_parameters(model)
            states[arm] = state_size(model, config.context)
            learn(model, text.train, config.training_of(arm), config.context, run)
            bits[arm] = run.once(
                "bits", lambda: bits_per_character(model, text.held_out, config.context)
            )
    bigram = run.once("bigram", lambda: bigram_bits(text))
    run.figure("bits-by-state", _figure(bits, states, config.context))
    gaps = {arm: bits.get(arm, float("nan")) - bits["softmax"] for arm in ARMS}
    return {
        "softmax": bits["softmax"],
        **{f"{arm}_gap": gap for arm, gap in gaps.items() if arm != "softmax"},
        "closed": _closed(gaps),
        **bits,
        "bigram": bigram,
        **{f"{arm}_parameters": number for arm, number in parameters.items()},
        **{f"{arm}_state": number for arm, number in states.items()},
    }


def build(arm: Arm, model: Model, vocab_size: int) -> LanguageModel:
    """Return an untrained model of an arm.

    Its feed-forward networks are as wide as the number of parameters of softmax's allows.
    """
    hidden = 4 * model.d_model
    if arm != "softmax":
        wanted = count_parameters(_assembled("softmax", model, vocab_size, hidden))
        hidden = equal_width(wanted, lambda n: _assembled(arm, model, vocab_size, n))
    return _assembled(arm, model, vocab_size, hidden)


@torch.no_grad()
def state_size(model: LanguageModel, context: int) -> int:
    """Return how many numbers a model keeps of one sequence after `context` tokens.

    What sequences share, and counts of tokens, are left out.
    """
    tokens = torch.zeros((2, context), dtype=torch.int64, device=model.embedding.weight.device)
    _, two = model.scan(tokens, model.init_state(2))
    return _numbers(two) - _numbers(select_batch(two, torch.zeros_like(tokens[0, :1])))


def _numbers(state: tuple[object, ...]) -> int:
    sizes: list[int] = []

    def add(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.is_floating_point())
        return tensor

    map_state(add, state)
    return sum(sizes)


def _assembled(arm: Arm, model: Model, vocab_size: int, hidden: int) -> LanguageModel:
    size = (model.d_model, model.n_head)

    def linear(feature_map: FeatureMapKind) -> SequenceModule:
        d_key = model.d_key if feature_map in ("taylor", "rebased") else None
        return LinearAttention(*size, feature_map=feature_map, d_key=d_key, rotary=True)

    mixers: dict[Arm, Callable[[], SequenceModule]] = {
        "softmax": lambda: CausalAttention(*size),
        "hedgehog": lambda: linear("hedgehog"),
        "taylor": lambda: linear("taylor"),
        "rebased": lambda: linear("rebased"),
        "elu": lambda: linear("elu"),
        "based": lambda: linear("taylor"),
        "none": lambda: ShortConv(model.d_model, kernel_size=1),
    }
    kinds: dict[str, Callable[[], SequenceModule]] = {
        "c": lambda: ShortConv(model.d_model),
        "m": mixers[arm],
        "w": lambda: SlidingWindowAttention(*size, window=model.window),
    }
    rest = ("mw" if arm == "based" else "mm") * (model.n_layer // 2)
    pattern = "c" + rest[: model.n_layer - 1]
    layers = interleave(pattern, {letter: kinds[letter] for letter in set(pattern)})
    stack = ResidualStack(layers, feed_forward=hidden, dropout=model.dropout)
    return LanguageModel(vocab_size, stack, dropout=model.dropout)


def _closed(gaps: Mapping[Arm, float]) -> float:
    """How much of elu+1's gap Hedgehog closes, in per cent; NaN where there is none."""
    return 100 * (1 - gaps["hedgehog"] / gaps["elu"]) if gaps["elu"] > 0 else float("nan")


def _figure(bits: Mapping[Arm, float], states: Mapping[Arm, int], context: int) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.4))
    axes = figure.add_subplot()
    for place, (arm, label) in enumerate(ARMS.items()):
        if arm in bits:
            axes.plot(states[arm], bits[arm], "o", color=f"C{place}")
            axes.annotate(label, (states[arm], bits[arm]), (4, 4), textcoords="offset points")
    axes.set_xscale("log")
    axes.margins(x=0.3, y=0.2)
    axes.set_xlabel(f"numbers kept of {context} characters")
    axes.set_ylabel("bits per character")
    return figure
