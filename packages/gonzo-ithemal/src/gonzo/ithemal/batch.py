"""Blocks as numbers: tokens and dependences in flat columns, and mini-batches taken from them.

A batch holds every distinct instruction once, however many blocks contain it, and every position
of every block as a node. Nodes are in time-major order, longest block first, which is the order of
a packed sequence: recurrent networks read it without padding, graph networks do not mind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.dependencies import dependencies
from gonzo.ithemal.tokens import Vocabulary, tokenize

__all__ = ["RELATIONS", "Batch", "EncodedBlocks", "encode"]

KINDS = ("register", "flags", "memory", "address")
RELATIONS = tuple((kind, carried) for carried in (False, True) for kind in KINDS)
"""What an edge can be: a kind of dependence, and whether the last repetition produced the value."""

Integers = NDArray[np.int64]


class Batch(NamedTuple):
    """Some blocks, ready for a model."""

    tokens: Tensor
    """(t,) token numbers of the distinct instructions, packed: all first tokens come first."""
    token_sizes: Tensor
    """(longest,) how many instructions have a k-th token; the first is u, their number."""
    instruction: Tensor
    """(n,) which of the u distinct instructions a node is."""
    sizes: Tensor
    """(longest,) how many blocks have a k-th instruction; their sum is n."""
    block: Tensor
    """(n,) which block a node is in, counting from the longest."""
    place: Tensor
    """(blocks,) where the blocks that were asked for are, counting from the longest."""
    producer: Tensor
    """(e,) the node that produces a value. Edges are block by block, in the order of consumers."""
    consumer: Tensor
    """(e,) the node that needs it."""
    relation: Tensor
    """(e,) int64, an index into `RELATIONS`."""


@dataclass(frozen=True)
class EncodedBlocks:
    """Blocks as flat columns. Make them with `encode`.

    Args:
        tokens: the token numbers of every distinct instruction, one after another.
        token_starts: (distinct + 1,) where an instruction's tokens start.
        instruction: for every position of every block, which distinct instruction is there.
        starts: (blocks + 1,) where a block's positions start.
        edges: (e, 3) producer and consumer as positions in their block, and the relation; those of
            a block in the order of their consumers.
        edge_starts: (blocks + 1,) where a block's edges start.
    """

    tokens: Integers
    token_starts: Integers
    instruction: Integers
    starts: Integers
    edges: Integers
    edge_starts: Integers

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Integers:
        """(blocks,) instructions in each block."""
        return np.diff(self.starts)

    def signature(self, row: int) -> bytes:
        """Return a key that two blocks share when their token sequences are equal."""
        return self.instruction[self.starts[row] : self.starts[row + 1]].tobytes()

    def batch(self, rows: Sequence[int] | Integers) -> Batch:
        """Collect blocks.

        Args:
            rows: (blocks,) which, at least one.

        Raises:
            ValueError: there are no rows, or one is out of range.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if not len(wanted) or wanted.min() < 0 or wanted.max() >= len(self):
            raise ValueError(
                f"expected at least one row, each within 0 … {len(self) - 1}, got {wanted!r}"
            )
        lengths = self.lengths[wanted]
        order = np.argsort(-lengths, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        node, block, at, sizes = _time_major(lengths[order])
        positions = self.starts[wanted[order]][block] + at
        distinct, instruction = np.unique(self.instruction[positions], return_inverse=True)

        counts = self.token_starts[distinct + 1] - self.token_starts[distinct]
        longest = np.argsort(-counts, kind="stable")
        renumbered = np.empty_like(longest)
        renumbered[longest] = np.arange(len(longest))
        _, owner, index, token_sizes = _time_major(counts[longest])
        tokens = self.tokens[self.token_starts[distinct[longest]][owner] + index]

        edge_counts = self.edge_starts[wanted + 1] - self.edge_starts[wanted]
        edges = self.edges[_ranges(self.edge_starts[wanted], edge_counts)]
        first = np.repeat(place, edge_counts)
        columns = (
            tokens,
            token_sizes,
            renumbered[instruction],
            sizes,
            block,
            place,
            node[edges[:, 0]] + first,
            node[edges[:, 1]] + first,
            edges[:, 2],
        )
        return Batch(*(torch.from_numpy(np.ascontiguousarray(column)) for column in columns))


def encode(blocks: Iterable[BasicBlock], vocabulary: Vocabulary) -> EncodedBlocks:
    """Tokenise blocks and find their dependences.

    Args:
        blocks: any number of blocks.
        vocabulary: the numbers of the tokens. Unknown tokens fall back to their classes.
    """
    seen: dict[tuple[str, ...], int] = {}
    numbers: dict[tuple[int, ...], int] = {}
    tokens: list[int] = []
    token_starts, starts, edge_starts = [0], [0], [0]
    instruction: list[int] = []
    edges: list[tuple[int, int, int]] = []
    relation = {pair: index for index, pair in enumerate(RELATIONS)}
    for block in blocks:
        for words in tokenize(block):
            number = seen.get(words)
            if number is None:
                encoded = tuple(map(vocabulary.encode, words))
                seen[words] = number = numbers.setdefault(encoded, len(numbers))
                if number == len(token_starts) - 1:
                    tokens.extend(encoded)
                    token_starts.append(len(tokens))
            instruction.append(number)
        starts.append(len(instruction))
        edges.extend(
            (producer, consumer, relation[kind, carried])
            for producer, consumer, kind, carried in dependencies(block)
        )
        edge_starts.append(len(edges))
    return EncodedBlocks(
        _column(tokens),
        _column(token_starts),
        _column(instruction),
        _column(starts),
        _column(edges).reshape(-1, 3),
        _column(edge_starts),
    )


def _column(values: Sequence[int] | Sequence[tuple[int, int, int]]) -> Integers:
    return np.array(values, dtype=np.int64)


def _ranges(starts: Integers, counts: Integers) -> Integers:
    """Concatenate arange(start, start + count) for each pair."""
    ends = counts.cumsum()
    return np.arange(ends[-1]) + np.repeat(starts - ends + counts, counts)


def _time_major(lengths: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """Lay out sequences of falling length step by step.

    Returns:
        (longest,) the number of step k of sequence 0, so that step k of sequence s has that + s;
        (n,) the sequence and the step of each number; and (longest,) sequences per step.
    """
    longest = lengths[0]
    sizes = np.searchsorted(-lengths, -np.arange(longest), side="left")
    ends = sizes.cumsum()
    first = ends - sizes
    step = np.repeat(np.arange(longest), sizes)
    return first, np.arange(ends[-1]) - first[step], step, sizes
