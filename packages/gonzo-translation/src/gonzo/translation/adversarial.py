"""A mapping between two languages learnt from their word vectors alone, by an adversarial game.

    the discriminator learns to tell  W x  (a mapped source word)  from  y  (a target word)
    the mapping W learns to be mistaken, and stays close to orthogonal:
    W  <-  (1 + beta) W - beta (W Wᵀ) W

Conneau, Lample, Ranzato, Denoyer and Jégou, "Word translation without parallel data", ICLR 2018.

What is found is rough; `refine` makes it exact. On some seeds the game ends nowhere: run several
(`restart`) and let the unsupervised criterion choose.

Deviation: a vocabulary smaller than `most_frequent` is used whole (MUSE's code stops).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gonzo.translation.criterion import CriterionRule, mean_similarity
from gonzo.translation.discriminator import Discriminator
from gonzo.translation.induction import check_vectors
from gonzo.translation.orthogonal import towards_orthogonal

__all__ = ["AdversarialAligner", "AdversarialConfig", "DivergedError", "Draws", "EpochReport"]


class DivergedError(ValueError):
    """A game's mapping is no longer finite."""


@dataclass(frozen=True)
class AdversarialConfig:
    """The rules of the game.

    Args:
        epochs: after each, the criterion is taken and the learning rates change.
        epoch_steps: mapping steps of an epoch. MUSE counts words instead: 1,000,000 of batches
            of 32.
        discriminator_steps: of the discriminator for one of the mapping.
        batch: words of each side in a step.
        most_frequent: words are drawn uniformly from so many of each side.
        hidden: units of the discriminator's two hidden layers.
        dropout: of the discriminator's input.
        smoothing: the discriminator's labels are 1 - smoothing and smoothing.
        learning_rate: of the discriminator, and of W where the next is None.
        mapping_learning_rate: of W; None is `learning_rate`, as in the paper and MUSE's code.
            Vectors of length one, and small vocabularies, want it larger: W's gradient is then
            small beside what the discriminator learns.
        orthogonality: beta, how hard W is kept orthogonal.
        decay: of the learning rate after every epoch.
        decay_discriminator: whether its learning rate changes too.
        shrink: further factor when the criterion is below its best.
        forgiven: how often that is overlooked first.
        least_rate: the decay ends here.
        criterion_words: words over which the criterion is taken.
        criterion_rule: see `gonzo.translation.criterion`.
        neighbours: k of CSLS in the criterion.
    """

    epochs: int = 5
    epoch_steps: int = 31_250
    discriminator_steps: int = 5
    batch: int = 32
    most_frequent: int = 75_000
    hidden: int = 2048
    dropout: float = 0.1
    smoothing: float = 0.2
    learning_rate: float = 0.1
    mapping_learning_rate: float | None = None
    orthogonality: float = 0.01
    decay: float = 0.95
    decay_discriminator: bool = True
    shrink: float = 0.5
    forgiven: int = 0
    least_rate: float = 1e-6
    criterion_words: int = 10_000
    criterion_rule: CriterionRule = "paper"
    neighbours: int = 10

    def __post_init__(self) -> None:
        for name in ("epochs", "epoch_steps", "discriminator_steps", "batch", "most_frequent"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"AdversarialConfig: expected {name} of at least 1, got {getattr(self, name)}"
                )
        if self.hidden < 1 or min(self.learning_rate, self.first_mapping_rate) <= 0:
            raise ValueError("AdversarialConfig: expected hidden >= 1 and learning rates above 0")
        if not 0 <= self.dropout < 1 or not 0 <= self.smoothing < 0.5:
            raise ValueError(
                "AdversarialConfig: expected 0 <= dropout < 1 and 0 <= smoothing < 0.5, got "
                f"{self.dropout} and {self.smoothing}"
            )

    @property
    def first_mapping_rate(self) -> float:
        """Learning rate of W in the first epoch."""
        own = self.mapping_learning_rate
        return self.learning_rate if own is None else own

    @classmethod
    def paper(cls) -> AdversarialConfig:
        """Return the settings that the paper's text gives."""
        return cls()

    @classmethod
    def muse(cls) -> AdversarialConfig:
        """Return the defaults of MUSE's code, which differ from the paper's text."""
        return cls(
            smoothing=0.1,
            orthogonality=0.001,
            decay=0.98,
            decay_discriminator=False,
            forgiven=1,
            criterion_rule="muse",
        )

    @classmethod
    def small(cls) -> AdversarialConfig:
        """Return rules for some ten thousand words of length one, minutes a seed on one core.

        With so few words a discriminator learns them by heart, and then tells W nothing: it is
        smaller here and half of its input is dropped. W, whose gradient is small for short vectors,
        has a larger rate, and one that is not halved: before anything is found the criterion goes
        up and down by chance. With these rules the game succeeds on vocabularies that small, on
        most seeds (``translation.muse-real``).
        """
        return cls(
            epochs=12,
            epoch_steps=2500,
            batch=64,
            hidden=256,
            dropout=0.5,
            smoothing=0.1,
            mapping_learning_rate=3.0,
            decay_discriminator=False,
            shrink=1.0,
        )


