"""From measured blocks to a predictor in one call: vocabulary, training, intervals, errors.

Some blocks are kept from training: one part sets the width of the intervals, another is predicted
at the end, and its errors are what the card says. They are drawn at random, so some of them have
the instructions of a training block with other data; `splits` has stricter ways to divide.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from gonzo.ithemal.batch import encode
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.metrics import Errors, coverage, errors
from gonzo.ithemal.model import ThroughputModel
from gonzo.ithemal.predictor import MODELS, Predictor
from gonzo.ithemal.splits import split
from gonzo.ithemal.tokens import Vocabulary, tokenize
from gonzo.ithemal.training import Loop, TrainConfig, fit

__all__ = ["Learnt", "learn"]

LEAST = 200
"""Fewer blocks are refused: nothing is learnt from them, and nothing can be said about it."""

USUAL_LENGTH = "instructions_of_99_percent"
"""The card's entry: 99 % of the training blocks have at most so many instructions."""

_LEAST_FOR_INTERVALS = 20


class Learnt(NamedTuple):
    """What `learn` returns.

    Attributes:
        predictor: the trained predictor, with its card.
        errors: of each machine, on blocks that were kept from training.
        coverage: of each machine, the part of these that its 90 % interval holds.
        used: the rows of the blocks that it has seen, sorted: for training and for intervals.
    """

    predictor: Predictor
    errors: dict[str, Errors]
    coverage: dict[str, float]
    used: NDArray[np.int64]


def learn(
    blocks: Sequence[BasicBlock],
    cycles: ArrayLike,
    machines: Sequence[str],
    *,
    model: str = "GraphThroughput",
    config: TrainConfig | None = None,
    start: Predictor | None = None,
    known: ArrayLike | None = None,
    loop: Loop | None = None,
    log: Callable[..., None] | None = None,
) -> Learnt:
    """Train a predictor.

    Args:
        blocks: n measured blocks; the same block may be there once for each machine.
        cycles: (n,) their cycles, positive.
        machines: (n,) where each was measured, `measure.cpu_model()` there.
        model: "GraphThroughput", "Ithemal" or "LinearBag", of the default size.
        config: how to train.
        start: a predictor to go on from, whose kind of model is kept; machines that it does not
            know get a head of their own.
        known: (n,) whether `start` was trained on a block (`seen.seen`): those are trained on
            again, and say nothing about its errors.
        loop: as in `training.fit`.
        log: as in `training.fit`.

    Raises:
        ValueError: fewer than 200 blocks, columns of different length, a value that is not
            positive, or an unknown model.
    """
    truth = np.asarray(cycles, dtype=float)
    if len(blocks) < LEAST:
        raise ValueError(f"expected at least {LEAST} measured blocks to learn, got {len(blocks)}")
    if not len(blocks) == len(truth) == len(machines):
        raise ValueError(
            f"expected as many cycles and machines as blocks, {len(blocks)}, got {len(truth)} "
            f"and {len(machines)}"
        )
    config = config or TrainConfig()
    old = np.zeros(len(blocks), dtype=bool) if known is None else np.asarray(known, dtype=bool)
    fresh = np.flatnonzero(~old)
    if len(fresh) < LEAST:
        raise ValueError(
            f"the model to go on from was trained on all but {len(fresh)} of these blocks; "
            f"expected at least {LEAST} others, to judge it by"
        )
    shares = (0.9, 0.05, 0.05) if len(fresh) >= 2000 else (0.7, 0.15, 0.15)
    # By code, so that a block measured on two machines is on one side of the line.
    parts = split([blocks[row].code for row in fresh], shares, seed=config.seed)
    train, middle, test = (fresh[part] for part in parts)
    train = np.sort(np.concatenate([train, np.flatnonzero(old)]))
    names = list(dict.fromkeys(machines))
    if start is None:
        vocabulary = Vocabulary.build(tokenize(blocks[row]) for row in train)
        network = _new(model, len(vocabulary), names, config.seed)
    else:
        vocabulary, network = start.vocabulary, start.model
        for name in names:
            if name not in network.machines:
                network = network.with_machine(name)
    encoded = encode(blocks, vocabulary)
    fit(
        network,
        encoded,
        truth,
        replace(config, batch=min(config.batch, len(train))),
        rows=train,
        machines=machines,
        loop=loop,
        log=log,
    )
    predictor = Predictor(network, vocabulary, scales=start.scales if start else None)
    found: dict[str, Errors] = {}
    covered: dict[str, float] = {}
    where = np.array(machines)
    for name in names:
        rows = middle[where[middle] == name]
        if len(rows) >= _LEAST_FOR_INTERVALS:
            part = encode([blocks[row] for row in rows], vocabulary)
            predictor.calibrate(part, truth[rows], machine=name)
        rows = test[where[test] == name]
        if len(rows):
            answer = predictor.predict([blocks[row] for row in rows], machine=name)
            found[name] = errors(answer.cycles, truth[rows])
            covered[name] = coverage(answer.low, answer.high, truth[rows])
    lengths = [len(blocks[row]) for row in train]
    predictor.card = _card(machines, train, config, found, covered) | usual_length(lengths)
    return Learnt(predictor, found, covered, np.sort(np.concatenate([train, middle])))


def usual_length(lengths: Sequence[int]) -> dict[str, int]:
    """Return a card's entry on how long the blocks are that a model was trained on."""
    return {USUAL_LENGTH: int(np.percentile(lengths, 99))}


def _new(model: str, n_token: int, machines: Sequence[str], seed: int) -> ThroughputModel:
    kinds: dict[str, Any] = {kind.__name__: kind for kind in MODELS}
    if model not in kinds:
        raise ValueError(f"expected the model to be one of {', '.join(kinds)}, got {model!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kinds[model](n_token, machines=machines)


def _card(
    machines: Sequence[str],
    train: NDArray[np.int64],
    config: TrainConfig,
    found: dict[str, Errors],
    covered: dict[str, float],
) -> dict[str, Any]:
    count = dict.fromkeys(machines, 0)
    for row in train:
        count[machines[row]] += 1
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "training_blocks": count,
        "held_out_errors": {
            name: {**error._asdict(), "interval_coverage": covered[name]}
            for name, error in found.items()
        },
        "config": asdict(config),
        "torch": torch.__version__,
    }
