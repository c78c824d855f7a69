"""Training: fixed steps over shuffled blocks, by relative error, with an interval learnt beside it.

The error that tables report is mean |o - y| / y, so that is what is minimised. The ends of the
interval get the pinball loss of the 5 % and 95 % quantiles of log y; their gradient reaches the
network through the ends alone, not through the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from gonzo.core import param_groups
from gonzo.ithemal.batch import Batch, EncodedBlocks
from gonzo.ithemal.config import TrainConfig, rates
from gonzo.ithemal.losses import interval_loss, prediction_loss
from gonzo.ithemal.model import Estimate, ThroughputModel

__all__ = ["TrainConfig", "estimate", "fit"]

_GROUP = 16  # batches among which blocks are sorted by length


class Loop(Protocol):
    """What yields the steps that are still to do, such as a loop that can be resumed."""

    def __call__(self, total: int, /, **stateful: Any) -> Iterator[int]:
        """Yield steps below `total`; everything that they change is in `stateful`."""
        ...


def fit(
    model: ThroughputModel,
    encoded: EncodedBlocks,
    cycles: ArrayLike,
    config: TrainConfig,
    *,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    machines: Sequence[str] | None = None,
    loop: Loop | None = None,
    log: Callable[..., None] | None = None,
) -> None:
    """Train a model in place.

    Args:
        model: what is trained.
        encoded: the blocks.
        cycles: (blocks,) measured cycles per repetition, above 0 in every training row.
        config: how.
        rows: the training rows; by default all.
        machines: (blocks,) the machine of each measurement; by default the model's first.
        loop: called with the number of steps and all that changes; by default a plain range.
        log: called with a step and its numbers by name.

    Raises:
        ValueError: columns of different length, cycles that are no positive numbers, a machine
            that the model does not know, or fewer rows than a batch.
    """
    rows = np.arange(len(encoded)) if rows is None else np.asarray(rows, dtype=np.int64)
    target = _check(model, encoded, cycles, rows, machines)
    order = _Order(encoded.lengths[rows], config.batch, config.seed)
    machine = _machine(model, machines, len(encoded))
    groups = param_groups(model, lr=config.lr, weight_decay=config.weight_decay)
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(groups)
        if config.optimizer == "adamw"
        else torch.optim.SGD(groups, momentum=0.9)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rates(config, len(order)))
    steps = _plain if loop is None else loop
    model.train()
    for step in steps(config.steps, model=model, optimizer=optimizer, schedule=schedule):
        picked = rows[order.at(step)]
        batch = _drop(encoded.batch(picked), config, step)
        y = torch.from_numpy(target[picked])
        out = model(batch, machine[picked])
        error = prediction_loss(out.cycles, y, config.loss)
        loss = error + config.interval * interval_loss(out, y)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        schedule.step()
        if log is not None:
            log(step, loss=loss.detach(), error=error.detach())
    model.eval()


@torch.inference_mode()
def estimate(
    model: ThroughputModel,
    encoded: EncodedBlocks,
    *,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    machine: str | None = None,
    nodes: int = 4096,
) -> Estimate:
    """Predict many blocks, batched by length.

    Args:
        model: a trained model.
        encoded: the blocks.
        rows: which; by default all.
        machine: whose cycles; by default the model's first machine.
        nodes: about how many instructions go through the network at a time.

    Returns:
        Three tensors of shape (rows,), in the order of `rows`.
    """
    rows = np.arange(len(encoded)) if rows is None else np.asarray(rows, dtype=np.int64)
    index = index_of(model, machine)
    training = model.training
    model.eval()
    result = torch.empty(3, len(rows))
    lengths = encoded.lengths[rows]
    order = np.argsort(-lengths, kind="stable")
    piece = lengths[order].cumsum() // nodes
    for positions in np.split(order, np.flatnonzero(np.diff(piece)) + 1) if len(rows) else []:
        out = model(encoded.batch(rows[positions]), torch.full((len(positions),), index))
        result[:, torch.from_numpy(positions)] = torch.stack(out)
    model.train(training)
    return Estimate(*result)


class _Order:
    """Batches of blocks of like length: a pure function of the seed and the step."""

    def __init__(self, lengths: NDArray[np.int64], batch: int, seed: int) -> None:
        if len(lengths) < batch:
            raise ValueError(
                f"fit: {len(lengths)} training blocks are less than a batch of {batch}; "
                "pass a TrainConfig with a smaller batch"
            )
        self._lengths, self._batch, self._seed = lengths, batch, seed
        self._epoch = -1
        self._batches = np.empty((0, batch), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._lengths) // self._batch

    def at(self, step: int) -> NDArray[np.int64]:
        epoch, position = divmod(step, len(self))
        if epoch != self._epoch:
            random = np.random.default_rng([self._seed, epoch])
            order = random.permutation(len(self._lengths))[: len(self) * self._batch]
            size = _GROUP * self._batch
            for first in range(0, len(order), size):
                group = order[first : first + size]
                order[first : first + size] = group[np.argsort(self._lengths[group], kind="stable")]
            self._batches = order.reshape(len(self), self._batch)[random.permutation(len(self))]
            self._epoch = epoch
        return self._batches[position]


def _drop(batch: Batch, config: TrainConfig, step: int) -> Batch:
    if not config.token_dropout:
        return batch
    random = np.random.default_rng([config.seed, step, 1])
    dropped = torch.from_numpy(random.random(len(batch.tokens)) < config.token_dropout)
    return batch._replace(tokens=batch.tokens.masked_fill(dropped, 0))


def _plain(total: int, /, **stateful: Any) -> Iterator[int]:
    return iter(range(total))


def _check(
    model: ThroughputModel,
    encoded: EncodedBlocks,
    cycles: ArrayLike,
    rows: NDArray[np.int64],
    machines: Sequence[str] | None,
) -> NDArray[np.float32]:
    target = np.asarray(cycles, dtype=np.float32)
    for name, column in (("cycles", target), ("machines", machines)):
        if column is not None and len(column) != len(encoded):
            raise ValueError(
                f"fit: expected one value in {name} for each of {len(encoded)} blocks, "
                f"got {len(column)}"
            )
    wrong = rows[~(np.isfinite(target[rows]) & (target[rows] > 0))]
    if len(wrong):
        raise ValueError(
            f"fit: expected cycles above 0; row {wrong[0]} has {target[wrong[0]]}, and so on for "
            f"{len(wrong)} rows; leave rows without a measurement out of `rows`"
        )
    return target


def _machine(model: ThroughputModel, machines: Sequence[str] | None, n: int) -> Tensor:
    if machines is None:
        return torch.zeros(n, dtype=torch.int64)
    return torch.tensor([index_of(model, name) for name in machines])


def index_of(model: ThroughputModel, machine: str | None) -> int:
    """Return the number of a machine's head; None means the first.

    Raises:
        ValueError: the model has no head for it.
    """
    if machine is None:
        return 0
    if machine not in model.machines:
        raise ValueError(
            f"the model knows {', '.join(map(repr, model.machines))} and not {machine!r}; "
            "with_machine gives it a head to train"
        )
    return model.machines.index(machine)