class EpochReport(NamedTuple):
    """One epoch of the game.

    Attributes:
        epoch: from 1.
        criterion: unsupervised, at its end.
        discriminator_loss: mean binary cross-entropy of its steps. It cannot fall below the
            labels' entropy (0.33 with smoothing 0.1); a discriminator that is always fooled has
            0.69.
        mapping_rate: learning rate of W during it.
        best: whether the criterion was the best so far.
    """

    epoch: int
    criterion: float
    discriminator_loss: float
    mapping_rate: float
    best: bool


class Words(Protocol):
    """Where a game's random numbers come from; a test can bring its own."""

    def words(self) -> tuple[Tensor, Tensor]:
        """Return (batch,) source rows and (batch,) target rows."""
        ...

    def mask(self) -> Tensor:
        """Return (2 * batch, d) of 0 and 1 / (1 - dropout)."""
        ...


class Draws:
    """Uniform words and dropout masks from a generator of their own."""

    def __init__(
        self, source: Tensor, target: Tensor, config: AdversarialConfig, generator: torch.Generator
    ) -> None:
        self._limits = [min(config.most_frequent, len(side)) for side in (source, target)]
        self._batch, self._keep = config.batch, 1 - config.dropout
        self._shape, self._dtype = (2 * config.batch, source.shape[1]), source.dtype
        self._generator = generator

    def words(self) -> tuple[Tensor, Tensor]:
        """Return (batch,) rows of each side."""
        first, second = (
            torch.randint(limit, (self._batch,), generator=self._generator)
            for limit in self._limits
        )
        return first, second

    def mask(self) -> Tensor:
        """Return (2 * batch, d) of 0 and 1 / keep."""
        kept = torch.empty(self._shape, dtype=self._dtype)
        return kept.bernoulli_(self._keep, generator=self._generator).div_(self._keep)


