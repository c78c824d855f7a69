"""Movement (Sanh, Wolf and Rush 2020): weights that training moves away from zero are kept."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from gonzo.pruning.criterion import scored_parameters

if TYPE_CHECKING:
    from gonzo.pruning.masks import Masks


class Movement:
    """Scores a weight by -Σₜ wₜ · ∂L/∂wₜ over the steps of a training.

    The sum is positive where steps of gradient descent made |w| grow. It has to be gathered while
    a model is trained:

        criterion = Movement()
        with criterion.observe(model, masks):
            train(model)
        masks = prune(criterion.scores(model, masks), masks, rates)

    Each step of any optimizer that holds one of the parameters counts once, with the gradient as
    it is when the step begins: accumulated, averaged over ranks, clipped. (With a GradScaler and
    a fused optimizer it is still scaled then: call `scaler.unscale_(optimizer)` before the step.)

    Deviation: the paper learns the scores beside the weights with a straight-through estimator,
    so that a pruned weight may return while the model is fine-tuned; here, what is pruned stays
    pruned, and the learning rate of the scores, one factor for all, is left out.

    Source: Sanh, Wolf and Rush, Movement Pruning: Adaptive Sparsity by Fine-Tuning, NeurIPS 2020,
    equation 4 and section 3.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self.steps = 0
        """Optimizer steps that were seen since `observe` began."""

    @contextmanager
    def observe(self, model: nn.Module, masks: Masks) -> Generator[None]:
        """Gather scores while the block trains `model`; sums of an earlier block are forgotten.

        Args:
            model: what the block trains, itself or wrapped for several ranks.
            masks: by parameter name, True where a weight is alive.

        Raises:
            ValueError: the masks do not fit the model.
        """
        parameters = scored_parameters(model, masks)
        self._sums = {
            name: torch.zeros_like(weight, dtype=_wide(weight))
            for name, weight in parameters.items()
        }
        self.steps = 0
        names = {weight: name for name, weight in parameters.items()}

        @torch.no_grad()
        def gather(optimizer: Optimizer, _args: object, _kwargs: object) -> None:
            held = [weight for group in optimizer.param_groups for weight in group["params"]]
            seen = [weight for weight in held if weight in names and weight.grad is not None]
            for weight in seen:
                name = names[weight]
                # A model that was moved since takes its sum with it.
                total = self._sums[name] = self._sums[name].to(weight.device)
                total.addcmul_(weight.to(total.dtype), weight.grad.to(total.dtype), value=-1)
            self.steps += bool(seen)

        handle = register_optimizer_step_pre_hook(gather)
        try:
            yield
        finally:
            handle.remove()

    def scores(self, model: nn.Module, masks: Masks) -> dict[str, Tensor]:
        """Return the sums gathered in the last `observe`.

        Args:
            model: a model; of its parameters shapes and devices alone matter.
            masks: by parameter name, True where a weight is alive.

        Returns:
            By name, a tensor of the parameter's shape and dtype, on its device, of either sign.

        Raises:
            ValueError: the masks do not fit the model, or nothing was observed.
        """
        parameters = scored_parameters(model, masks)
        if self.steps == 0:
            raise ValueError(
                "Movement: no training step was observed; train inside "
                "`with criterion.observe(model, masks):`"
            )
        missing = [name for name in parameters if name not in self._sums]
        if missing:
            raise ValueError(
                f"Movement: {', '.join(missing)} was not observed; give `observe` the masks that "
                "`scores` gets"
            )
        return {
            name: self._sums[name].to(weight.device, copy=True)
            for name, weight in parameters.items()
        }

    def __repr__(self) -> str:
        return "Movement()"


def _wide(weight: Tensor) -> torch.dtype:
    return torch.promote_types(weight.dtype, torch.float32)
