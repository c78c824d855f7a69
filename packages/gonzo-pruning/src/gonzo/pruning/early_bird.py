"""Early-bird tickets (You et al. 2020): draw the ticket once its mask stands still."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import nn

from gonzo.pruning.criterion import Criterion
from gonzo.pruning.magnitude import Magnitude
from gonzo.pruning.masks import Masks
from gonzo.pruning.plan import plan_pruning
from gonzo.pruning.rates import Rate, exact_rate
from gonzo.pruning.selection import prune


class EarlyBird:
    """Watches the mask that pruning would give after each epoch, until it hardly changes.

        watcher = EarlyBird(0.5)
        for epoch in range(epochs):
            train_one_epoch(model)
            if watcher.update(model):
                break
        masks = watcher.ticket

    The last five masks are kept; the ticket is drawn when the newest differs from each of the
    others in less than a tenth of all weights. The paper prunes channels by the scales γ of batch
    normalisation: give `names=batch_norm_scales(model)`, and let `channel_weight_masks` say which
    weights follow.

    At a rate r two masks differ in at most 2 · min(r, 1 - r): from 95 % on, a threshold of 0.1 is
    met by any five masks and says nothing. Give a lower one there.

    Deviation: the paper's algorithm 1 compares masks of consecutive epochs and waits for five
    small distances in a row; here, as in the authors' program, the newest mask is compared with
    all that are kept, which a slow drift does not pass either.

    Source: You, Li, Xu, Fu, Wang, Chen, Baraniuk, Wang and Lin, Drawing Early-Bird Tickets: Toward
    More Efficient Training of Deep Networks, ICLR 2020, section 3.2 and algorithm 1.

    Args:
        rate: what is pruned, of all weights that may be, in one go.
        window: masks that are kept and compared.
        threshold: the distance, a share of all weights, that must not be reached.
        scope: ranks weights of all parameters together, or within each.
        criterion: what scores the weights; magnitude by default.
        names: parameters that are pruned; by default those that `plan_pruning` says.

    Raises:
        ValueError: a rate outside [0, 1], a window below 2, a threshold outside (0, 1], or an
            unknown scope.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        window: int = 5,
        threshold: float = 0.1,
        scope: Literal["layer", "global"] = "global",
        criterion: Criterion | None = None,
        names: Iterable[str] | None = None,
    ) -> None:
        if isinstance(window, bool) or not isinstance(window, int) or window < 2:
            raise ValueError(f"EarlyBird: expected a window of at least 2 masks, got {window!r}")
        if not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            raise ValueError(
                f"EarlyBird: expected a threshold above 0, at most 1, got {threshold!r}"
            )
        if isinstance(names, str):
            raise ValueError(
                f"EarlyBird: expected several names, such as [{names!r}], got {names!r}"
            )
        if scope not in ("layer", "global"):
            raise ValueError(f"EarlyBird: expected the scope 'layer' or 'global', got {scope!r}")
        self.rate = exact_rate(rate)
        self.window = window
        self.threshold = threshold
        self.scope: Literal["layer", "global"] = scope
        self.criterion = Magnitude() if criterion is None else criterion
        self.names = None if names is None else tuple(names)
        if self.names == ():
            raise ValueError("EarlyBird: expected at least one name; leave names out for all")
        self.masks: deque[Masks] = deque(maxlen=window)
        """The last masks, oldest first."""
        self.updates = 0
        """How often `update` was called."""
        self.ticket: Masks | None = None
        """The masks that were drawn."""
        self.drawn_at: int | None = None
        """The number of updates, the drawing one included, when they were drawn."""

    def update(self, model: nn.Module) -> bool:
        """Take the mask of the model as it is now, after an epoch.

        Args:
            model: the model in training; it is left as it was.

        Returns:
            Whether the ticket has been drawn, now or before. Later masks do not change it.

        Raises:
            ValueError: the model is not the one of earlier updates, or cannot be pruned.
        """
        names = plan_pruning(model).names if self.names is None else self.names
        whole = Masks.full(model, names)
        masks = prune(self.criterion.scores(model, whole), whole, self.rate, scope=self.scope)
        self._check_alike(masks)
        # Compared where they are kept, so that a model may move between epochs.
        self.masks.append(masks.to("cpu"))
        self.updates += 1
        full = len(self.masks) == self.window
        if self.ticket is None and full and max(self.distances) < self.threshold:
            self.ticket, self.drawn_at = self.masks[-1], self.updates
        return self.ticket is not None

    def _check_alike(self, masks: Masks) -> None:
        shapes, known = (
            {name: tuple(mask.shape) for name, mask in of.items()}
            for of in (masks, self.masks[-1] if self.masks else masks)
        )
        if shapes != known:
            raise ValueError(
                f"EarlyBird: expected the model of earlier updates, with {known} to prune, got one "
                f"with {shapes}; a new model needs a new EarlyBird"
            )

    @property
    def distances(self) -> tuple[float, ...]:
        """Share of weights in which the newest mask differs from each earlier one, oldest first."""
        return tuple(self.masks[-1].distance(mask) for mask in list(self.masks)[:-1])

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs: tensors, numbers and names."""
        return {
            "masks": [_packed(masks) for masks in self.masks],
            "updates": self.updates,
            "ticket": None if self.ticket is None else _packed(self.ticket),
            "drawn_at": self.drawn_at,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was made."""
        self.masks = deque((_unpacked(masks) for masks in state["masks"]), maxlen=self.window)
        self.updates = state["updates"]
        self.ticket = None if state["ticket"] is None else _unpacked(state["ticket"])
        self.drawn_at = state["drawn_at"]

    def __repr__(self) -> str:
        drawn = "nothing drawn" if self.drawn_at is None else f"drawn at update {self.drawn_at}"
        return f"EarlyBird({self.rate}, {self.updates} updates, {drawn})"


def _packed(masks: Masks) -> dict[str, Any]:
    return {
        "bits": masks.pack(),
        "shapes": {name: list(mask.shape) for name, mask in masks.items()},
    }


def _unpacked(packed: Mapping[str, Any]) -> Masks:
    return Masks.unpack(packed["bits"], packed["shapes"])
