"""LSSL: a state space model per feature with dense A, the ancestor that S4 makes cheap.

    x' = A x + B u,  y = C x + D u;   with the generalised bilinear step of weight α
    Ā = (I - αΔA)⁻¹ (I + (1 - α)ΔA),   B̄ = (I - αΔA)⁻¹ ΔB,   K_l = C Ā^l B̄

Gu, Johnson, Goel, Saab, Dao, Rudra, Ré: Combining Recurrent, Convolutional, and Continuous-time
Models with Linear State-Space Layers (2021), https://arxiv.org/abs/2110.13985. α = 0 is forward
Euler, ½ bilinear, 1 backward Euler. The kernel goes through the Krylov matrix
(B̄, ĀB̄, …, Ā^{L-1}B̄), built by squaring Ā and doubling the columns: O(N²L) work and N·L numbers for
each feature, which is what S4 was made to avoid. Use it to compare, and `S4` to work.

Deviation: the paper keeps a learned A quasiseparable; here it is any dense matrix.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core import SequenceModule, TrainRule
from gonzo.core.autocast import outside_autocast
from gonzo.core.nn import Dropout
from gonzo.core.ops.checks import check_finite, check_length
from gonzo.core.ops.long_conv import long_conv
from gonzo.core.sequence import mask_padding, time_mask

from .hippo import legs
from .operator import at_least_float32


class LSSLState(NamedTuple):
    """The state; stale after an optimizer step, as it carries the discrete model along."""

    x: Tensor
    """(batch, d_model, d_state)."""
    change: Tensor
    """(d_model, d_state, d_state): Ā - I, which rounding harms less than Ā."""
    b_bar: Tensor
    """(d_model, d_state)."""
    c: Tensor
    """(d_model, channels, d_state)."""

    shared = frozenset({"change", "b_bar", "c"})


class LSSL(SequenceModule):
    """LSSL, causal, any length: the dense model, GELU, and a linear map over all its channels.

    A and B are one HiPPO-LegS for all features; Δ, C and D are each feature's own. With ``fixed``,
    A, B and Δ are not trained (LSSL-f in the paper). Example::

        layer = LSSL(d_model=16, d_state=32)
        y = layer(torch.randn(2, 100, 16))  # (2, 100, 16)

    Args:
        d_model: number of features.
        d_state: dimensions of each feature's state.
        channels: outputs of each feature's model, which the linear map mixes.
        alpha: weight of the implicit half of a step, in [0, 1].
        fixed: keep A, B and Δ as they start.
        dropout: probability, after GELU, with one mask for all time steps.
        dt_min: smallest initial step.
        dt_max: largest initial step.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Gu, Johnson, Goel, Saab, Dao, Rudra, Ré (2021), https://arxiv.org/abs/2110.13985
    """

    a: Tensor
    b: Tensor
    log_dt: Tensor

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        channels: int = 1,
        alpha: float = 0.5,
        fixed: bool = False,
        dropout: float = 0.0,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in {"d_model": d_model, "d_state": d_state, "channels": channels}.items():
            if size < 1:
                raise ValueError(f"LSSL: expected {name} of at least 1, got {size}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"LSSL: expected alpha between 0 and 1, got {alpha}")
        if not 0 < dt_min <= dt_max:
            raise ValueError(f"LSSL: expected 0 < dt_min <= dt_max, got {dt_min} and {dt_max}")
        # The eigenvalues of LegS are -1 … -d_state; the fastest leaves the unit circle first.
        if (1 - 2 * alpha) * dt_max * d_state >= 2:
            raise ValueError(
                f"LSSL: alpha={alpha} is unstable with dt_max={dt_max} and d_state={d_state}: "
                "expected (1 - 2 alpha) · dt_max · d_state < 2; use alpha of at least 0.5 or "
                f"dt_max below {2 / ((1 - 2 * alpha) * d_state):g}"
            )
        self.d_model, self.d_state, self.channels = d_model, d_state, channels
        self.alpha, self.fixed = alpha, fixed
        self.dt_min, self.dt_max = dt_min, dt_max
        self.rate = 1.0  # see set_rate

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, device=device, dtype=dtype)

        for name, shape in {"a": (d_state, d_state), "b": (d_state,), "log_dt": (d_model,)}.items():
            if fixed:
                self.register_buffer(name, empty(*shape))
            else:
                self.register_parameter(name, nn.Parameter(empty(*shape)))
        slow = TrainRule(max_lr=1e-4, weight_decay=0.0)
        dt_rule = TrainRule(max_lr=1e-3, weight_decay=0.0)
        self.train_rules = {} if fixed else {"a": slow, "b": slow, "log_dt": dt_rule}
        self.c = nn.Parameter(empty(d_model, channels, d_state))
        self.d = nn.Parameter(empty(d_model, channels))
        self.dropout = Dropout(dropout, tied=True)
        self.output = nn.Linear(channels * d_model, d_model, device=device, dtype=dtype)
        self._reset_own()

    def reset_parameters(self) -> None:
        """Set A and B to HiPPO-LegS and draw all else anew, Δ log-uniform, C and D normal."""
        self._reset_own()
        self.output.reset_parameters()

    @torch.no_grad()
    def _reset_own(self) -> None:
        for target, source in zip((self.a, self.b), legs(self.d_state), strict=True):
            target.copy_(source)
        nn.init.uniform_(self.log_dt, math.log(self.dt_min), math.log(self.dt_max))
        nn.init.normal_(self.c)
        nn.init.normal_(self.d)

    def kernel(self, length: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the convolution kernels K (d_model, channels, length), D at lag 0 included."""
        check_length("LSSL", length)
        a_bar, b_bar = self._discrete()
        return _kernel(krylov(a_bar, b_bar[..., None].to(dtype), length), self.c, self.d)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Convolve (batch, time, d_model) with the kernels, and mix."""
        self.check(x, lengths)
        with outside_autocast(x.device):
            y = _convolve(x, self.kernel(x.shape[1], dtype=at_least_float32(x.dtype)))
        return mask_padding(self._mix(y.mT, x.dtype), lengths)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> LSSLState:
        """Return zeros and the discrete model, in the parameters' precision, float32 at least."""
        a_bar, b_bar = self._discrete()
        change = a_bar - torch.eye(self.d_state, dtype=a_bar.dtype, device=a_bar.device)
        dtype = dtype or at_least_float32(self.c.dtype)
        change, b_bar, c = (t.to(device=device, dtype=dtype) for t in (change, b_bar, self.c))
        return LSSLState(b_bar.new_zeros(batch, *b_bar.shape), change, b_bar, c)

    def scan(
        self, x: Tensor, state: LSSLState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LSSLState]:
        """Run a chunk: a convolution, what the state adds to it, and the state after it."""
        self.check(x, lengths, state)
        time, precise = x.shape[1], state.x.dtype
        with outside_autocast(x.device):
            eye = torch.eye(self.d_state, dtype=torch.float64, device=x.device)
            a_bar = eye + state.change.double()
            columns = krylov(a_bar, state.b_bar[..., None], time)  # (H, N, T)
            y = _convolve(x.to(precise), _kernel(columns, state.c, self.d))
            c_a = (state.c.double() @ a_bar).mT.to(precise)
            rows = krylov(a_bar.mT, c_a, time).unflatten(-1, (time, self.channels))
            y = y + torch.einsum("bhn,hntm->bhmt", state.x, rows).flatten(1, 2)
            after = _advance(a_bar, state.x, time, lengths)
            # The last input meets B̄, the one before it ĀB̄, …
            lag = torch.arange(time, device=x.device)
            u = x.to(precise)
            if lengths is None:
                recent = u.flip(1)
            else:
                place = (lengths[:, None] - 1 - lag).clamp(min=0)
                recent = u.gather(1, place[..., None].expand_as(u))
                recent = recent.masked_fill(~time_mask(lengths, time)[..., None], 0)
            after = after + torch.einsum("hnl,blh->bhn", columns, recent)
        return mask_padding(self._mix(y.mT, x.dtype), lengths), state._replace(x=after)

    def step(self, x_t: Tensor, state: LSSLState) -> tuple[Tensor, LSSLState]:
        """Run one step of the recurrence, O(d_state²) a feature."""
        self.check_step(x_t, state)
        with outside_autocast(x_t.device):
            u = x_t.to(state.x.dtype)[..., None]
            moved = torch.einsum("hmn,bhn->bhm", state.change, state.x)
            after = state.x + (moved + state.b_bar * u)
            y = torch.einsum("hmn,bhn->bhm", state.c, after) + self.d.to(u.dtype) * u
        return self._mix(y.flatten(1), x_t.dtype), state._replace(x=after)

    def extra_repr(self) -> str:
        """Sizes and choices, for printing."""
        return (
            f"{self.d_model}, d_state={self.d_state}, channels={self.channels}, "
            f"alpha={self.alpha}, fixed={self.fixed}"
        )

    def _discrete(self) -> tuple[Tensor, Tensor]:
        """Ā (d_model, d_state, d_state) and B̄ (d_model, d_state), in float64."""
        a, b = self.a.double(), self.b.double()
        dt = self.rate * self.log_dt.double().exp()[:, None, None]
        eye = torch.eye(self.d_state, dtype=a.dtype, device=a.device)
        explicit = torch.cat([eye + (1 - self.alpha) * dt * a, dt * b[:, None]], dim=-1)
        a_and_b = torch.linalg.solve(eye - self.alpha * dt * a, explicit)
        if a_and_b.device.type == "cpu" and not torch.compiler.is_compiling():
            check_finite("LSSL", a=a_and_b)
        return a_and_b[..., :-1], a_and_b[..., -1]

    def _mix(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """(…, d_model · channels) to the output."""
        return self.output(self.dropout(F.gelu(y)).to(dtype))


def krylov(a: Tensor, x: Tensor, length: int) -> Tensor:
    """Return x, A x, …, A^(length-1) x side by side, by squaring A and doubling the columns.

    Args:
        a: (…, n, n). Squared in its own precision, and rounded to that of `x` in each product.
        x: (…, n, columns).
        length: powers of A, from 0.

    Returns:
        (…, n, length · columns), the columns of each power next to one another.
    """
    columns, have = x.shape[-1], 1
    while have < length:
        more = min(have, length - have)
        x = torch.cat([x, a.to(x.dtype) @ x[..., : more * columns]], dim=-1)
        have += more
        if have < length:
            a = a @ a
    return x


def _kernel(columns: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """C times the Krylov matrix, with the skip D at lag 0."""
    skip = F.pad(d.to(columns.dtype)[..., None], (0, columns.shape[-1] - 1))
    return c.to(columns.dtype) @ columns + skip


def _convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """(batch, time, d_model) by (d_model, channels, taps): (batch, d_model · channels, time)."""
    channels = kernel.shape[1]
    u = x.mT if channels == 1 else x.mT.repeat_interleave(channels, dim=1)
    return long_conv(u, kernel.flatten(0, 1))


def _advance(a: Tensor, x: Tensor, time: int, lengths: Tensor | None) -> Tensor:
    """A^time x, or A^length x for each sequence, through the binary digits of the power."""
    for digit in range(time.bit_length()):
        if lengths is not None:
            moves = (lengths >> digit & 1).bool()[:, None, None]
            x = torch.where(moves, torch.einsum("hmn,bhn->bhm", a.to(x.dtype), x), x)
        elif time >> digit & 1:
            x = torch.einsum("hmn,bhn->bhm", a.to(x.dtype), x)
        if time >> digit > 1:
            a = a @ a
    return x
