"""Associative recall: keys with their values, then keys again, whose values are to be named.

    tokens     k3 v7 k1 v2  .  k1  .  .  .  k3  .  .
    targets     .  .  .  .  .  v2  .  .  .  v7  .  .

Multi-query recall (MQAR) asks for every key, each once, at gaps that are short more often than
long; single-query recall asks for one, right behind the pairs.

Arora et al.: Zoology: Measuring and Improving Recall in Efficient Language Models (2023),
https://arxiv.org/abs/2312.04927, for MQAR; Fu et al.: Hungry Hungry Hippos (2022),
https://arxiv.org/abs/2212.14052, for a single query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gonzo.core.nn.linear_cross_entropy import IGNORED
from gonzo.lab.training import require

Filler = Literal["random", "zero"]

_NUMBERS_AT_ONCE = 1 << 22


class Recall(NamedTuple):
    """Sequences, and what is asked."""

    tokens: Tensor
    """(n, time) int64."""
    targets: Tensor
    """(n, time) int64: the value of the key at this place, `IGNORED` where nothing is asked."""


@dataclass(frozen=True)
class MultiQuery:
    """One size of multi-query recall.

    Keys are from 1 … V/2 - 1 and values from V/2 … V - 1, none twice in an example. Pair i is at
    2i and 2i + 1, and is asked for at 2·pairs + 2(g_i - 1), with gaps g drawn without replacement
    from 1 … (length - 2·pairs) / 2 with probabilities proportional to power · g^(power - 1).
    """

    length: int = 64
    pairs: int = 4
    vocab_size: int = 512
    """V."""
    filler: Filler = "random"
    """What the other places hold: ``random``, any token from 1 on that is neither a key nor a value
    of the same example; or ``zero``, token 0."""
    power: float = 0.01

    def __post_init__(self) -> None:
        _require_pairs(self.pairs, self.vocab_size)
        require(
            self.length >= 4 * self.pairs,
            f"a length of at least 4 · pairs = {4 * self.pairs}, got {self.length}",
        )
        require(self.filler in get_args(Filler), f"filler 'random' or 'zero', got {self.filler!r}")
        require(self.power > 0, f"power above 0, got {self.power}")

    @property
    def gaps(self) -> int:
        """How many gaps there are to choose from."""
        return (self.length - 2 * self.pairs) // 2

    def examples(self, n: int, *, seed: int, start: int = 0) -> Recall:
        """Return the examples start … start + n - 1 of the stream that `seed` names.

        An example depends on the seed and on its number alone.
        """
        halves = self.vocab_size // 2 - 1, self.vocab_size - self.vocab_size // 2
        others = self.length - 3 * self.pairs
        sizes = (*halves, self.gaps, others if self.filler == "random" else 0)
        return _stream(sizes, self._assembled, n, seed, start)

    def _assembled(self, *uniform: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
        (keys, more_keys), (values, more_values) = _pairs(*uniform[:2], self.pairs)
        # Who draws without replacement, each in proportion to p, is who comes in first in a race
        # of exponential clocks of rates p.
        rates = np.arange(1, self.gaps + 1) ** (self.power - 1)
        gaps, _ = _first(-np.log1p(-uniform[2]) / rates, self.pairs)
        places = 2 * (self.pairs + gaps)
        tokens = np.zeros((len(keys), self.length), np.int64)
        _put_pairs(tokens, keys, values)
        np.put_along_axis(tokens, places, keys, 1)
        if self.filler == "random":
            allowed = np.concatenate([more_keys, more_values], 1)
            chosen = (uniform[3] * allowed.shape[1]).astype(np.int64)
            tokens[tokens == 0] = np.take_along_axis(allowed, chosen, 1).ravel()
        targets = np.full_like(tokens, IGNORED)
        np.put_along_axis(targets, places, values, 1)
        return tokens, targets


@dataclass(frozen=True)
class SingleQuery:
    """One size of single-query recall: the pairs, and one of their keys at 2 · pairs.

    Keys and values are drawn as in `MultiQuery`.
    """

    pairs: int = 8
    vocab_size: int = 40

    def __post_init__(self) -> None:
        _require_pairs(self.pairs, self.vocab_size)

    @property
    def length(self) -> int:
        """Tokens of an example."""
        return 2 * self.pairs + 1

    def examples(self, n: int, *, seed: int, start: int = 0) -> Recall:
        """Return the examples start … start + n - 1; see `MultiQuery.examples`."""
        halves = self.vocab_size // 2 - 1, self.vocab_size - self.vocab_size // 2
        return _stream((*halves, 1), self._assembled, n, seed, start)

    def _assembled(self, *uniform: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
        (keys, _), (values, _) = _pairs(*uniform[:2], self.pairs)
        asked = (uniform[2] * self.pairs).astype(np.int64)
        tokens = np.empty((len(keys), self.length), np.int64)
        _put_pairs(tokens, keys, values)
        tokens[:, -1:] = np.take_along_axis(keys, asked, 1)
        targets = np.full_like(tokens, IGNORED)
        targets[:, -1:] = np.take_along_axis(values, asked, 1)
        return tokens, targets


def _require_pairs(pairs: int, vocab_size: int) -> None:
    require(pairs >= 1, f"pairs of at least 1, got {pairs}")
    least = 2 * (pairs + 1)  # a value is left over then, of which filler can be
    require(
        vocab_size >= least,
        f"a vocab_size of at least 2 · (pairs + 1) = {least}, got {vocab_size}",
    )


def _stream(
    sizes: tuple[int, ...],
    assembled: Callable[..., tuple[NDArray[np.int64], ...]],
    n: int,
    seed: int,
    start: int,
) -> Recall:
    """Give each example as many uniform numbers of one stream, cut into pieces of these sizes."""
    if n < 1 or start < 0:
        raise ValueError(f"examples: expected n >= 1 and start >= 0, got {n} and {start}")
    edges, width = np.cumsum(sizes)[:-1].tolist(), sum(sizes)
    bits = np.random.PCG64(seed)
    bits.advance(start * width)  # a double takes one step of the generator
    generator = np.random.Generator(bits)
    rows = max(1, _NUMBERS_AT_ONCE // width)
    done = [
        assembled(*np.split(generator.random((min(rows, n - begin), width)), edges, 1))
        for begin in range(0, n, rows)
    ]
    tokens, targets = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*done, strict=True))
    return Recall(tokens, targets)


def _pairs(
    uniform_keys: NDArray[np.float64], uniform_values: NDArray[np.float64], pairs: int
) -> tuple[tuple[NDArray[np.int64], ...], tuple[NDArray[np.int64], ...]]:
    """Return the keys and the others of their half, and the same of the values."""
    first_value = 1 + uniform_keys.shape[1]
    keys = tuple(1 + part for part in _first(uniform_keys, pairs))
    values = tuple(first_value + part for part in _first(uniform_values, pairs))
    return keys, values


def _first(times: NDArray[np.float64], n: int) -> tuple[NDArray[np.int64], ...]:
    """Return the columns of the n smallest numbers, in their order, and the others in any."""
    order = np.argpartition(times, n - 1, axis=1)
    first, others = order[:, :n], order[:, n:]
    ranks = np.take_along_axis(times, first, 1).argsort(1)
    return np.take_along_axis(first, ranks, 1), others


def _put_pairs(
    tokens: NDArray[np.int64], keys: NDArray[np.int64], values: NDArray[np.int64]
) -> None:
    context = 2 * keys.shape[1]
    tokens[:, 0:context:2], tokens[:, 1:context:2] = keys, values
