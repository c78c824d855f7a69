"""The baseline: cycles as a sum over tokens, each of which costs something wherever it stands.

    cycles = sum over instructions, sum over their tokens t of w[t],  w >= 0

It knows neither order nor dependences, so its error says what those are worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.ithemal.batch import Batch
from gonzo.ithemal.model import ThroughputModel, check_machines

__all__ = ["LinearBag"]


class LinearBag(ThroughputModel):
    """Sum of a cost for each token.

    Args:
        n_token: size of the vocabulary.
        machines: names of the machines that the measurements come from.
    """

    def __init__(self, n_token: int, *, machines: Sequence[str] = ("here",)) -> None:
        super().__init__()
        self.machines = check_machines(machines)
        self.n_token = n_token
        self.heads = nn.ModuleList(_Costs(n_token) for _ in self.machines)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that build a model of this shape."""
        return {"n_token": self.n_token, "machines": self.machines}

    def features(self, batch: Batch) -> tuple[Tensor, Tensor, Batch]:
        """Return the tokens of the distinct instructions, whose they are, and the batch."""
        return batch.tokens, owners(batch.token_sizes), batch


class _Costs(nn.Module):
    def __init__(self, n_token: int) -> None:
        super().__init__()
        # A block of some 6 instructions of 7 tokens begins at one cycle.
        self.cost = nn.Parameter(torch.full((n_token,), math.log(math.expm1(1 / 40))))
        self.width = nn.Parameter(torch.full((2,), -1.0))

    def forward(self, features: tuple[Tensor, Tensor, Batch]) -> Tensor:
        tokens, owner, batch = features
        cost = F.softplus(self.cost)
        instruction = cost.new_zeros(int(batch.token_sizes[0]))
        instruction = instruction.index_add(0, owner, cost[tokens])
        cycles = cost.new_zeros(len(batch.place))
        cycles = cycles.index_add(0, batch.block, instruction[batch.instruction])
        return torch.cat([cycles[:, None], self.width.expand(len(cycles), 2)], 1)


def owners(sizes: Tensor) -> Tensor:
    """Return which sequence each element of packed data belongs to, (sum of sizes,) int64."""
    first = sizes.cumsum(0) - sizes
    return torch.arange(int(sizes.sum())) - first.repeat_interleave(sizes)
