"""A rotation that is known: how exactly each way finds it, and how much noise each bears.

Claim: where one language is a rotation of the other, Procrustes on pairs and self-learning without
any pair recover the rotation to the precision of the numbers; with noise every word that was not
trained on is still translated rightly up to a level, and beyond it CSLS and the inverted softmax
lose later than nearest neighbours.

Words are drawn: a word belongs to one of some clusters, few of them large (Zipf), and the
deviation along direction i falls as i^-½. Target vectors are the rotated source vectors, in an
order that nobody is told, with noise whose length is σ times theirs. Four parts:

    exact    σ = 0 in float64: |W - Q| of Procrustes on pairs, and of self-learning without
    noise    precision at 1 on held-out words against σ, by Procrustes and three scores
    self     precision at 1 of self-learning against σ
    game     the adversarial way, refined, of several seeds the one that the criterion chooses;
             and the same on an even cloud as the control that must fail

The control: an even normal cloud looks the same however it is rotated, so that a discriminator
learns nothing of which rotation is right. Self-learning can still tell its words one by one, since
it compares the similarities of words, and not the clouds: without noise it succeeds there as well.

What differs from the papers: vectors are drawn and not trained.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require
from gonzo.translation.adversarial import AdversarialAligner, AdversarialConfig
from gonzo.translation.orthogonal import procrustes
from gonzo.translation.refinement import refine
from gonzo.translation.retrieval import Method
from gonzo.translation.self_learner import SelfLearner
from gonzo.translation.word_translation_scores import word_translation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METHODS: tuple[Method, ...] = ("nn", "csls", "isf")
_LABELS = {
    "nn": "Procrustes, nearest neighbours",
    "csls": "Procrustes, CSLS",
    "isf": "Procrustes, inverted softmax",
    "self": "self-learning without pairs, CSLS",
}
_COLOURS = {"nn": "#c55a11", "csls": "#1f4e79", "isf": "#2e8b57"}
_CLUSTERS = 20
_MOST_ITERATIONS = 600


@dataclass(frozen=True)
class Game:
    """The adversarial way: a smaller space, in which a short game is enough.

    The middle of its cloud lies off the origin, as that of trained vectors does before centring.
    """

    words: int = 2000
    dimensions: int = 6
    hidden: int = 128
    batch: int = 32
    epochs: int = 3
    epoch_steps: int = 2000
    seeds: int = 4


@dataclass(frozen=True)
class Config:
    """Sizes, and the noise that is swept."""

    words: int = 3000
    """Of each side."""
    dimensions: int = 50
    test: int = 1000
    """Words held out; the pairs of the others are what Procrustes is given."""
    noises: tuple[float, ...] = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5)
    """Length of the noise as a multiple of the vectors'."""
    borne: float = 0.25
    """At which all held-out words must be right."""
    beyond: float = 1.0
    """At which the three scores are reported."""
    self_words: int = 1000
    self_noises: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
    """For self-learning; some of `noises`."""
    patience: int = 10
    """Of self-learning."""
    game: Game = Game()

    def __post_init__(self) -> None:
        trained = self.words - self.test
        require(self.test >= 1, f"test of at least 1, got {self.test}")
        require(
            trained >= self.dimensions,
            f"at least {self.dimensions} words that are not held out, got {trained}",
        )
        for name in ("borne", "beyond"):
            value = getattr(self, name)
            require(value in self.noises, f"{name} out of {self.noises}, got {value}")
        required = {0.0, self.borne}
        require(
            required <= set(self.self_noises) <= set(self.noises),
            f"self_noises out of {self.noises} with {sorted(required)}, got {self.self_noises}",
        )


