"""The search for early-bird tickets: a training that is watched, and what is drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gonzo.lab.training import require
from gonzo.pruning.channels import batch_norm_scales
from gonzo.pruning.early_bird import EarlyBird
from gonzo.pruning.masks import Masks
from gonzo.pruning.plan import plan_pruning
from gonzo.pruning.rates import exact_rate

__all__ = ["Drawing", "Search"]


@dataclass(frozen=True)
class Drawing:
    """What is pruned, and when the ticket is drawn."""

    channels: str = "0.7"
    """Share of the channels of every layer that goes."""
    weights: str = "0.95"
    """Share of the weights of every convolution but the first that goes."""
    window: int = 5
    channel_threshold: float = 0.1
    weight_threshold: float = 0.025
    """With 5 % kept, no two masks differ in more than 10 %: the paper's 0.1 says nothing there."""

    def __post_init__(self) -> None:
        for rate in (self.channels, self.weights):
            require(0 < exact_rate(rate) < 1, f"rates between 0 and 1, got {rate}")


class Search:
    """Watches a training: masks of both kinds after every epoch, and weights at the drawings.

    Args:
        drawing: the rates, and when to draw.
        model: the network that is trained.
        epochs: of its training.
    """

    def __init__(self, drawing: Drawing, model: nn.Module, epochs: int) -> None:
        self._model = model
        self._epochs = epochs
        # Ranked over all layers, some would lose everything: scales hardly leave 1, and small
        # weights are those of wide layers.
        self.watchers = {
            "channels": EarlyBird(
                drawing.channels,
                window=drawing.window,
                threshold=drawing.channel_threshold,
                scope="layer",
                names=batch_norm_scales(model),
            ),
            "weights": EarlyBird(
                drawing.weights,
                window=drawing.window,
                threshold=drawing.weight_threshold,
                scope="layer",
                # The first layer and the last have few weights, and need them.
                names=plan_pruning(model).names[1:-1],
            ),
        }
        self.masks: dict[str, list[dict[str, Tensor]]] = {kind: [] for kind in self.watchers}
        self.states: dict[str, dict[str, Tensor]] = {}

    def end_epoch(self, epoch: int) -> None:
        """Take masks, and weights where a ticket is drawn now."""
        for kind, watcher in self.watchers.items():
            drawn = watcher.update(self._model)
            self.masks[kind].append(dict(watcher.masks[-1]))
            # Where nothing is drawn in time, the ticket is that of the end, and nothing is saved.
            if epoch == self.drawn_at(kind) and (drawn or epoch == self._epochs):
                self._keep(f"early-{kind}")
        if epoch == 1:
            self._keep("first")
        if epoch == self._epochs:
            self._keep("late")

    def drawn_at(self, kind: str) -> int:
        """Return the epoch after which the early ticket is drawn."""
        return self.watchers[kind].drawn_at or self._epochs

    def start(self, kind: str, arm: str) -> dict[str, Tensor]:
        """Return the weights from which a ticket is trained."""
        return self.states[arm if arm in self.states else f"early-{kind}"]

    def drawn(self, kind: str, seed: int) -> dict[str, Masks]:
        """Return the masks of all arms."""
        epochs = {"first": 1, "early": self.drawn_at(kind), "late": self._epochs}
        masks = {arm: Masks(self.masks[kind][epoch - 1]) for arm, epoch in epochs.items()}
        masks["random"] = masks["early"].shuffled(torch.Generator().manual_seed(seed))
        return masks

    def distances(self, kind: str) -> Tensor:
        """Return the share in which masks of any two epochs differ, (epochs, epochs)."""
        flat = torch.stack([torch.cat([m.flatten() for m in o.values()]) for o in self.masks[kind]])
        return torch.stack([(flat != row).float().mean(1) for row in flat])

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a checkpoint needs."""
        watchers = {kind: watcher.state_dict() for kind, watcher in self.watchers.items()}
        return {"watchers": watchers, "masks": self.masks, "states": self.states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was made."""
        for kind, watcher in self.watchers.items():
            watcher.load_state_dict(state["watchers"][kind])
        self.masks, self.states = state["masks"], state["states"]

    def _keep(self, moment: str) -> None:
        values = self._model.state_dict().items()
        self.states[moment] = {name: value.clone() for name, value in values}
