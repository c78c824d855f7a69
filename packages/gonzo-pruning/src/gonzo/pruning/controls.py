"""The controls that a lottery ticket is measured against (Frankle and Carbin 2019, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from torch import nn

__all__ = ["Controls"]


@dataclass(frozen=True)
class Controls:
    """Which controls `LotteryRun` trains beside each ticket, and how often.

    All train for as many steps as the ticket of their round and none sees its trained weights.

    Attributes:
        reinit: The ticket's mask, weights drawn anew: this many draws.
        random_mask: The ticket's weights, a random mask with as many alive weights in each layer:
            this many draws.
        one_shot: The ticket's weights; a mask with as many alive weights in each layer, drawn at
            once from the trained dense network.
        dense: ``dense(n)`` returns a fresh, smaller network with about n trainable parameters, as
            many as the ticket has that are not pruned; it is trained once per round. One with
            over 10 % more or less is refused.
        rounds: The rounds, from 1, that have controls; None for all.

    Raises:
        ValueError: A count or a round is not possible.
        TypeError: ``one_shot`` is no bool, ``dense`` no function or ``rounds`` no list.
    """

    reinit: int = 0
    random_mask: int = 0
    one_shot: bool = False
    dense: Callable[[int], nn.Module] | None = None
    rounds: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name in ("reinit", "random_mask"):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ValueError(f"Controls: expected {name} as a count from 0, got {count!r}")
        if not isinstance(self.one_shot, bool):
            raise TypeError(
                f"Controls: expected one_shot to be True or False, got {self.one_shot!r}"
            )
        if self.dense is not None and (
            isinstance(self.dense, nn.Module) or not callable(self.dense)
        ):
            raise TypeError(
                "Controls: expected dense as a function of a number of parameters that returns a "
                f"network, got {self.dense!r}"
            )
        rounds = self.rounds
        if rounds is not None and (isinstance(rounds, str) or not isinstance(rounds, Collection)):
            raise TypeError(f"Controls: expected rounds as a list such as [1, 5], got {rounds!r}")
        for number in rounds or ():
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(
                    f"Controls: expected rounds of 1 or more, got {number!r}; round 0 is the dense "
                    "network itself"
                )

    def of(self, number: int) -> list[tuple[str, int]]:
        """Return the kind and the replicate of every control of one round.

        Args:
            number: The round.
        """
        if number == 0 or (self.rounds is not None and number not in self.rounds):
            return []
        return [
            *(("reinit", replicate) for replicate in range(self.reinit)),
            *(("random-mask", replicate) for replicate in range(self.random_mask)),
            *([("one-shot", 0)] if self.one_shot else []),
            *([("dense", 0)] if self.dense is not None else []),
        ]