RECIPE = Recipe(
    claim="A hidden rotation is recovered exactly, with pairs and without, and noise is borne",
    paper=Paper(
        "Conneau, Lample, Ranzato, Denoyer and Jégou, Word Translation Without Parallel Data, "
        "ICLR 2018; Artetxe, Labaka and Agirre, A Robust Self-Learning Method for Fully "
        "Unsupervised Cross-Lingual Mappings of Word Embeddings, ACL 2018",
        where="section 2 of the first, section 3 of the second; vectors drawn here",
        url="https://arxiv.org/abs/1710.04087",
    ),
    metrics={
        "procrustes_error": Metric("Procrustes, float64: largest |W - Q|", digits=12),
        "self_error": Metric("self-learning without pairs: largest |W - Q|", digits=12),
        "self_right": Metric("its words, right without noise", unit="%", digits=1),
        "even_self_right": Metric("the same on an even cloud", unit="%", digits=1),
        "borne_procrustes": Metric("P@1 at the noise borne, Procrustes, CSLS", unit="%", digits=1),
        "borne_self": Metric("P@1 at the noise borne, self-learning, CSLS", unit="%", digits=1),
        "largest_borne": Metric("largest noise of those swept with P@1 of 100 %"),
        "beyond_nn": Metric("P@1 beyond, nearest neighbours", unit="%", digits=1),
        "beyond_csls": Metric("P@1 beyond, CSLS", unit="%", digits=1),
        "beyond_isf": Metric("P@1 beyond, inverted softmax", unit="%", digits=1),
        "game": Metric("P@1, adversarial and refined", unit="%", digits=1),
        "game_succeeded": Metric("its seeds above 90 %", unit="%", digits=0),
        "even_game": Metric("control, adversarial on an even cloud", unit="%", digits=1),
    },
    presets={
        "quick": Preset(
            Config(words=2000, test=500, noises=(0.0, 0.25, 0.5, 1.0),
                   self_words=400, self_noises=(0.0, 0.25), patience=3,
                   game=Game(seeds=1)),
            time="25 s",
            targets=[
                Target("procrustes_error", "<=", 1e-6),
                Target("self_error", "<=", 1e-6),
                Target("borne_procrustes", ">=", 100),
                Target("borne_self", ">=", 100),
                Target("even_game", "<=", 10),
            ],
            reduced=["vectors drawn, not trained", "one seed of the game"],
        ),
        "cpu": Preset(
            Config(),
            time="5 min on one core",
            targets=[
                Target("procrustes_error", "<=", 1e-6),
                Target("self_error", "<=", 1e-6),
                Target("borne_procrustes", ">=", 100),
                Target("borne_self", ">=", 100),
                Target("game", ">=", 90),
                Target("even_game", "<=", 10),
            ],
            reduced=["vectors drawn, not trained"],
        ),
    },
    headline=True,
)  # fmt: skip


class Pair(NamedTuple):
    """Two languages, (words, d) each, the rotation, and the target row of each source row."""

    source: Tensor
    target: Tensor
    rotation: Tensor
    place: Tensor


def main(config: Config, run: Run) -> dict[str, float]:
    """Measure what is exact, then noise, then self-learning, then the game and its control."""
    torch.set_num_threads(1)
    swept: dict[float, dict[str, float]] = {}
    for noise in config.noises:
        supervised = functools.partial(_supervised, config, noise, run.seed)
        swept[noise] = run.once(f"noise-{noise}", supervised)
    learned = {
        noise: _self_learned(run, f"self-{noise}", config, noise) for noise in config.self_noises
    }
    even = _self_learned(run, "self-even", config, 0.0, even=True)
    games = _games(run, config.game, even=False)
    control = _games(run, config.game, even=True)
    run.figure("noise", _curves(config, swept, learned))
    borne = [noise for noise, values in swept.items() if values["csls"] == 100]
    return {
        "procrustes_error": swept[0.0]["error"],
        "self_error": learned[0.0]["error"],
        "self_right": learned[0.0]["right"],
        "even_self_right": even["right"],
        "borne_procrustes": swept[config.borne]["csls"],
        "borne_self": learned[config.borne]["right"],
        "largest_borne": max(borne, default=float("nan")),
        **{f"beyond_{method}": swept[config.beyond][method] for method in _METHODS},
        "game": games["chosen"],
        "game_succeeded": games["succeeded"],
        "even_game": control["chosen"],
    }


