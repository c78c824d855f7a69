"""S4D: a state space model with diagonal A, whose kernel is a Vandermonde product.

    K_l = 2 Re Σ_n C_n B̄_n Ā_n^l

Gu, Gupta, Goel, Ré: On the Parameterization and Initialization of Diagonal State Space Models
(2022), https://arxiv.org/abs/2206.11893.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from gonzo.core.complex_pairs import add_real, mul, pair
from gonzo.core.ops.vandermonde import vandermonde

from .discretize import bilinear, zoh
from .hippo import legs_dplr
from .layer import SSMLayer
from .operator import SSMOperator, stack_system

Init = Literal["lin", "inv", "legs"]
Discretization = Literal["zoh", "bilinear"]


def s4d_lin(n: int) -> tuple[Tensor, Tensor]:
    """A_k = -½ + iπk and B = 1: damped Fourier modes, (n/2, 2) each in float64."""
    k = torch.arange(n // 2, dtype=torch.float64)
    return _ones_b(math.pi * k)


def s4d_inv(n: int) -> tuple[Tensor, Tensor]:
    """A_k = -½ + i (n/π) (n/(2k+1) - 1) and B = 1: the spacing of HiPPO-LegS in the limit."""
    k = torch.arange(n // 2, dtype=torch.float64)
    return _ones_b(n / math.pi * (n / (2 * k + 1) - 1))


def s4d_legs(n: int) -> tuple[Tensor, Tensor]:
    """The diagonal part of HiPPO-LegS, and half its B, which makes up for the rank-one part."""
    dplr = legs_dplr(n)
    return dplr.a, dplr.b / 2


_INITS: dict[str, Callable[[int], tuple[Tensor, Tensor]]] = {
    "lin": s4d_lin,
    "inv": s4d_inv,
    "legs": s4d_legs,
}
_DISCRETIZATIONS = {"zoh": zoh, "bilinear": bilinear}


class S4DKernel(SSMOperator):
    """The bare S4D operator: one diagonal state space model per feature.

    Maps (batch, time, d_model) to the same shape, linearly and without mixing features. Arguments
    as in `SSMOperator`, and:

    Args:
        init: ``"lin"``, ``"inv"`` or ``"legs"``.
        discretization: ``"zoh"`` or ``"bilinear"``.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        init: Init = "lin",
        discretization: Discretization = "zoh",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d_model, d_state, dt_min=dt_min, dt_max=dt_max, device=device, dtype=dtype)
        if init not in _INITS:
            raise ValueError(f"S4D: expected init {_either(_INITS)}, got {init!r}")
        if discretization not in _DISCRETIZATIONS:
            raise ValueError(
                f"S4D: expected discretization {_either(_DISCRETIZATIONS)}, got {discretization!r}"
            )
        self.init, self.discretization = init, discretization
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw Δ and C anew and set A and B to the initialisation."""
        self._reset_common(*_INITS[self.init](self.d_state))

    def kernel(self, length: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the convolution kernel K (d_model, length)."""
        a_bar, b_bar = self._discrete()
        return vandermonde(mul(self.c.double(), b_bar), a_bar, length, dtype=dtype)

    def system(self) -> Tensor:
        """Return Ā - 1, B̄ and C, (3, 2, d_state/2, d_model)."""
        a_bar, b_bar = self._discrete()
        return stack_system(add_real(a_bar, -1), b_bar, self.c.double())

    def extra_repr(self) -> str:
        """Sizes and choices, for printing."""
        return f"{super().extra_repr()}, init={self.init}, discretization={self.discretization}"

    def _discrete(self) -> tuple[Tensor, Tensor]:
        discretize = _DISCRETIZATIONS[self.discretization]
        return discretize(self._a(), self.b.double(), self._dt())


class S4D(SSMLayer):
    """S4D as a layer: the operator, a skip D, GELU, and a gated linear map that mixes features.

    Causal, any length. Simpler than `S4`, quicker to train and, in its paper, about as good.

    Args:
        d_model: number of features.
        d_state: real state dimensions per feature, even.
        init: ``"lin"``, ``"inv"`` or ``"legs"``.
        discretization: ``"zoh"`` or ``"bilinear"``.
        dropout: probability, after GELU, with one mask for all time steps.
        dt_min: smallest initial step.
        dt_max: largest initial step.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Gu, Gupta, Goel, Ré (2022), https://arxiv.org/abs/2206.11893
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        init: Init = "lin",
        discretization: Discretization = "zoh",
        dropout: float = 0.0,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        operator = S4DKernel(
            d_model, d_state, init=init, discretization=discretization,
            dt_min=dt_min, dt_max=dt_max, device=device, dtype=dtype,
        )  # fmt: skip
        super().__init__(operator, dropout=dropout)


def _ones_b(frequency: Tensor) -> tuple[Tensor, Tensor]:
    one, zero = torch.ones_like(frequency), torch.zeros_like(frequency)
    return pair(-one / 2, frequency), pair(one, zero)


def _either(names: Iterable[str]) -> str:
    return " or ".join(repr(name) for name in names)
