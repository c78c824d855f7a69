"""Teaching linear attention the weights of softmax, layer by layer, before all other training.

The teacher reads the data; each of its attention layers and the student's layer in the same place
get the teacher's hidden states, and the student's feature map is fitted to the teacher's weights
(`attention_distillation_loss`), while everything else stays as it is.

Zhang, Bhatia, Kumbong, Ré: The Hedgehog & the Porcupine: Expressive Linear Attentions with Softmax
Mimicry (2024), https://arxiv.org/abs/2402.04347, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gonzo.core.nn import CausalAttention

from .distillation_loss import attention_distillation_loss
from .hybrid import HybridAttention
from .linear_attention import LinearAttention
from .projections import attention_inputs, attention_layers, queries_and_keys

__all__ = ["AttentionDistillation", "Distilled", "distill_attention"]


class Distilled(NamedTuple):
    """How distillation went."""

    loss: Tensor
    """(steps,): the mean over layers at each step, before its update, in nats."""
    by_layer: Tensor
    """(steps, layers): each layer's."""


class AttentionDistillation:
    """The loss between each pair of attention layers, for a training loop of one's own.

    Args:
        teacher: a model with causal softmax attention, or one such layer.
        student: its like with `LinearAttention` or `HybridAttention`, as `linearize` makes it. A
            layer that is still softmax is left out, and so is the teacher's in its place.
        block: see `attention_distillation_loss`.

    Attributes:
        parameters: what is trained: of the feature maps, and each hybrid layer's balance.

    Raises:
        ValueError: the layers do not pair up, or no map has parameters.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, *, block: int = 128) -> None:
        self.teacher, self.block = teacher, block
        self._pairs: dict[nn.Module, LinearAttention | HybridAttention] = _pairs(teacher, student)
        wanted: list[nn.Parameter] = []
        for layer in self._pairs.values():
            wanted += layer.feature_map.parameters()
            if isinstance(layer, HybridAttention):
                wanted.append(layer.balance)
        self.parameters = nn.ParameterList(dict.fromkeys(p for p in wanted if p.requires_grad))
        if not len(self.parameters):
            maps = {type(layer.feature_map).__name__ for layer in self._pairs.values()}
            raise ValueError(
                f"AttentionDistillation: the student's maps ({', '.join(sorted(maps))}) have "
                "nothing to train; use feature_map='hedgehog'"
            )

    def losses(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the loss of every layer, (layers,), in the order in which the teacher runs them.

        Gradients reach `parameters` alone.

        Args:
            x: what the teacher takes: tokens (batch, time), or (batch, time, d_model).
            lengths: (batch,) valid steps of each sequence of a right-padded batch.
        """
        losses = []
        for teacher, hidden in attention_inputs(self.teacher, x, lengths):
            student = self._pairs.get(teacher)
            if student is None:
                continue
            with torch.no_grad():
                teacher_q, teacher_k = queries_and_keys(teacher, hidden)
                student_q, student_k = queries_and_keys(student, hidden)
            hybrid = isinstance(student, HybridAttention)
            losses.append(
                attention_distillation_loss(
                    teacher_q, teacher_k, student_q, student_k, student.feature_map,
                    window=student.window if hybrid else None,
                    balance=student.balance if hybrid else None,
                    lengths=lengths,
                    block=self.block,
                )
            )  # fmt: skip
        if not losses:
            raise ValueError(
                "AttentionDistillation: the teacher ran without calling one of its attention layers"
            )
        return torch.stack(losses)


