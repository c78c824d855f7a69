"""S5: one state space model with many inputs and outputs, diagonal, run by a scan.

    x_t = Ā ∘ x_{t-1} + B̄ u_t,   y_t = 2 Re(C x_t) + D ∘ u_t,   Ā = exp(ΔΛ),  B̄ = (Ā - 1)/Λ · B

Smith, Warrington, Linderman: Simplified State Space Layers for Sequence Modeling (2022),
https://arxiv.org/abs/2208.04933. Λ starts as the spectrum of HiPPO-N, once per block, with a Δ for
each state; its eigenvectors V are folded into B = V* B₀ and C = C₀ V. One of each conjugate pair
is stored.

Deviation: Re Λ = -exp(·) stays negative (the authors train Re Λ itself), and C₀ is real, as B₀ is,
so that the layer starts as a rotated real model.

Memory: training keeps the states, d_state numbers a step (a (batch, time, d_state) tensor), and the
scan's backward reads them; B̄ u is not kept.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core import SequenceModule, TrainRule
from gonzo.core.autocast import outside_autocast
from gonzo.core.complex_pairs import conj, mul
from gonzo.core.nn import Dropout
from gonzo.core.ops.checks import check_finite
from gonzo.core.ops.linear_scan import linear_scan_pairs
from gonzo.core.sequence import mask_padding

from .discretize import zoh
from .hippo import legs_normal
from .operator import at_least_float32

_SLOW = TrainRule(max_lr=1e-3, weight_decay=0.0)


class S5State(NamedTuple):
    """The state; stale after an optimizer step, as it carries the discrete model along."""

    x: Tensor
    """(batch, d_state/2, 2)."""
    a_bar: Tensor
    """(d_state/2, 2)."""
    b_bar: Tensor
    """(d_state, d_model), the rows of each pair next to one another."""
    c: Tensor
    """(d_model, d_state), 2 Re(C ·) on such pairs."""

    shared = frozenset({"a_bar", "b_bar", "c"})


class S5Operator(SequenceModule):
    """The bare S5 model: linear, mixing features through one shared state, with the skip D.

    Args:
        d_model: number of features.
        d_state: real dimensions of the state, even: conjugate pairs are stored once.
        n_block: the state starts as this many copies of HiPPO-N, each of an even size.
        dt_min: smallest initial step Δ, in units of the sequence's own step.
        dt_max: largest initial step.
    """

    train_rules: ClassVar[dict[str, TrainRule]] = dict.fromkeys(
        ("log_dt", "log_a_real", "a_imag", "b"), _SLOW
    )

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        n_block: int = 1,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if d_model < 1:
            raise ValueError(f"S5: expected d_model of at least 1, got {d_model}")
        if n_block < 1 or d_state < 2 * n_block or d_state % (2 * n_block):
            raise ValueError(
                f"S5: expected d_state to be a multiple of 2 · n_block, got {d_state} and "
                f"{n_block}; it counts real dimensions, and conjugate pairs are stored once"
            )
        if not 0 < dt_min <= dt_max:
            raise ValueError(f"S5: expected 0 < dt_min <= dt_max, got {dt_min} and {dt_max}")
        self.d_model, self.d_state, self.n_block = d_model, d_state, n_block
        self.dt_min, self.dt_max = dt_min, dt_max
        self.rate = 1.0  # see set_rate
        half = d_state // 2

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.log_dt, self.log_a_real, self.a_imag = (parameter(half) for _ in range(3))
        self.b, self.c = parameter(half, d_model, 2), parameter(d_model, half, 2)
        self.d = parameter(d_model)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set Λ to HiPPO-N, and draw Δ, B₀, C₀ (variance 1/d_state) and D anew."""
        size = self.d_state // self.n_block
        a, v = legs_normal(size)
        nn.init.uniform_(self.log_dt, math.log(self.dt_min), math.log(self.dt_max))
        self.log_a_real.copy_(a[:, 0].neg().log().repeat(self.n_block))
        self.a_imag.copy_(a[:, 1].repeat(self.n_block))
        v = v.to(self.b.device, self.b.dtype)
        b = self.b.new_empty(self.n_block, size, self.d_model).normal_(std=self.d_state**-0.5)
        c = self.c.new_empty(self.d_model, self.n_block, size).normal_(std=self.d_state**-0.5)
        self.b.copy_(torch.einsum("nmp,jnd->jmdp", conj(v), b).flatten(0, 1))
        self.c.copy_(torch.einsum("nmp,djn->djmp", v, c).flatten(1, 2))
        nn.init.normal_(self.d)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (batch, time, d_model) to the same shape."""
        self.check(x, lengths)
        return mask_padding(self.forward_unchecked(x), lengths)

    def forward_unchecked(self, x: Tensor) -> Tensor:
        """Map a whole sequence, for a layer that has checked it in its own name."""
        return self._run(x, self._discrete(), None)[0]

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> S5State:
        """Return zeros and the discrete model, in the parameters' precision, float32 at least.

        In float32 a state is off by some 1e-5 after thousands of steps with Δ = 1e-3, as Ā is
        rounded; ``dtype=torch.float64`` asks for more.
        """
        system = self._discrete()
        if system[0].device.type == "cpu" and not torch.compiler.is_compiling():
            check_finite(
                type(self).__name__, **dict(zip(("a_bar", "b_bar", "c"), system, strict=True))
            )
        a_bar, b_bar, c = (t.to(device=device, dtype=dtype) for t in system)
        return S5State(a_bar.new_zeros(batch, *a_bar.shape), a_bar, b_bar, c)

    def scan(
        self, x: Tensor, state: S5State, lengths: Tensor | None = None
    ) -> tuple[Tensor, S5State]:
        """Run a chunk."""
        self.check(x, lengths, state)
        y, state = self.scan_unchecked(x, state, lengths)
        return mask_padding(y, lengths), state

    def scan_unchecked(
        self, x: Tensor, state: S5State, lengths: Tensor | None
    ) -> tuple[Tensor, S5State]:
        """Run a chunk for a layer that has checked the arguments, and masks, itself."""
        y, states = self._run(x, state[1:], state.x)
        if lengths is None:
            return y, state._replace(x=states[:, -1])
        last = (lengths - 1).clamp(min=0)
        new = states[torch.arange(x.shape[0], device=x.device), last]
        return y, state._replace(x=torch.where((lengths > 0)[:, None, None], new, state.x))

    def step(self, x_t: Tensor, state: S5State) -> tuple[Tensor, S5State]:
        """Run one step: O(d_state · d_model)."""
        self.check_step(x_t, state)
        return self.step_unchecked(x_t, state)

    def step_unchecked(self, x_t: Tensor, state: S5State) -> tuple[Tensor, S5State]:
        """Run one step for a layer that has checked the arguments in its own name."""
        with outside_autocast(x_t.device):
            u = x_t.to(state.x.dtype)
            new = mul(state.a_bar, state.x) + F.linear(u, state.b_bar).view_as(state.x)
            y = F.linear(new.flatten(1), state.c)
            y = torch.addcmul(y, u, self.d.to(u.dtype)).to(x_t.dtype)
        return y, state._replace(x=new)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.d_model}, d_state={self.d_state}, n_block={self.n_block}"

    def _discrete(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ā, B̄ and C as the state holds them, formed in float64."""
        precise = at_least_float32(self.log_dt.dtype)
        a = torch.stack([-self.log_a_real.double().exp(), self.a_imag.double()], -1)
        dt = self.rate * self.log_dt.double().exp()[:, None, None]
        a_bar, b_bar = zoh(a[:, None], self.b.double(), dt)
        return (
            a_bar.squeeze(1).to(precise),
            b_bar.transpose(1, 2).flatten(0, 1).to(precise),
            2 * conj(self.c.to(precise)).flatten(1),
        )

    def _run(
        self, x: Tensor, system: tuple[Tensor, ...], initial: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The outputs, and all states (batch, time, d_state/2, 2)."""
        a_bar, b_bar, c = system
        dtype = torch.promote_types(a_bar.dtype, x.dtype)
        with outside_autocast(x.device):
            u = x.to(dtype)
            driven = F.linear(u, b_bar.to(dtype)).unflatten(-1, a_bar.shape)
            states = linear_scan_pairs(a_bar.to(dtype), driven, initial)
            y = F.linear(states.flatten(2), c.to(dtype))
            return torch.addcmul(y, u, self.d.to(dtype)).to(x.dtype), states


class S5(SequenceModule):
    """S5 as a layer: the operator, GELU, and a gate: y = g ∘ σ(W g + bias), g = GELU(operator(x)).

    Causal, any length. One state serves all features, so that a step costs O(d_state · d_model).
    Example::

        layer = S5(d_model=256)
        y = layer(torch.randn(2, 1000, 256))  # (2, 1000, 256)

    Args:
        d_model: number of features.
        d_state: real dimensions of the one state, even.
        n_block: blocks of HiPPO-N that the state starts from.
        dropout: probability, after GELU, with one mask for all time steps.
        dt_min: smallest initial step.
        dt_max: largest initial step.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Smith, Warrington, Linderman (2022), https://arxiv.org/abs/2208.04933
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        n_block: int = 1,
        dropout: float = 0.0,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.operator = S5Operator(
            d_model, d_state, n_block=n_block, dt_min=dt_min, dt_max=dt_max,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.dropout = Dropout(dropout, tied=True)
        self.gate = nn.Linear(d_model, d_model, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.operator.reset_parameters()
        self.gate.reset_parameters()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (batch, time, d_model) to the same shape."""
        self.check(x, lengths)
        return mask_padding(self._gated(self.operator.forward_unchecked(x)), lengths)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> S5State:
        """Return the operator's initial state."""
        return self.operator.init_state(batch, device=device, dtype=dtype)

    def scan(
        self, x: Tensor, state: S5State, lengths: Tensor | None = None
    ) -> tuple[Tensor, S5State]:
        """Run a chunk."""
        self.check(x, lengths, state)
        y, state = self.operator.scan_unchecked(x, state, lengths)
        return mask_padding(self._gated(y), lengths), state

    def step(self, x_t: Tensor, state: S5State) -> tuple[Tensor, S5State]:
        """Run one time step."""
        self.check_step(x_t, state)
        y_t, state = self.operator.step_unchecked(x_t, state)
        return self._gated(y_t), state

    def _gated(self, y: Tensor) -> Tensor:
        g = self.dropout(F.gelu(y))
        return g * self.gate(g).sigmoid()
