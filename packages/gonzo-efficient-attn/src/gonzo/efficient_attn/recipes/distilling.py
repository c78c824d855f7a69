"""Distillation of attention on stretches of a text, in a loop that survives being killed."""

from __future__ import annotations

import torch
from torch import Tensor

from gonzo.core.nn import LanguageModel
from gonzo.efficient_attn.distillation import AttentionDistillation
from gonzo.lab import Run
from gonzo.lab.batches import Batches
from gonzo.lab.characters import windows
from gonzo.lab.training import Training, minimise


def distil(
    teacher: LanguageModel,
    student: LanguageModel,
    text: Tensor,
    training: Training,
    context: int,
    run: Run,
) -> None:
    """Fit the student's feature maps in place, on the stretches that training has in every arm."""
    distillation = AttentionDistillation(teacher, student)
    places = torch.arange(len(text) - context + 1)
    batches = Batches(places, batch_size=training.batch, seed=run.seed)

    def measure(step: int) -> dict[str, Tensor]:
        (starts,) = batches.at(step)
        return {"loss": distillation.losses(windows(text, starts, context)).mean()}

    minimise(distillation.parameters, training, run, measure)