def distill_attention(
    teacher: nn.Module,
    student: nn.Module,
    data: Iterable[Tensor | tuple[Tensor, Tensor]],
    *,
    steps: int,
    lr: float = 1e-2,
    block: int = 128,
    progress: Callable[[int, float], object] | None = None,
) -> Distilled:
    """Fit the student's feature maps to the teacher's attention weights, in place.

    Example::

        student = linearize(teacher)
        distill_attention(teacher, student, batches, steps=500)

    Adam, with a learning rate that falls to zero on a cosine. Nothing but the maps (and the balance
    of hybrid layers) changes, and the global random state is left alone. To train in a loop of your
    own, with another optimizer or checkpoints, use `AttentionDistillation`.

    Args:
        teacher: a model with causal softmax attention, or one such layer.
        student: its like with linear attention; see `linearize`.
        data: batches of what the teacher takes: tokens (batch, time) for a language model, or
            (batch, time, d_model) for a layer or stack; or pairs of that and lengths (batch,).
        steps: updates, each on one batch.
        lr: the learning rate to begin with.
        block: queries at a time, see `attention_distillation_loss`.
        progress: called after each update with the number of those done and the loss before it.

    Raises:
        ValueError: teacher and student do not fit one another, `data` ends early, or a number is
            out of range.
        FloatingPointError: the loss is not finite.

    Source:
        Zhang, Bhatia, Kumbong, Ré (2024), https://arxiv.org/abs/2402.04347, section 4
    """
    if steps < 1 or not lr > 0:
        raise ValueError(
            f"distill_attention: expected steps of at least 1 and lr above 0, got {steps} and {lr}"
        )
    distillation = AttentionDistillation(teacher, student, block=block)
    parameters = list(distillation.parameters)
    optimizer = torch.optim.Adam(parameters, lr=lr)
    batches, history = iter(data), []
    for step in range(steps):
        batch = next(batches, None)
        if batch is None:
            raise ValueError(
                f"distill_attention: expected data for {steps} steps, got {step} batches; pass "
                "itertools.cycle(list(data)) to read it again"
            )
        x, lengths = batch if isinstance(batch, tuple) else (batch, None)
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        with torch.enable_grad():
            losses = distillation.losses(x, lengths)
            gradients = torch.autograd.grad(losses.mean(), parameters)
        mean = float(losses.detach().mean())
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"distill_attention: the loss is {mean} at step {step}; lower lr={lr}"
            )
        # Set by hand: backward() would add to gradients that the caller keeps.
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad()
        history.append(losses.detach().cpu())
        if progress is not None:
            progress(step + 1, mean)
    by_layer = torch.stack(history)
    return Distilled(by_layer.mean(1), by_layer)


def _pairs(
    teacher: nn.Module, student: nn.Module
) -> dict[nn.Module, LinearAttention | HybridAttention]:
    """The student's linear layers by the teacher's softmax layers in their places."""
    name = "AttentionDistillation"
    theirs, ours = attention_layers(teacher), attention_layers(student)
    if not theirs or not ours:
        who, model = ("teacher", teacher) if not theirs else ("student", student)
        raise ValueError(
            f"{name}: the {who}, a {type(model).__name__}, holds no attention layer "
            "(CausalAttention, LinearAttention or HybridAttention)"
        )
    if len(theirs) != len(ours):
        raise ValueError(
            f"{name}: expected as many attention layers in both, got {len(theirs)} in the teacher "
            f"({', '.join(theirs)}) and {len(ours)} in the student ({', '.join(ours)})"
        )
    pairs: dict[nn.Module, LinearAttention | HybridAttention] = {}
    for (place, softmax), linear in zip(theirs.items(), ours.values(), strict=True):
        if isinstance(linear, CausalAttention):
            continue
        where = f"{name}: in the teacher's place {place or 'itself'}, "
        if not isinstance(softmax, CausalAttention) or softmax.window is not None:
            raise ValueError(
                f"{where}expected a CausalAttention that sees all of the past, got {softmax}"
            )
        if (softmax.n_head, softmax.d_model) != (linear.n_head, linear.d_model):
            raise ValueError(
                f"{where}expected n_head={linear.n_head} and d_model={linear.d_model}, those of "
                f"the student, got {softmax.n_head} and {softmax.d_model}"
            )
        pairs[softmax] = linear
    if not pairs:
        raise ValueError(
            f"{name}: the student has softmax attention only; student = linearize(teacher)"
        )
    return pairs
