"""S4: a state space model with A = Λ - P P*, convolved in O(L (N + log L)) time, streamed in O(N).

    (I - ΔA/2) x_t = (I + ΔA/2) x_{t-1} + ΔB u_t,   y_t = 2 Re⟨C, x_t⟩

Gu, Goel, Ré: Efficiently Modeling Long Sequences with Structured State Spaces (2021),
https://arxiv.org/abs/2111.00396.

Deviation: the kernel needs no C̃ (see `gonzo.core.ops.cauchy`), so it is the same function at every
length and nothing changes in eval; B is not clipped (see `hippo`).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from gonzo.core import TrainRule
from gonzo.core.complex_pairs import conj, mul, real
from gonzo.core.ops.cauchy import cauchy

from .discretize import resolvent
from .hippo import DPLR, legs_dplr
from .layer import SSMLayer
from .operator import SSMOperator, stack_system


class S4Kernel(SSMOperator):
    """The bare S4 operator: one diagonal-plus-rank-one state space model per feature.

    Maps (batch, time, d_model) to the same shape, linearly and without mixing features. It starts
    as HiPPO-LegS with Δ log-uniform in [dt_min, dt_max]. Arguments as in `SSMOperator`.
    """

    train_rules: ClassVar[dict[str, TrainRule]] = {
        **SSMOperator.train_rules,
        "p": SSMOperator.train_rules["b"],
    }

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d_model, d_state, dt_min=dt_min, dt_max=dt_max, device=device, dtype=dtype)
        self.p = nn.Parameter(torch.empty_like(self.b))
        self.reset_parameters()

    def reset_parameters(self, dplr: DPLR | None = None) -> None:
        """Draw Δ and C anew and set A and B to `dplr`, by default HiPPO-LegS."""
        dplr = legs_dplr(self.d_state) if dplr is None else dplr
        self._reset_common(dplr.a, dplr.b)
        with torch.no_grad():
            self.p.copy_(dplr.p)

    def kernel(self, length: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the convolution kernel K (d_model, length)."""
        dt, a, p, b, c = self._dt(), self._a(), self.p.double(), self.b.double(), self.c.double()
        q = conj(p)
        return cauchy(
            dt * mul(c, b), dt * mul(c, p), dt * mul(q, b), dt * mul(q, p), dt * a, length,
            dtype=dtype,
        )  # fmt: skip

    def system(self) -> Tensor:
        """Return Ā = 1 + diag(a) + p qᵀ, B̄ and C by Sherman-Morrison, (5, 2, d_state/2, d_model).

        With D = 1/(1 - ΔΛ/2) and β = (Δ/2) / (1 + (Δ/2) P* D P), the bilinear step is
        x_t = (1 + ΔΛ/2) D x_{t-1} - 2β D P (P* D x_{t-1}) + Δ (D B - β D P (P* D B)) u_t.
        """
        dt, a, p = self._dt(), self._a(), self.p.double()
        d = resolvent(a * dt / 2)
        column, row = mul(d, p), mul(d, conj(p))  # D P, P* D
        # Products with P* sum over conjugate pairs, so they are real: 2 Re Σ.
        pdp = 2 * real(mul(row, p)).sum(-1, keepdim=True).unsqueeze(-1)
        pdb = 2 * real(mul(row, self.b.double())).sum(-1, keepdim=True).unsqueeze(-1)
        beta = (dt / 2) / (1 + (dt / 2) * pdp)
        b_bar = dt * (mul(d, self.b.double()) - beta * pdb * column)
        return stack_system(dt * mul(a, d), b_bar, self.c.double(), column, -2 * beta * row)


class S4(SSMLayer):
    """S4 as a layer: the operator, a skip D, GELU, and a gated linear map that mixes features.

    Causal, any length:

        layer = S4(d_model=256)
        y = layer(torch.randn(2, 1000, 256))  # (2, 1000, 256)

    Args:
        d_model: number of features.
        d_state: real state dimensions per feature, even.
        dropout: probability, after GELU, with one mask for all time steps.
        dt_min: smallest initial step.
        dt_max: largest initial step.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Gu, Goel, Ré (2021), https://arxiv.org/abs/2111.00396
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        dropout: float = 0.0,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        operator = S4Kernel(
            d_model, d_state, dt_min=dt_min, dt_max=dt_max, device=device, dtype=dtype
        )
        super().__init__(operator, dropout=dropout)
