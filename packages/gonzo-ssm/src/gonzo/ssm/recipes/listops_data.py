"""ListOps, as in the Long Range Arena: nested lists of digits, and the digit that they come to.

    [MAX 4 3 [MIN 2 3 ] 1 0 [MED 1 5 8 9 2 ] ]    comes to 5

The grammar is that of the generator which the Long Range Arena published (Tay et al. 2021, after
Nangia and Bowman 2018). An expression above the greatest depth is a list with probability ¼ and a
digit otherwise; a list has one of four operators, and from two to `max_args` expressions, each
number as likely as any other:

    MIN, MAX    the least and the greatest
    MED         the median, rounded down where it lies between two
    SM          the sum modulo 10

An expression is kept if its number of tokens lies strictly between `min_length` and `max_length`,
and if it was not seen before. A token is a digit, an operator with its opening bracket, or a
closing bracket; the original's round brackets, which its readers drop, are not written.

The random numbers are ours, so the expressions are not those of the published files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from gonzo.lab.training import Examples, require

NESTING = 0.25
DIGITS = 10
OPERATORS: dict[str, Callable[[list[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: _median(values),
    "[SM": lambda values: sum(values) % 10,
}
TOKENS = (*map(str, range(DIGITS)), *OPERATORS, "]")
"""What the numbers in the data stand for."""
PADDING = len(TOKENS)
"""The number behind the end of a shorter expression."""

_CLOSE = TOKENS.index("]")
_APPLY = tuple(OPERATORS.values())


@dataclass(frozen=True)
class Grammar:
    """Which expressions are drawn; as it stands, the Long Range Arena's."""

    min_length: int = 500
    """Expressions have more tokens than this,"""
    max_length: int = 2000
    """and fewer than this."""
    max_depth: int = 10
    """Digits lie at most this deep; the whole expression is at 1."""
    max_args: int = 10

    def __post_init__(self) -> None:
        require(self.max_args >= 2, f"max_args of at least 2, got {self.max_args}")
        require(self.max_depth >= 2, f"max_depth of at least 2, got {self.max_depth}")
        require(self.min_length >= 3, f"min_length of at least 3, got {self.min_length}")
        require(
            self.max_length >= self.min_length + 2,
            f"max_length of at least min_length + 2, got {self.max_length} and {self.min_length}",
        )


def listops(grammar: Grammar, sizes: dict[str, int], *, seed: int) -> dict[str, Examples]:
    """Return splits that share no expression, padded with `PADDING` to the right.

    Args:
        grammar: what is drawn.
        sizes: the number of examples of each split. They are cut from one stream in this order,
            so that the first does not depend on the sizes of the others.
        seed: where the stream comes from.

    Returns:
        For each split the tokens (n, max_length - 1) uint8 and the values (n,) int64.
    """
    stream = distinct_expressions(grammar, random.Random(seed))
    splits = {}
    for name, size in sizes.items():
        tokens = torch.full((size, grammar.max_length - 1), PADDING, dtype=torch.uint8)
        values = torch.empty(size, dtype=torch.int64)
        for row in range(size):
            expression, value = next(stream)
            tokens[row, : len(expression)] = torch.frombuffer(
                bytearray(expression), dtype=torch.uint8
            )
            values[row] = value
        splits[name] = Examples(tokens, values)
    return splits


def distinct_expressions(grammar: Grammar, generator: random.Random) -> Iterator[tuple[bytes, int]]:
    """Yield expressions of the grammar, each once, as token numbers, with their values."""
    uniform = generator.random
    max_depth, max_length, choices = grammar.max_depth, grammar.max_length, grammar.max_args - 1
    tokens: list[int] = []

    def draw(depth: int) -> int:
        """Append one expression to the tokens and return its value; of one too long, a part."""
        if depth == max_depth or uniform() >= NESTING:
            digit = int(uniform() * DIGITS)
            tokens.append(digit)
            return digit
        operator = int(uniform() * len(_APPLY))
        tokens.append(DIGITS + operator)
        values = []
        for _ in range(2 + int(uniform() * choices)):
            values.append(draw(depth + 1))
            if len(tokens) >= max_length:
                break  # it will be thrown away
        tokens.append(_CLOSE)
        return _APPLY[operator](values)

    seen: set[bytes] = set()
    while True:
        tokens.clear()
        value = draw(1)
        if grammar.min_length < len(tokens) < max_length:
            expression = bytes(tokens)
            if expression not in seen:
                seen.add(expression)
                yield expression, value


def _median(values: list[int]) -> int:
    """Return the median, rounded down where it lies between two values."""
    ranked = sorted(values)
    return (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) // 2