def languages(
    words: int,
    dimensions: int,
    noise: float,
    *,
    seed: int,
    even: bool = False,
    middle: float = 0.0,
) -> Pair:
    """Draw a language and its rotation with noise, both of unit vectors in float64.

    Args:
        words: of each side.
        dimensions: of the vectors.
        noise: its length, as a multiple of the vectors'.
        seed: of everything.
        even: a normal cloud without clusters or preferred directions.
        middle: of the other cloud, how many deviations off the origin along every direction.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    source = normal(words, dimensions)
    if not even:
        deviation = torch.arange(1, dimensions + 1, dtype=torch.float64) ** -0.5
        sizes = torch.arange(1, _CLUSTERS + 1, dtype=torch.float64) ** -1.0
        clusters = torch.multinomial(sizes, words, replacement=True, generator=generator)
        source = deviation * (middle + normal(_CLUSTERS, dimensions)[clusters] + 0.5 * source)
    source = normalize(source)
    rotation = torch.linalg.qr(normal(dimensions, dimensions))[0]
    moved = noise * normal(words, dimensions) / dimensions**0.5
    order = torch.randperm(words, generator=generator)
    target = normalize(source @ rotation.mT + moved)[order]
    return Pair(source, target, rotation, order.argsort())


def _supervised(config: Config, noise: float, seed: int) -> dict[str, float]:
    pair = languages(config.words, config.dimensions, noise, seed=seed)
    gold = torch.stack([torch.arange(config.words), pair.place], 1)
    train, test = gold[config.test :], gold[: config.test]
    mapping = procrustes(pair.source[train[:, 0]], pair.target[train[:, 1]])
    values = {"error": float((mapping - pair.rotation).abs().max())}
    for method in _METHODS:
        values[method] = _precision(pair, mapping, test, method)
    return values


def _self_learned(
    run: Run, name: str, config: Config, noise: float, *, even: bool = False
) -> dict[str, float]:
    pair = languages(config.self_words, config.dimensions, noise, seed=run.seed, even=even)
    learner = SelfLearner(pair.source, pair.target, patience=config.patience, seed=run.seed)
    for step in run.steps(_MOST_ITERATIONS, name=name, learner=learner):
        if not learner.finished:
            run.log(step, objective=learner.step(), keep=learner.keep)
    gold = torch.stack([torch.arange(config.self_words), pair.place], 1)
    error = float((learner.mapping - pair.rotation).abs().max())
    return {"error": error, "right": _precision(pair, learner.mapping, gold, "csls")}


def _games(run: Run, game: Game, *, even: bool) -> dict[str, float]:
    """Play with all seeds; precision of the seed with the best criterion after refinement."""
    pair = languages(game.words, game.dimensions, 0.0, seed=run.seed, even=even, middle=1.0)
    gold = torch.stack([torch.arange(game.words), pair.place], 1)
    # Learning rates of the game are made for numbers around 1, as trained vectors have them.
    source, target = ((game.dimensions**0.5 * side).float() for side in (pair.source, pair.target))
    rules = AdversarialConfig(
        epochs=game.epochs,
        epoch_steps=game.epoch_steps,
        hidden=game.hidden,
        batch=game.batch,
        smoothing=0.1,
    )
    outcomes: list[tuple[float, float]] = []
    for seed in range(game.seeds):
        player = AdversarialAligner(source, target, rules, seed=1000 * run.seed + seed)
        name = f"game-{'even' if even else 'clustered'}-{seed}"
        for step in run.steps(game.epochs * game.epoch_steps, name=name, player=player):
            player.step()
            if (step + 1) % game.epoch_steps == 0:
                report = player.end_epoch()
                run.log(step, criterion=report.criterion, loss=report.discriminator_loss)
        refined = refine(source, target, player.best_mapping)
        precision = _precision(pair, refined.mapping.double(), gold, "csls")
        outcomes.append((max(refined.criteria), precision))
    succeeded = sum(precision > 90 for _, precision in outcomes)
    return {
        "chosen": max(outcomes, key=lambda outcome: outcome[0])[1],
        "succeeded": 100 * succeeded / game.seeds,
    }


def _precision(pair: Pair, mapping: Tensor, gold: Tensor, method: Method) -> float:
    found = word_translation(pair.source @ mapping.mT, pair.target, gold, method=method, ks=(1,))
    return 100 * found.precision[1]


def _curves(
    config: Config,
    swept: Mapping[float, Mapping[str, float]],
    learned: Mapping[float, Mapping[str, float]],
) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5))
    axes = figure.subplots()
    for method in _METHODS:
        heights = [swept[noise][method] for noise in config.noises]
        axes.plot(config.noises, heights, "o-", ms=4, color=_COLOURS[method], label=_LABELS[method])
    heights = [values["right"] for values in learned.values()]
    axes.plot(list(learned), heights, "s--", ms=4, color="0.3", label=_LABELS["self"])
    axes.set(xlabel="noise, length as a multiple of the vectors'", ylabel="precision at 1, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize="small")
    figure.tight_layout()
    return figure
