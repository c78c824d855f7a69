"""S4D: a state space model with diagonal A, whose kernel is a Vandermonde product.

    K_l = 2 Re Σ_n C_n B̄_n Ā_n^l

Gu, Gupta, Goel, Ré: On the Parameterization and Initialization of Diagonal State Space Models
(2022), https://arxiv.org/abs/2206.11893.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from gonzo.core.complex_pairs import add_real, mul, pair
from gonzo.core.ops.vandermonde import vandermonde

from .discretize import bilinear, zoh
from .hippo import legs_dplr
from .layer import SSMLayer, narrowed
from .operator import stack_system
from .state_space import SSMOperator, check_choice

Init = Literal["lin", "inv", "legs", "real"]
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


def s4d_real(n: int) -> tuple[Tensor, Tensor]:
    """A_k = -(k+1) and B = 1: decays alone, as many as stored pairs."""
    k = torch.arange(n // 2, dtype=torch.float64)
    one, zero = torch.ones_like(k), torch.zeros_like(k)
    return pair(-(k + 1), zero), pair(one, zero)


_INITS: dict[str, Callable[[int], tuple[Tensor, Tensor]]] = {
    "lin": s4d_lin,
    "inv": s4d_inv,
    "legs": s4d_legs,
    "real": s4d_real,
}
_DISCRETIZATIONS = {"zoh": zoh, "bilinear": bilinear}


class S4DKernel(SSMOperator):
    """The bare S4D operator: one diagonal state space model per feature.

    Maps (batch, time, d_model) to the same shape, linearly and without mixing features. Arguments
    as in `SSMOperator`, and:

    Args:
        init: ``"lin"``, ``"inv"``, ``"legs"`` or ``"real"``.
        discretization: ``"zoh"`` or ``"bilinear"``.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        init: Init = "lin",
        discretization: Discretization = "zoh",
        channels: int = 1,
        n_ssm: int | None = None,
        fixed_a: bool = False,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            d_model, d_state, channels=channels, n_ssm=n_ssm, fixed_a=fixed_a,
            dt_min=dt_min, dt_max=dt_max, device=device, dtype=dtype,
        )  # fmt: skip
        check_choice("S4D", "init", init, _INITS)
        check_choice("S4D", "discretization", discretization, _DISCRETIZATIONS)
        self.init, self.discretization = init, discretization
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw Δ and C anew and set A and B to the initialisation."""
        self._reset_common(*_INITS[self.init](self.d_state))

    def kernel(self, length: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the convolution kernel K (channels · d_model, length)."""
        a_bar, b_bar = self._discrete()
        return vandermonde(mul(self.c.double(), b_bar), a_bar, length, dtype=dtype)

    def system(self) -> Tensor:
        """Return Ā - 1, B̄ and C, (3, 2, d_state/2, channels · d_model)."""
        a_bar, b_bar = self._discrete()
        return stack_system(add_real(a_bar, -1), b_bar, self.c.double())

    def extra_repr(self) -> str:
        """Sizes and choices, for printing."""
        return f"{super().extra_repr()}, init={self.init}, discretization={self.discretization}"

    def _discrete(self) -> tuple[Tensor, Tensor]:
        discretize = _DISCRETIZATIONS[self.discretization]
        return discretize(self._a(), self._each(self.b.double()), self._dt())


class S4D(SSMLayer):
    """S4D as a layer: the operator, a skip D, GELU, and a gated linear map that mixes features.

    Causal, any length. Simpler than `S4`, quicker to train and, in its paper, about as good.

    Args:
        d_model: number of features.
        d_state: real state dimensions per feature, even.
        init: ``"lin"``, ``"inv"``, ``"legs"`` or ``"real"``.
        discretization: ``"zoh"`` or ``"bilinear"``.
        channels: outputs of each feature's model, all of which the linear map mixes.
        n_ssm: number of different A and B; see `SSMOperator`.
        fixed_a: keep A as it starts.
        gate: multiply by GELU(V x), in gate · d_model features; see `SSMLayer`.
        bottleneck: run the operator on d_model/bottleneck features; see `SSMLayer`.
        dropout: probability, with one mask for all time steps.
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
        channels: int = 1,
        n_ssm: int | None = None,
        fixed_a: bool = False,
        gate: int | None = None,
        bottleneck: int = 1,
        dropout: float = 0.0,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        operator = S4DKernel(
            narrowed("S4D", d_model, bottleneck), d_state, init=init,
            discretization=discretization, channels=channels, n_ssm=n_ssm, fixed_a=fixed_a,
            dt_min=dt_min, dt_max=dt_max, device=device, dtype=dtype,
        )  # fmt: skip
        super().__init__(operator, gate=gate, bottleneck=bottleneck, dropout=dropout)


def _ones_b(frequency: Tensor) -> tuple[Tensor, Tensor]:
    one, zero = torch.ones_like(frequency), torch.zeros_like(frequency)
    return pair(-one / 2, frequency), pair(one, zero)
