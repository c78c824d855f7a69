"""How far linear attention's weights are from softmax's, without either matrix in memory.

    loss = mean over batch, heads and queries i of  -Σ_{j ≤ i} p_ij log a_ij

with p the teacher's softmax weights and a the student's. It is their Kullback-Leibler divergence
and, on top, the entropy of p, which no student can change.

Zhang, Bhatia, Kumbong, Ré: The Hedgehog & the Porcupine: Expressive Linear Attentions with Softmax
Mimicry (2024), https://arxiv.org/abs/2402.04347, section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gonzo.core.sequence import time_mask

from .feature_maps import FeatureMap
from .weights import hybrid_rows, linear_rows, softmax_rows

__all__ = ["SMALLEST_WEIGHT", "attention_distillation_loss"]

SMALLEST_WEIGHT = 1e-12
"""A smaller weight of the student counts as this one, and gets no gradient: its logarithm may be
infinite."""


def attention_distillation_loss(
    teacher_q: Tensor,
    teacher_k: Tensor,
    student_q: Tensor,
    student_k: Tensor,
    feature_map: FeatureMap,
    *,
    teacher_scale: float | None = None,
    window: int | None = None,
    balance: Tensor | None = None,
    lengths: Tensor | None = None,
    block: int = 128,
) -> Tensor:
    """Return the mean cross entropy between softmax's weights and linear attention's, in nats.

    Queries are taken in blocks, and the backward pass computes each block once more: memory grows
    with time · block, never with time². The teacher gets no gradient.

    Args:
        teacher_q: (batch, n_head, time, d), queries of a causal softmax attention, after rotary
            positions if it has them.
        teacher_k: (batch, n_head, time, d).
        student_q: (batch, n_head, time, d_key), what the student's map is given; the teacher's own
            queries where a layer is converted.
        student_k: (batch, n_head, time, d_key).
        feature_map: the student's.
        teacher_scale: of the teacher's q·k; by default d ** -0.5.
        window: of a student that is a `HybridAttention`; None for linear attention alone.
        balance: (n_head,), that layer's, with `window`.
        lengths: (batch,) valid steps of each sequence of a right-padded batch; the mean is over the
            queries of valid steps.
        block: queries at a time.

    Returns:
        A number, in float32 at least; 0 where no step is valid.

    Raises:
        ValueError: wrong shapes, values or combinations.

    Source:
        Zhang, Bhatia, Kumbong, Ré (2024), https://arxiv.org/abs/2402.04347, section 4
    """
    _check(teacher_q, teacher_k, student_q, student_k, feature_map, window, balance, lengths, block)
    scale = teacher_q.shape[-1] ** -0.5 if teacher_scale is None else teacher_scale
    wide = torch.promote_types(student_q.dtype, torch.float32)
    features = feature_map.features(student_q, student_k)
    teacher_q, teacher_k = (t.detach().to(wide) for t in (teacher_q, teacher_k))
    student_q, student_k, fq, fk = (t.to(wide) for t in (student_q, student_k, *features))
    batch, n_head, time = teacher_q.shape[:3]
    valid = None
    if lengths is not None:
        valid = time_mask(lengths, time)[:, None].to(wide)  # (B, 1, T)

    def total(first: int) -> Tensor:
        """The sum over the queries of the block that begins at `first`."""
        last = min(first + block, time)
        rows, columns = slice(first, last), slice(last)

        def of(q: Tensor, k: Tensor, fq: Tensor, fk: Tensor, balance: Tensor | None) -> Tensor:
            if window is None or balance is None:
                weights = linear_rows(fq, fk, feature_map.eps)
            else:
                weights = hybrid_rows(q, k, fq, fk, balance.to(wide), window)
            target = softmax_rows(teacher_q[:, :, rows], teacher_k[:, :, columns], scale)
            entropy = -(target * weights.clamp(min=SMALLEST_WEIGHT).log()).sum(-1)
            return (entropy if valid is None else entropy * valid[:, :, rows]).sum()

        arguments = (
            *(student_q[:, :, rows], student_k[:, :, columns]),
            *(fq[:, :, rows], fk[:, :, columns], balance),
        )
        if block >= time or not torch.is_grad_enabled():  # one block is what memory is meant for
            return of(*arguments)
        return checkpoint(of, *arguments, use_reentrant=False, preserve_rng_state=False)

    summed = torch.stack([total(first) for first in range(0, time, block)]).sum()
    count = batch * time if lengths is None else lengths.sum().clamp(min=1)
    return summed / (n_head * count)


def _check(
    teacher_q: Tensor,
    teacher_k: Tensor,
    student_q: Tensor,
    student_k: Tensor,
    feature_map: FeatureMap,
    window: int | None,
    balance: Tensor | None,
    lengths: Tensor | None,
    block: int,
) -> None:
    name = "attention_distillation_loss"
    pairs = {"teacher": (teacher_q, teacher_k), "student": (student_q, student_k)}
    for who, (q, k) in pairs.items():
        if q.ndim != 4 or q.shape != k.shape or q.shape[2] < 1:
            raise ValueError(
                f"{name}: expected {who}_q and {who}_k of one shape (batch, n_head, time, d), "
                f"got {tuple(q.shape)} and {tuple(k.shape)}"
            )
    if teacher_q.shape[:3] != student_q.shape[:3]:
        raise ValueError(
            f"{name}: expected teacher and student of one batch, n_head and time, "
            f"got {tuple(teacher_q.shape[:3])} and {tuple(student_q.shape[:3])}"
        )
    wanted = (feature_map.n_head, feature_map.d_key)
    if (student_q.shape[1], student_q.shape[3]) != wanted:
        raise ValueError(
            f"{name}: the feature map is made for n_head={wanted[0]} and d_key={wanted[1]}, "
            f"got student_q of shape {tuple(student_q.shape)}"
        )
    if (window is None) != (balance is None):
        raise ValueError(f"{name}: window and balance belong together; give both or neither")
    if balance is not None and balance.shape != (feature_map.n_head,):
        raise ValueError(
            f"{name}: expected balance of shape ({feature_map.n_head},), got {tuple(balance.shape)}"
        )
    if (window is not None and window < 1) or block < 1:
        raise ValueError(
            f"{name}: expected window and block of at least 1, got {window} and {block}"
        )
    if lengths is not None and lengths.shape != teacher_q.shape[:1]:
        raise ValueError(
            f"{name}: expected lengths of shape ({len(teacher_q)},), got {tuple(lengths.shape)}"
        )
