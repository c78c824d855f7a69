"""Keeps pruned weights at exactly zero while a model trains: value, gradient, optimizer state.

Masking weights alone is not enough: momentum and weight decay of a pruned weight live on and move
it with the next step. Here the gradient is masked as soon as it is there, before it is averaged
over processes, clipped or used, so that the state of an optimizer, once masked, stays masked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from .applied_mask import AppliedMask
from .masks import Masks

__all__ = ["MaskGuard", "guard_masks"]

_log = logging.getLogger("gonzo.pruning")
# An optimizer whose step calls that of the class above tells of both, the inner one first.
_JUDGED = 4
_CHECK_EVERY = 256


def guard_masks(
    model: nn.Module,
    masks: Masks,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    *,
    rezero: bool = False,
) -> MaskGuard:
    """Set pruned weights to zero and keep them there until the guard is removed.

    With an optimizer, every pruned weight's value, gradient and optimizer state are exactly 0 after
    every step. The guard masks gradients as they are accumulated, which costs one pass over them,
    and an optimizer's state once. That is enough for every optimizer that leaves a weight alone
    whose value, gradient and state are zero. One that does not (it adds noise, orthogonalises, or
    divides by ``eps=0``) is found in its first steps; weights and state are then masked after
    every step as well, and one line of log says so.

    Args:
        model: Its parameters are changed in place. Moving it to another device or dtype is fine;
            so is wrapping it in DistributedDataParallel, before or after.
        masks: True where a weight is alive, see `Masks.check`.
        optimizer: The optimizer or optimizers that train ``model``; without one gradients and
            values are masked, and nobody looks after the state.
        rezero: Mask weights and state after every step from the first on.

    Returns:
        The guard, a context manager.

    Raises:
        ValueError: The masks do not fit, or an optimizer has none of the parameters they name.
        TypeError: ``optimizer`` is none of torch's.
    """
    if optimizer is None:
        optimizers: Sequence[torch.optim.Optimizer] = ()
    elif isinstance(optimizer, Sequence):
        optimizers = optimizer
    else:
        optimizers = (optimizer,)
    guard = MaskGuard(model, masks, rezero=rezero)
    try:
        for one in optimizers:
            guard.watch(one)
    except BaseException:
        guard.release()
        raise
    return guard


class MaskGuard:
    """What `guard_masks` returns. ``with guard_masks(…): …``, or call `remove` at the end.

    Attributes:
        rezero: Whether weights and state are masked after every step.
    """

    def __init__(self, model: nn.Module, masks: Masks, *, rezero: bool = False) -> None:
        masks.check(model)
        masks.apply_(model)
        self.rezero = rezero
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._applied: dict[str, AppliedMask] = {}
        self._parameters: dict[str, nn.Parameter] = {}
        parameters = dict(model.named_parameters(remove_duplicate=False))
        self._model = model
        # Those without a pruned weight too: a mistake is found in the first, dense training.
        self._named = {name: parameters[name] for name in masks}
        for name, alive in masks.items():
            if bool(alive.all()):
                continue  # nothing to look after
            parameter = parameters[name]
            applied = AppliedMask(alive, parameter.detach())
            self._applied[name], self._parameters[name] = applied, parameter
            hook = applied.mask_gradient
            if parameter.grad is not None:
                hook(parameter)
            # A frozen parameter may be thawed later; torch takes hooks of those that learn alone.
            learns = parameter.requires_grad
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
                self._handles.append(parameter.register_post_accumulate_grad_hook(hook))
                parameter.requires_grad_(learns)

    def watch(self, optimizer: torch.optim.Optimizer) -> None:
        """Mask the state of ``optimizer`` and look after what its steps do.

        Args:
            optimizer: It trains at least one of the parameters that have a mask, be it one that
                prunes nothing.

        Raises:
            ValueError: It does not: it was made for another model.
            TypeError: It is none of torch's optimizers.
        """
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"expected a torch.optim.Optimizer, got {type(optimizer).__name__}; guard the "
                "optimizer inside a wrapper, or none, and mask its state yourself"
            )
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if self._named and not any(id(p) in trained for p in self._named.values()):
            raise ValueError(
                f"the {type(optimizer).__name__} trains none of the pruned parameters "
                f"({_listed(list(self._named))}); make it from the parameters of the model that is "
                "guarded, and hand over one optimizer that has them"
            )
        names = [name for name, p in self._parameters.items() if id(p) in trained]
        if not names:
            return
        steps = 0
        self._mask_state(optimizer, names)

        def after_step(*_: Any) -> None:
            nonlocal steps
            steps += 1
            if self.rezero:
                self._mask_all(optimizer, names)
            elif steps <= _JUDGED:
                self._judge(optimizer, names)
            elif steps % _CHECK_EVERY == 0:
                self.check()

        def after_loading(*_: Any) -> None:
            self._mask_state(optimizer, names)

        self._handles.append(optimizer.register_step_post_hook(after_step))
        self._handles.append(optimizer.register_load_state_dict_post_hook(after_loading))

    def check(self) -> None:
        """Make sure that every pruned weight is exactly zero, in the model as it is now.

        Raises:
            ValueError: One is not, so something moved it that the guard does not know; or the
                model has other parameters than when it was guarded.
        """
        there = {id(parameter) for parameter in self._model.parameters()}
        gone = [name for name, parameter in self._named.items() if id(parameter) not in there]
        if gone:
            raise ValueError(
                f"the parameters {_listed(gone)} of the model were replaced while it was guarded, "
                "so that nobody looked after the new ones; change layers before the guard is set, "
                "and weights in place"
            )
        moved = [n for n, a in self._applied.items() if a.any_pruned(self._parameters[n].detach())]
        if moved:
            raise ValueError(
                f"pruned weights of {_listed(moved)} are no longer zero: something other than the "
                "gradients that backward() leaves moved them (weights loaded or averaged in the "
                "training function, or an optimizer that moves weights at rest, but not in its "
                "first steps); do that before the guard is set, or guard with rezero=True"
            )

    def remove(self) -> None:
        """Check a last time and take the hooks away.

        Raises:
            ValueError: See `check`.
        """
        self.release()
        self.check()

    def release(self) -> None:
        """Take the hooks away without a look at the weights."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.remove()
        else:  # the error that is on its way says more than ours would
            self.release()

    def _judge(self, optimizer: torch.optim.Optimizer, names: list[str]) -> None:
        """In the first steps: does this optimizer leave alone what is zero?"""
        moved = [
            name
            for name in names
            if any(self._applied[name].any_pruned(tensor) for tensor in self._of(optimizer, name))
        ]
        if not moved:
            return
        self.rezero = True
        self._mask_all(optimizer, names)
        _log.info(
            "%s moves weights that are zero and get no gradient (%s); pruned weights and their "
            "state are set back to zero after every step",
            type(optimizer).__name__,
            _listed(moved),
        )

    def _of(self, optimizer: torch.optim.Optimizer, name: str) -> list[Tensor]:
        """The parameter and those tensors of its state that have an element for every weight."""
        parameter = self._parameters[name]
        state = optimizer.state.get(parameter, {})
        shaped = [
            value
            for value in state.values()
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim
        ]
        return [parameter.detach(), *shaped]

    def _mask_state(self, optimizer: torch.optim.Optimizer, names: list[str]) -> None:
        for name in names:
            for tensor in self._of(optimizer, name)[1:]:
                self._applied[name].mask_(tensor)

    def _mask_all(self, optimizer: torch.optim.Optimizer, names: list[str]) -> None:
        for name in names:
            for tensor in self._of(optimizer, name):
                self._applied[name].mask_(tensor)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
