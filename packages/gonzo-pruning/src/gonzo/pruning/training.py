"""What a training function gets: its seed, its steps, a guard for its optimizer, a place to record.

A training function has the signature ``train(model, training)`` and this shape::

    def train(model, training):
        optimizer = training.optimizer(torch.optim.Adam(model.parameters(), lr=1.2e-3))
        for step in training.steps(5000):
            batch = torch.randint(len(x), (60,), generator=training.generator)
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            if (step + 1) % 100 == 0:
                training.record(validation_loss=evaluate(model))
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from .mask_guard import MaskGuard
from .masks import Masks
from .seeds import derive_seed
from .tickets import Ticket

__all__ = ["Training", "TrainingObserver"]


class TrainingObserver(Protocol):
    """Who looks on: `LotteryRun` keeps the rewind point and checkpoints so."""

    def begin(self, training: Training, total: int) -> int:
        """Called when the steps begin; returns the first one. It may restore what was interrupted.

        Args:
            training: With its optimizers.
            total: Of the steps.
        """
        ...

    def before(self, step: int, training: Training) -> None:
        """Called before every step."""
        ...


class Training:
    """One training of one network, pruned or not; a context manager around the training function.

    `LotteryRun` makes these. To train a ticket that somebody sent with the same function, from the
    step to which it was rewound::

        with Training.of_ticket(model, ticket, seed=1) as training:
            train(model, training)
        training.history

    A training function that leaves the steps before their end gets a warning, unless it says that
    it means to by `stop`; one that never calls ``optimizer.step()`` a ValueError.

    Args:
        model: Pruned weights are set to zero and stay there, see `guard_masks`.
        masks: Alive weights; None trains all.
        seed: Of the data's order.
        first_step: Where `steps` begins: a network that was rewound to step k has k behind it.
        optimizer_states: What the optimizers' states start from, in the order in which the training
            function hands optimizers over, as ``Optimizer.state_dict()`` gives them; None: fresh.
        observer: Told of every step.

    Attributes:
        seed: An int for whatever else needs one.
        generator: torch.Generator on the CPU, for the order of the data. It has the same state in
            every process of a distributed training: each takes its share of a common batch.
        first_step: See above.
        history: What was recorded: dicts of metrics with ``"step"``, the number of steps done.
        optimizers: Those handed over.
    """

    def __init__(
        self,
        model: nn.Module,
        masks: Masks | None = None,
        *,
        seed: int = 0,
        first_step: int = 0,
        optimizer_states: Sequence[dict[str, Any]] | None = None,
        observer: TrainingObserver | None = None,
    ) -> None:
        if first_step < 0:
            raise ValueError(f"expected first_step of 0 or more, got {first_step}")
        self.model = model
        self.masks = masks
        self.seed = seed
        self.first_step = first_step
        self.generator = torch.Generator().manual_seed(seed)
        self.history: list[dict[str, float]] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self._states = optimizer_states
        self._observer = observer
        self._guard: MaskGuard | None = None
        self._step = first_step
        self._stepped = False
        self._ever_stepped = False
        self._began = False
        self._stopped = False
        self._total = 0

    @classmethod
    def of_ticket(cls, model: nn.Module, ticket: Ticket, *, seed: int = 0) -> Self:
        """Put a ticket into ``model`` and return its training, from the step it was rewound to.

        Args:
            model: Of the ticket's architecture; changed in place.
            ticket: Its provenance says ``step``, where `LotteryRun` made it; else 0 is meant.
            seed: Of the data's order.

        Raises:
            ValueError: The ticket does not fit, see `Ticket.into`, or its step is no count.
            TypeError: ``ticket`` is no ticket, or ``model`` no module.
        """
        if not isinstance(ticket, Ticket):
            raise TypeError(
                f"Training.of_ticket: expected a Ticket, got {type(ticket).__name__}; "
                "write Training.of_ticket(model, ticket)"
            )
        step = ticket.provenance.get("step", 0)
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise ValueError(f"expected the ticket's step as an int of 0 or more, got {step!r}")
        return cls(ticket.into(model), ticket.masks, seed=seed, first_step=step)

    def optimizer(
        self, optimizer: torch.optim.Optimizer, *, rezero: bool = False
    ) -> torch.optim.Optimizer:
        """Hand an optimizer over; needed before `steps`, once for each.

        Args:
            optimizer: Trains the model's parameters. Its state is masked, or first set to the one
                of the rewind point, where that is asked for.
            rezero: Mask weights and state after every step, see `guard_masks`.

        Returns:
            The same optimizer.

        Raises:
            ValueError: It has none of the parameters that have a mask, or it comes too late.
            TypeError: It is none of torch's optimizers.
        """
        guard = self._guard
        if guard is None:
            raise ValueError(
                "this training has not begun: call the training function inside "
                "`with Training(model, masks) as training:`"
            )
        if self._began:
            raise ValueError("hand optimizers over by training.optimizer(…) before the steps begin")
        guard.rezero = guard.rezero or rezero
        if not isinstance(optimizer, torch.optim.Optimizer):
            guard.watch(optimizer)  # which says what is wrong
        if self._states is not None:
            if len(self.optimizers) >= len(self._states):
                raise ValueError(
                    f"the rewind point has the state of {len(self._states)} optimizers and this is "
                    "one more; hand over the same optimizers in every training"
                )
            _restore_state(optimizer, self._states[len(self.optimizers)])
        guard.watch(optimizer)
        optimizer.register_step_post_hook(self._after_step)
        self.optimizers.append(optimizer)
        return optimizer

    def steps(self, total: int) -> Iterator[int]:
        """Return the numbers of the steps, ``first_step`` to ``total - 1``.

        Args:
            total: Steps of the whole training, those before ``first_step`` included.

        Raises:
            ValueError: No optimizer was handed over, the steps began before, or ``total`` is not
                beyond ``first_step``.
        """
        if not self.optimizers:
            raise ValueError(
                "no optimizer is guarded: write optimizer = training.optimizer(optimizer) before "
                "training.steps(…), or pruned weights would come back to life"
            )
        if self._began:
            raise ValueError("training.steps(…) was called twice in one training")
        if isinstance(total, bool) or not isinstance(total, int):
            raise TypeError(f"expected a number of steps as an int, got {total!r}")
        if total <= self.first_step:
            raise ValueError(
                f"expected more steps than the {self.first_step} that lie before the rewind point, "
                f"got {total}"
            )
        self._began, self._total = True, total
        return self._steps(total)

    def stop(self) -> None:
        """Say that the steps are left before their end on purpose, just before a ``break``."""
        self._stopped = True

    def record(self, **metrics: float) -> None:
        """Record metrics of the network as it is now; the step just done is noted with them.

        Metrics recorded twice after one step replace each other.

        Args:
            **metrics: Numbers by name.

        Raises:
            ValueError: No metric, one is called ``step``, or one is no number.
        """
        if not metrics or "step" in metrics:
            raise ValueError(
                "expected metrics by name, as in training.record(validation_loss=0.3); the step is "
                "noted by itself"
            )
        values = {name: _number(name, value) for name, value in metrics.items()}
        step = self._step + self._stepped
        if not self.history or self.history[-1]["step"] != step:
            self.history.append({"step": step})
        self.history[-1].update(values)

    def permutation(self, count: int, epoch: int) -> Tensor:
        """Return the order of ``count`` examples in an epoch: a function of seed and epoch alone.

        So an interrupted training goes on in the middle of an epoch with the order it had.

        Args:
            count: How many examples there are.
            epoch: 0, 1, …

        Returns:
            int64 (count,).
        """
        seed = derive_seed(self.seed, f"epoch {epoch} of {count}")
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed))

    def __enter__(self) -> Self:
        masks = self.masks if self.masks is not None else Masks({})
        self._guard = MaskGuard(self.model, masks)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._guard is not None
        self._guard.__exit__(kind, error, trace)
        if kind is None and not self._began:
            raise ValueError(
                "the training function did not train: it must loop over training.steps(total)"
            )
        if kind is None:
            self._check_trained()

    def _steps(self, total: int) -> Iterator[int]:
        observer = self._observer
        first = self.first_step if observer is None else observer.begin(self, total)
        for step in range(first, total):
            self._step, self._stepped = step, False
            if observer is not None:
                observer.before(step, self)
            yield step
        self._step, self._stepped = total, False

    def _after_step(self, *_: Any) -> None:
        self._stepped = self._ever_stepped = True

    def _check_trained(self) -> None:
        if not self._ever_stepped:
            raise ValueError(
                "the training function trained nothing: no optimizer that it handed over by "
                "training.optimizer(…) ever made a step; call optimizer.step() in the loop"
            )
        if self._step < self._total - 1 and not self._stopped:
            warnings.warn(
                f"the training function left training.steps({self._total}) after "
                f"{self._step + self._stepped} steps; call training.stop() before a break that is "
                "meant",
                stacklevel=3,
            )


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"expected {name} as a number, got {type(value).__name__}: {value!r}"
        ) from None


def _restore_state(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Set the moments and counts; learning rates and their like stay as the function made them."""
    fresh = optimizer.state_dict()
    ours = [len(group["params"]) for group in fresh["param_groups"]]
    theirs = [len(group["params"]) for group in saved["param_groups"]]
    if ours != theirs:
        raise ValueError(
            f"expected an optimizer with groups of {theirs} parameters, as at the rewind point, "
            f"got {ours}; make the optimizer in the same way in every training"
        )
    optimizer.load_state_dict({"state": saved["state"], "param_groups": fresh["param_groups"]})
