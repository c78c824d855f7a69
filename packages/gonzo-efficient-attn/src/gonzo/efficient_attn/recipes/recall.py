"""Learning to recall, and how often that is right, for both recipes of associative recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from gonzo.core.nn import LanguageModel
from gonzo.core.nn.linear_cross_entropy import IGNORED
from gonzo.lab import Run
from gonzo.lab.seeding import derive_seed
from gonzo.lab.training import Training, minimise

from .mqar_data import Recall

_TOKENS_AT_ONCE = 1 << 14


class Task(Protocol):
    """What examples are drawn of."""

    @property
    def length(self) -> int:
        """Tokens of an example."""
        ...

    def examples(self, n: int, *, seed: int, start: int = 0) -> Recall:
        """Return examples of a stream that the seed names."""
        ...


def learn(
    model: LanguageModel, tasks: Sequence[Task], training: Training, run: Run, *, seed: int
) -> None:
    """Train in place on the tasks in turn, with new examples at every step.

    Args:
        model: what is trained.
        tasks: a step draws from one of them, the next from the next.
        training: how; `batch` is of the shortest task, and of the others as many examples as have
            as many tokens.
        run: the run.
        seed: where the examples come from.
    """
    tokens = training.batch * min(task.length for task in tasks)

    def measure(step: int) -> dict[str, Tensor]:
        turn, which = divmod(step, len(tasks))
        n = max(1, tokens // tasks[which].length)
        stream = derive_seed(seed, f"train {which}")
        batch = tasks[which].examples(n, seed=stream, start=turn * n)
        logits, targets = _asked(model, batch, run.device)
        right = (logits.argmax(-1) == targets).float().mean()
        return {"loss": F.cross_entropy(logits, targets), "train_accuracy": right * 100}

    minimise(model, training, run, measure)


@torch.no_grad()
def recall_accuracy(model: LanguageModel, task: Task, n: int, run: Run, *, seed: int) -> float:
    """Return the share of keys whose value is named, in per cent, over n examples.

    They are of another stream than those that `learn` draws with the same seed.
    """
    model.eval()
    test = task.examples(n, seed=derive_seed(seed, "test"))
    rows = max(1, _TOKENS_AT_ONCE // task.length)
    right = total = 0
    for tokens, targets in zip(test.tokens.split(rows), test.targets.split(rows), strict=True):
        logits, wanted = _asked(model, Recall(tokens, targets), run.device)
        right += int((logits.argmax(-1) == wanted).sum())
        total += len(wanted)
    return 100 * right / total


def _asked(model: LanguageModel, batch: Recall, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return logits and targets where something is asked, the only places that need logits."""
    tokens, targets = batch.tokens.to(device), batch.targets.to(device)
    asked = targets != IGNORED
    return model.head(model.stack(model.embedding(tokens))[asked]), targets[asked]