class AdversarialAligner:
    """The game between a mapping and a discriminator, step by step.

    Example::

        game = AdversarialAligner(source, target, AdversarialConfig(epochs=3), seed=0)
        rough = game.fit(lambda report: print(report.epoch, report.criterion))
        mapping = refine(source, target, rough).mapping

    Args:
        source: (n, d) vectors, the most frequent word first, float32 or float64 on the CPU.
        target: (m, d) likewise.
        config: the rules; the paper's by default.
        seed: of the discriminator's weights, of the words drawn and of the dropout.
        draws: random numbers from elsewhere, for tests.

    Attributes:
        mapping: (d, d) now, the identity at first; ``source @ mapping.T`` is the mapped source.
        best_mapping: (d, d) of the epoch with the best criterion; `mapping` before the first ends.
        history: an `EpochReport` for each epoch that ended.

    Raises:
        ValueError: vectors of other shapes or dtypes, on a GPU, or not finite.
    """

    def __init__(
        self,
        source: Tensor,
        target: Tensor,
        config: AdversarialConfig | None = None,
        *,
        seed: int = 0,
        draws: Words | None = None,
    ) -> None:
        check_vectors("AdversarialAligner", source, target)
        for name, side in (("source", source), ("target", target)):
            if side.device.type != "cpu":
                raise ValueError(
                    f"AdversarialAligner: expected {name} vectors on the CPU, got {side.device}"
                )
            if not bool(side.isfinite().all()):
                raise ValueError(f"AdversarialAligner: {name} vectors hold NaN or infinity")
        self.config = config or AdversarialConfig()
        self.source, self.target = source, target
        generator = torch.Generator().manual_seed(seed)
        self._generator = generator
        self.discriminator = Discriminator(
            source.shape[1], self.config.hidden, generator=generator, dtype=source.dtype
        )
        self.draws = draws or Draws(source, target, self.config, generator)
        self.mapping = torch.eye(source.shape[1], dtype=source.dtype)
        self.mapping_rate = self.config.first_mapping_rate
        self.discriminator_rate = self.config.learning_rate
        self.history: list[EpochReport] = []
        self._best = self.mapping.clone()
        self._worse = 0
        self._losses = torch.zeros(2, dtype=torch.float64)  # their sum and how many
        labels = torch.full((2 * self.config.batch,), self.config.smoothing, dtype=source.dtype)
        labels[: self.config.batch] = 1 - self.config.smoothing
        self._labels = labels

    @property
    def best_mapping(self) -> Tensor:
        """The mapping of the epoch with the best criterion."""
        return self._best if self.history else self.mapping

    @torch.no_grad()
    def step(self) -> None:
        """Take the discriminator's steps and then one of the mapping."""
        for _ in range(self.config.discriminator_steps):
            self.step_discriminator()
        self.step_mapping()

    @torch.no_grad()
    def step_discriminator(self) -> None:
        """Teach the discriminator one batch of mapped source words and target words."""
        rows, columns = self.draws.words()
        words = torch.cat((self.source[rows] @ self.mapping.T, self.target[columns]))
        words *= self.draws.mask()
        logits = self.discriminator.learn(words, self._labels, self.discriminator_rate)
        self._losses[0] += binary_cross_entropy_with_logits(logits, self._labels)
        self._losses[1] += 1

    @torch.no_grad()
    def step_mapping(self) -> None:
        """Move W so that its words are taken for target words, then towards orthogonality.

        The target words of the batch say nothing about W: only their number counts, in the mean.
        """
        rows, _ = self.draws.words()
        words = self.source[rows]
        gradient = self.discriminator.gradient(
            words @ self.mapping.T, self.config.smoothing, 2 * self.config.batch
        )
        moved = self.mapping.addmm(gradient.T, words, alpha=-self.mapping_rate)
        self.mapping = towards_orthogonal(moved, self.config.orthogonality)

    @torch.no_grad()
    def end_epoch(self) -> EpochReport:
        """Take the criterion, remember the mapping if it is the best, change the learning rates.

        Raises:
            DivergedError: the mapping is no longer finite.
        """
        if not bool(self.mapping.isfinite().all()):
            raise DivergedError(
                "AdversarialAligner: the mapping is no longer finite; lower learning_rate, or "
                "normalise the vectors"
            )
        value = mean_similarity(
            self.source @ self.mapping.T,
            self.target,
            words=self.config.criterion_words,
            rule=self.config.criterion_rule,
            neighbours=self.config.neighbours,
        )
        before = max((report.criterion for report in self.history), default=float("-inf"))
        better = value > before
        if better:
            self._best = self.mapping.clone()
        report = EpochReport(
            epoch=len(self.history) + 1,
            criterion=value,
            discriminator_loss=float(self._losses[0] / self._losses[1].clamp(min=1)),
            mapping_rate=self.mapping_rate,
            best=better,
        )
        self.history.append(report)
        self._losses.zero_()
        factor = self.config.decay
        if value < before:
            self._worse += 1
            if self._worse > self.config.forgiven:
                factor *= self.config.shrink
        self.mapping_rate = max(self.config.least_rate, self.mapping_rate * factor)
        if self.config.decay_discriminator:
            self.discriminator_rate = max(self.config.least_rate, self.discriminator_rate * factor)
        return report

    def fit(self, progress: Callable[[EpochReport], None] | None = None) -> Tensor:
        """Play the epochs that are left and return `best_mapping`."""
        while len(self.history) < self.config.epochs:
            for _ in range(self.config.epoch_steps):
                self.step()
            report = self.end_epoch()
            if progress:
                progress(report)
        return self.best_mapping

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that changes, as tensors and numbers, between any two steps."""
        return {
            "mapping": self.mapping,
            "best": self._best,
            "discriminator": self.discriminator.state_dict(),
            "generator": self._generator.get_state(),
            "rates": (self.mapping_rate, self.discriminator_rate),
            "worse": self._worse,
            "losses": self._losses.clone(),
            "history": [tuple(report) for report in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.mapping = state["mapping"].clone()
        self._best = state["best"].clone()
        self.discriminator.load_state_dict(state["discriminator"])
        self._generator.set_state(state["generator"])
        self.mapping_rate, self.discriminator_rate = state["rates"]
        self._worse = state["worse"]
        self._losses = state["losses"].clone()
        self.history = [EpochReport(*report) for report in state["history"]]
