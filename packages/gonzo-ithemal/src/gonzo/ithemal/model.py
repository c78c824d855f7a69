"""What every throughput model has: a head for each machine, and an estimate with an interval."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core.pretrained import Pretrained
from gonzo.ithemal.batch import Batch

__all__ = ["Estimate", "ThroughputModel"]


class Estimate(NamedTuple):
    """Cycles per repetition, with an interval."""

    cycles: Tensor
    """(blocks,)."""
    low: Tensor
    """(blocks,) meant to be below the truth for 95 % of blocks."""
    high: Tensor
    """(blocks,) meant to be above the truth for 95 % of blocks."""


class ThroughputModel(Pretrained):
    """A network that predicts the cycles of blocks on one machine or several.

    A subclass has `features`, which all machines share, and fills `heads` with one module for each
    machine: features -> (blocks, 3), the longest block first. The columns are the cycles, and how
    far below and above them the interval reaches: softplus of these is a log ratio.
    """

    machines: tuple[str, ...]
    heads: nn.ModuleList

    def features(self, batch: Batch) -> Any:
        """Return what the heads read."""
        raise NotImplementedError

    def forward(self, batch: Batch, machine: Tensor | None = None) -> Estimate:
        """Predict.

        Args:
            batch: the blocks.
            machine: (blocks,) int64, an index into `machines` for each block; by default 0.
        """
        features = self.features(batch)
        if machine is None:
            machine = torch.zeros_like(batch.place)
        present = machine.unique().tolist()
        raw = self.heads[present[0]](features)[batch.place]
        for index in present[1:]:
            other = self.heads[index](features)[batch.place]
            raw = torch.where((machine == index)[:, None], other, raw)
        return self.estimate(raw)

    @staticmethod
    def estimate(raw: Tensor) -> Estimate:
        """Read the columns of a head, (blocks, 3)."""
        cycles = raw[:, 0]
        below, above = F.softplus(raw[:, 1:]).unbind(1)
        return Estimate(cycles, cycles * torch.exp(-below), cycles * torch.exp(above))

    def with_machine(self, name: str, like: str | None = None) -> Self:
        """Return a copy with a head for one more machine, to be trained on its measurements.

        Args:
            name: the new machine.
            like: the machine whose head the new one starts as; by default the first.

        Raises:
            ValueError: there is such a machine already, or none like that.
        """
        if name in self.machines:
            raise ValueError(f"the model has a head for {name!r} already; train that one")
        like = self.machines[0] if like is None else like
        if like not in self.machines:
            raise ValueError(f"no head for {like!r}; the model has {', '.join(self.machines)}")
        arguments = {**self.arguments(), "machines": (*self.machines, name)}
        with torch.random.fork_rng(devices=[]):
            model = type(self)(**arguments)
        model.load_state_dict(self.state_dict(), strict=False)
        model.heads[-1].load_state_dict(self.heads[self.machines.index(like)].state_dict())
        return model

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that build a model of this shape."""
        raise NotImplementedError


def check_machines(machines: Any) -> tuple[str, ...]:
    """Return the names of machines as a tuple, or say what is wrong with them."""
    if isinstance(machines, str) or not all(isinstance(name, str) for name in machines):
        raise TypeError(f'expected a sequence of names, such as ("here",), got {machines!r}')
    names = tuple(machines)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected at least one machine and no name twice, got {names!r}")
    return names
