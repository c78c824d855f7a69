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
from .hippo import DPLR, DPLR_INITS, DPLRInit
from .layer import SSMLayer, narrowed
from .operator import stack_system
from .state_space import SSMOperator, check_choice


class S4Kernel(SSMOperator):
    """The bare S4 operator: one diagonal-plus-low-rank state space model per feature.

    Maps (batch, time, d_model) to the same shape, linearly and without mixing features. It starts
    as a HiPPO matrix with Δ log-uniform in [dt_min, dt_max]. Arguments as in `SSMOperator`, and:

    Args:
        init: ``"legs"`` (rank 1, the whole past), ``"legt"`` (rank 2) or ``"fout"`` (rank 1), which
            remember a window of 1/Δ steps.
        clip_b: start with Im B clipped to ±2, as the original does; see `legs_dplr`.
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
        init: DPLRInit = "legs",
        clip_b: bool = False,
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
        check_choice("S4", "init", init, DPLR_INITS)
        self.init, self.clip_b = init, clip_b
        self.rank = len(DPLR_INITS[init](2).p)
        p = self.b.new_empty(self.rank, *self.b.shape)
        self.p = nn.Parameter(p, requires_grad=not fixed_a)
        self.reset_parameters()

    def reset_parameters(self, dplr: DPLR | None = None) -> None:
        """Draw Δ and C anew and set A and B to `dplr`, by default HiPPO's."""
        if dplr is None:
            dplr = DPLR_INITS[self.init](self.d_state, clip_b=self.clip_b)
        self._reset_common(dplr.a, dplr.b)
        with torch.no_grad():
            self.p.copy_(dplr.p[:, None])

    def kernel(self, length: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the convolution kernel K (channels · d_model, length)."""
        dt, a, b, c, p = self._continuous()
        left = torch.cat([c.unsqueeze(1), conj(p)], 1).unsqueeze(2)  # C, then each P*
        right = torch.cat([(dt * b).unsqueeze(1), dt.unsqueeze(1) * p], 1).unsqueeze(1)
        v = mul(left, right)  # (heads, 1 + rank, 1 + rank, n, 2)
        cb, cp, qb, qp = v[:, 0, 0], v[:, 0, 1:], v[:, 1:, 0], v[:, 1:, 1:]
        if self.rank == 1:  # the op has a kernel of its own for it, without an axis for the rank
            cp, qb, qp = cp[:, 0], qb[:, 0], qp[:, 0, 0]
        return cauchy(cb, cp, qb, qp, dt * a, length, dtype=dtype)

    def system(self) -> Tensor:
        """Return Ā = 1 + diag(a) + Σ_r p_r q_rᵀ, B̄ and C, (3 + 2 · rank, 2, d_state/2, heads).

        By Woodbury, with D = 1/(1 - ΔΛ/2) and the real M = (2/Δ + P* D P)⁻¹, the bilinear step is
        x_t = (1 + ΔΛ/2) D x_{t-1} - 2 D P M P* D x_{t-1} + Δ (D B - D P M P* D B) u_t.
        """
        dt, a, b, c, p = self._continuous()
        d = resolvent(a * dt / 2)
        columns, rows = mul(d.unsqueeze(1), p), mul(d.unsqueeze(1), conj(p))  # D P, P* D
        # Products with P* sum over conjugate pairs, so they are real: 2 Re Σ.
        pdp = 2 * real(mul(rows.unsqueeze(2), p.unsqueeze(1))).sum(-1)  # (heads, rank, rank)
        pdb = 2 * real(mul(rows, b.unsqueeze(1))).sum(-1, keepdim=True)
        m = torch.linalg.inv(pdp + 2 / dt * torch.eye(self.rank, dtype=dt.dtype, device=dt.device))
        b_bar = dt * (mul(d, b) - ((m @ pdb).unsqueeze(-1) * columns).sum(1))
        reads = -2 * (m @ rows.flatten(2)).view_as(rows)
        rank = [v.select(1, r) for r in range(self.rank) for v in (columns, reads)]
        return stack_system(dt * mul(a, d), b_bar, c, *rank)

    def extra_repr(self) -> str:
        """Sizes and choices, for printing."""
        return f"{super().extra_repr()}, init={self.init}" + ", clip_b=True" * self.clip_b

    def _continuous(self) -> tuple[Tensor, ...]:
        """Δ (heads, 1, 1), Λ, B, C (heads, n, 2) and P (heads, rank, n, 2), in float64."""
        p = self._each(self.p.double().transpose(0, 1))
        return self._dt(), self._a(), self._each(self.b.double()), self.c.double(), p


class S4(SSMLayer):
    """S4 as a layer: the operator, a skip D, GELU, and a gated linear map that mixes features.

    Causal, any length:

        layer = S4(d_model=256)
        y = layer(torch.randn(2, 1000, 256))  # (2, 1000, 256)

    Args:
        d_model: number of features.
        d_state: real state dimensions per feature, even.
        init: ``"legs"``, ``"legt"`` or ``"fout"``; see `S4Kernel`.
        clip_b: start with B clipped as in the original; see `S4Kernel`.
        channels: outputs of each feature's model, all of which the linear map mixes.
        n_ssm: number of different A and B; see `S4Kernel`.
        fixed_a: keep A as it starts.
        gate: multiply by GELU(V x), in gate · d_model features; see `SSMLayer`.
        bottleneck: run the operator on d_model/bottleneck features; see `SSMLayer`.
        dropout: probability, with one mask for all time steps.
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
        init: DPLRInit = "legs",
        clip_b: bool = False,
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
        operator = S4Kernel(
            narrowed("S4", d_model, bottleneck), d_state, init=init, clip_b=clip_b,
            channels=channels, n_ssm=n_ssm, fixed_a=fixed_a,
            dt_min=dt_min, dt_max=dt_max, device=device, dtype=dtype,
        )  # fmt: skip
        super().__init__(operator, gate=gate, bottleneck=bottleneck, dropout=dropout)
