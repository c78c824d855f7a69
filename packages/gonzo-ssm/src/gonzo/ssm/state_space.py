"""A state space model per feature: what S4 and S4D share.

    x' = A x + B u,  y = C x      in steps of Δ

The parameters are of the continuous model, so a trained one can be discretised anew for steps of
another length: `set_rate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from gonzo.core import TrainRule

from .operator import TimeInvariantOperator

_SLOW = TrainRule(max_lr=1e-3, weight_decay=0.0)


class SSMOperator(TimeInvariantOperator):
    """Step sizes Δ, the diagonal of A, B and C; S4 and S4D add how they become a kernel.

    Args:
        d_model: number of features; each has a model of its own.
        d_state: real dimensions of each model's state, even: conjugate pairs are stored once.
        channels: outputs of each model, with a C for each. The operator's output then has
            ``channels · d_model`` features, channel by channel, and every channel keeps a state.
        n_ssm: number of different A and B, a divisor of d_model; feature h has number h mod n_ssm.
            By default every feature has its own.
        fixed_a: keep A as it starts; Δ, B and C are trained all the same.
        dt_min: smallest initial step Δ, in units of the sequence's own step.
        dt_max: largest initial step; a feature's memory is about 2/Δ steps.
    """

    train_rules: ClassVar[dict[str, TrainRule]] = dict.fromkeys(
        ("log_dt", "log_a_real", "a_imag", "b"), _SLOW
    )

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        channels: int = 1,
        n_ssm: int | None = None,
        fixed_a: bool = False,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for argument, size in {"d_model": d_model, "channels": channels}.items():
            if size < 1:
                raise ValueError(f"{name}: expected {argument} of at least 1, got {size}")
        if d_state < 2 or d_state % 2:
            raise ValueError(
                f"{name}: expected an even d_state of at least 2, got {d_state}; it counts real "
                "dimensions, and conjugate pairs are stored once"
            )
        n_ssm = d_model if n_ssm is None else n_ssm
        if n_ssm < 1 or d_model % n_ssm:
            raise ValueError(f"{name}: expected n_ssm to divide d_model={d_model}, got {n_ssm}")
        if not 0 < dt_min <= dt_max:
            raise ValueError(f"{name}: expected 0 < dt_min <= dt_max, got {dt_min} and {dt_max}")
        self.d_model, self.d_state, self.channels, self.n_ssm = d_model, d_state, channels, n_ssm
        self.fixed_a = fixed_a
        self.dt_min, self.dt_max = dt_min, dt_max
        self.rate = 1.0
        half = d_state // 2

        def parameter(*shape: int, learned: bool = True) -> nn.Parameter:
            empty = torch.empty(shape, device=device, dtype=dtype)
            return nn.Parameter(empty, requires_grad=learned)

        self.log_dt = parameter(d_model)
        self.log_a_real = parameter(n_ssm, half, learned=not fixed_a)
        self.a_imag = parameter(n_ssm, half, learned=not fixed_a)
        self.b = parameter(n_ssm, half, 2)
        self.c = parameter(channels * d_model, half, 2)

    def extra_repr(self) -> str:
        """Sizes and what is not the default, for printing."""
        sizes = f"{self.d_model}, d_state={self.d_state}"
        defaults = {"channels": 1, "n_ssm": self.d_model, "fixed_a": False, "rate": 1.0}
        own = {name: getattr(self, name) for name in defaults}
        return ", ".join(
            [sizes, *(f"{name}={own[name]}" for name in own if own[name] != defaults[name])]
        )

    @torch.no_grad()
    def _reset_common(self, a: Tensor, b: Tensor) -> None:
        """Set Δ log-uniform, A and B to a and b (d_state/2, 2) everywhere, C standard normal."""
        nn.init.uniform_(self.log_dt, math.log(self.dt_min), math.log(self.dt_max))
        self.log_a_real.copy_(a[:, 0].neg().log())
        self.a_imag.copy_(a[:, 1])
        self.b.copy_(b)
        nn.init.normal_(self.c, std=0.5**0.5)  # complex variance 1

    def _dt(self) -> Tensor:
        """Δ, (heads, 1, 1) in float64."""
        return self._each(self.rate * self.log_dt.double().exp())[:, None, None]

    def _a(self) -> Tensor:
        """Λ, (heads, d_state/2, 2) in float64; its real part is negative by construction."""
        return self._each(torch.stack([-self.log_a_real.double().exp(), self.a_imag.double()], -1))

    def _each(self, x: Tensor) -> Tensor:
        """(n_ssm or d_model, …) to (channels · d_model, …), in turn."""
        times = self.channels * self.d_model // len(x)
        return x if times == 1 else x.repeat(times, *[1] * (x.ndim - 1))


def check_choice(layer: str, argument: str, value: str, among: Iterable[str]) -> None:
    """Refuse a value that is none of the names."""
    if value not in among:
        names = " or ".join(repr(name) for name in among)
        raise ValueError(f"{layer}: expected {argument} {names}, got {value!r}")
