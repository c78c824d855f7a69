"""Collect the parameters of a model into optimizer groups that honour each layer's rules.

Some papers train a few parameters apart from the rest: S4 gives dt, A, P and B a learning rate of
at most 1e-3 and no weight decay. The layer says so once, in ``train_rules``, and whoever trains a
model that contains it calls ``param_groups`` and cannot forget.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["TrainRule", "param_groups"]


@dataclass(frozen=True)
class TrainRule:
    """How a layer wants one of its parameters trained.

    A layer lists rules by the name of its own parameter, on the class or in the constructor:

        train_rules = {"log_dt": TrainRule(max_lr=1e-3, weight_decay=0.0)}

    Attributes:
        max_lr: The learning rate is at most this; None leaves it alone.
        weight_decay: Replaces the model's weight decay; None leaves it alone.
    """

    max_lr: float | None = None
    weight_decay: float | None = None


def param_groups(model: nn.Module, *, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Return parameter groups for any ``torch.optim`` optimizer.

    Every parameter that requires a gradient is in exactly one group, a tied one once. Weight decay
    reaches parameters of two dimensions or more; biases, gains and other vectors have none, unless
    a rule says otherwise. Where a tied parameter has several rules, the smallest values win.

    Schedulers scale each group's own rate, so the ratios between groups stay.

    Args:
        model: Any module; layers anywhere inside it may have ``train_rules``.
        lr: The learning rate.
        weight_decay: The weight decay.

    Returns:
        Dictionaries with ``params``, ``lr``, ``weight_decay`` and a readable ``name``; the group of
        the full learning rate and decay comes first.

    Raises:
        ValueError: A rule names a parameter that its layer does not have, or ``model`` has nothing
            to train.
    """
    settings: dict[int, tuple[float, float]] = {}
    parameters: dict[int, nn.Parameter] = {}
    for parameter, rule in _with_rules(model):
        if not parameter.requires_grad:
            continue
        key = id(parameter)
        default = weight_decay if parameter.ndim >= 2 else 0.0
        rate = lr if rule.max_lr is None else min(lr, rule.max_lr)
        decay = default if rule.weight_decay is None else rule.weight_decay
        if key in settings:
            rate, decay = min(rate, settings[key][0]), min(decay, settings[key][1])
        settings[key] = (rate, decay)
        parameters[key] = parameter
    if not parameters:
        raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for key, parameter in parameters.items():
        groups.setdefault(settings[key], []).append(parameter)
    return [
        {
            "name": f"lr {rate:g}, weight decay {decay:g}",
            "params": groups[rate, decay],
            "lr": rate,
            "weight_decay": decay,
        }
        for rate, decay in sorted(groups, reverse=True)
    ]


def _with_rules(model: nn.Module) -> Iterator[tuple[nn.Parameter, TrainRule]]:
    """Every parameter, once for each module that holds it, with that module's rule for it."""
    rules: dict[tuple[int, str], TrainRule] = {}
    for path, module in model.named_modules():
        for local, rule in getattr(module, "train_rules", {}).items():
            # A parametrised parameter has moved; what is trained is below this place.
            parametrized = f"parametrizations.{local}."
            found = False
            if local in module._parameters:
                rules[id(module), local] = rule
                found = True
            for inner, holder in module.named_modules():
                if f"{inner}.".startswith(parametrized):
                    found = True
                    rules |= {(id(holder), leaf): rule for leaf in holder._parameters}
            if not found:
                raise ValueError(
                    f"{type(module).__name__}.train_rules names {local!r}, "
                    f"which is not a parameter of {path or 'the model'}"
                )
    for module in model.modules():
        for local, parameter in module._parameters.items():
            if parameter is not None:
                yield parameter, rules.get((id(module), local), TrainRule())
