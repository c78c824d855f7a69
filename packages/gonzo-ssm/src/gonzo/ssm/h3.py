"""H3: a shift and a diagonal state space model between three projections, as attention is built.

    y_t = W_o Σ_e q_t[e] · S4D(k̃[e] ⊗ v)_t,   k̃ = Shift(k),   [q, k, v] = W x

per head, whose features e and f make the outer product k̃ ⊗ v. The shift model remembers the last
d_state keys, x_t = (u_t B) + (x_{t-1} moved down by one), so it is a short convolution,

    Shift(u)_t = Σ_{l < d_state} (Σ_i C[i + l] B[i]) u_{t-l} + D_k u_t.

Fu, Dao, Saab, Thomas, Rudra, Ré: Hungry Hungry Hippos (2022), https://arxiv.org/abs/2212.14052.
Both skips D are added to lag 0 of their kernels.
"""

from __future__ import annotations

import functools
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core import SequenceModule, TrainRule
from gonzo.core.ops.long_conv import long_conv
from gonzo.core.ops.ssm_scan import ssm_scan
from gonzo.core.sequence import mask_padding

from .operator import at_least_float32
from .s4d import Discretization, Init, S4DKernel


class H3State(NamedTuple):
    """The state; stale after an optimizer step, as it carries both discrete models along."""

    keys: Tensor
    """(batch, d_model, d_state - 1): the last keys, the newest last."""
    x: Tensor
    """(batch, head_dim, head_dim, 2, d_state/2, n_head), of the diagonal model."""
    taps: Tensor
    """(d_model, d_state): the shift model's weights of those keys and the present one."""
    system: Tensor
    """(3, 2, d_state/2, n_head), as `ssm_scan` takes it."""

    shared = frozenset({"taps", "system"})


class H3(SequenceModule):
    """H3, causal, any length: it looks keys up by comparing a query with what followed them.

    Work and memory are head_dim times those of head_dim 1, since every head keeps a head_dim by
    head_dim matrix of models. Example::

        layer = H3(d_model=256)
        y = layer(torch.randn(2, 1000, 256))  # (2, 1000, 256)

    Args:
        d_model: number of features, a multiple of ``head_dim``.
        d_state: the keys that the shift model reaches, and the real state dimensions of the
            diagonal one; even.
        head_dim: features of a head. Feature ``h · head_dim + e`` is the e-th of head h.
        init: of the diagonal model; see `S4DKernel`.
        discretization: of the diagonal model.
        dt_min: smallest initial step of the diagonal model.
        dt_max: largest initial step.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Fu, Dao, Saab, Thomas, Rudra, Ré (2022), https://arxiv.org/abs/2212.14052
    """

    train_rules: ClassVar[dict[str, TrainRule]] = {
        "shift_b": TrainRule(max_lr=1e-3, weight_decay=0.0)
    }

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        head_dim: int = 1,
        init: Init = "lin",
        discretization: Discretization = "bilinear",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if head_dim < 1 or d_model < 1 or d_model % head_dim:
            raise ValueError(
                "H3: expected d_model to be a multiple of head_dim, "
                f"got d_model={d_model} and head_dim={head_dim}"
            )
        self.d_model, self.d_state, self.head_dim = d_model, d_state, head_dim
        self.n_head = d_model // head_dim
        self.diagonal = S4DKernel(
            self.n_head, d_state, init=init, discretization=discretization,
            dt_min=dt_min, dt_max=dt_max, device=device, dtype=dtype,
        )  # fmt: skip
        self.project_in = nn.Linear(d_model, 3 * d_model, device=device, dtype=dtype)
        self.project_out = nn.Linear(d_model, d_model, device=device, dtype=dtype)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.shift_b, self.shift_c = parameter(d_model, d_state), parameter(d_model, d_state)
        self.shift_d, self.d = parameter(d_model), parameter(self.n_head)
        self._reset_own()

    def reset_parameters(self) -> None:
        """Draw all parameters anew: of the shift, B is e₀ and C as a convolution's taps."""
        self.diagonal.reset_parameters()
        self.project_in.reset_parameters()
        self.project_out.reset_parameters()
        self._reset_own()

    @torch.no_grad()
    def _reset_own(self) -> None:
        self.shift_b.zero_()
        self.shift_b[:, 0] = 1
        bound = self.d_state**-0.5
        nn.init.uniform_(self.shift_c, -bound, bound)
        nn.init.normal_(self.shift_d)
        nn.init.normal_(self.d)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (batch, time, d_model) to the same shape."""
        self.check(x, lengths)
        time = x.shape[1]
        # Products and transforms run along time: made contiguous here, where activations are small.
        q, k, v = self.project_in(x).transpose(1, 2).contiguous().chunk(3, dim=1)
        k = long_conv(k, self._taps(x.dtype))
        kernel = self.diagonal.kernel(time, dtype=at_least_float32(x.dtype))
        kernel = kernel + F.pad(self.d.to(kernel.dtype)[:, None], (0, time - 1))
        q, k, v = self._heads(q), self._heads(k), self._heads(v)

        def row(q_row: Tensor, k_row: Tensor) -> Tensor:
            kv = k_row[:, None] * v  # (B, F, H, T)
            return q_row[:, None] * long_conv(kv.flatten(0, 1), kernel).view_as(kv)

        # A row of every head's matrix at a time: the whole outer products would leave the cache.
        read = functools.reduce(torch.add, map(row, q.unbind(1), k.unbind(1)))
        return mask_padding(self._project(read, q.dtype), lengths)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> H3State:
        """Return zeros and the discrete models, in the parameters' precision, float32 at least."""
        x, system = self.diagonal.init_state(batch, device=device, dtype=dtype)
        square = (self.head_dim, self.head_dim)
        return H3State(
            keys=x.new_zeros(batch, self.d_model, self.d_state - 1),
            x=x.new_zeros(batch, *square, *x.shape[1:]),
            taps=self._taps(x.dtype).flip(1).to(x),
            system=system,
        )

    def scan(
        self, x: Tensor, state: H3State, lengths: Tensor | None = None
    ) -> tuple[Tensor, H3State]:
        """Run the recurrence over a chunk."""
        self.check(x, lengths, state)
        time, behind = x.shape[1], self.d_state - 1
        q, k, v = self.project_in(x).transpose(1, 2).chunk(3, dim=1)
        keys = torch.cat([state.keys, k.to(state.keys.dtype)], dim=2)
        k = long_conv(keys, state.taps.flip(1))[..., behind:]
        if lengths is None:
            keys = keys[..., time:].clone()
        else:
            place = lengths[:, None] + torch.arange(behind, device=x.device)
            keys = keys.gather(2, place[:, None].expand(-1, self.d_model, -1))
        y, new = self._recur(q, k, v, state, lengths)
        return mask_padding(y, lengths), state._replace(keys=keys, x=new)

    def step(self, x_t: Tensor, state: H3State) -> tuple[Tensor, H3State]:
        """Run one step of the recurrence, O(d_state · head_dim) a feature."""
        self.check_step(x_t, state)
        q, k, v = self.project_in(x_t).unsqueeze(-1).chunk(3, dim=1)
        keys = torch.cat([state.keys, k.to(state.keys.dtype)], dim=2)
        k = (keys * state.taps).sum(-1, keepdim=True)
        y, new = self._recur(q, k, v, state, None)
        return y[:, 0], state._replace(keys=keys[..., 1:], x=new)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.d_model}, d_state={self.d_state}, head_dim={self.head_dim}"

    def _taps(self, dtype: torch.dtype) -> Tensor:
        """The shift model as a convolution, (d_model, d_state): C correlated with B, D at lag 0."""
        b, c = self.shift_b.double(), self.shift_c.double()
        taps = long_conv(c[None], b[:, :1], b[:, 1:])[0]
        skip = F.pad(self.shift_d.double()[:, None], (0, self.d_state - 1))
        return (taps + skip).to(at_least_float32(dtype))

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, d_model, time) to (batch, head_dim, n_head, time)."""
        return x.unflatten(1, (self.n_head, self.head_dim)).transpose(1, 2)

    def _recur(
        self, q: Tensor, k: Tensor, v: Tensor, state: H3State, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The diagonal model over a chunk of (batch, d_model, time), read by the queries."""
        q, k, v = self._heads(q), self._heads(k), self._heads(v)
        kv = k[:, :, None] * v[:, None]  # (B, E, F, H, T)
        each = None if lengths is None else lengths.repeat_interleave(self.head_dim**2)
        y, new = ssm_scan(
            kv.flatten(0, 2).transpose(1, 2), state.x.flatten(0, 2), state.system, lengths=each
        )
        y = torch.addcmul(y.transpose(1, 2).view_as(kv), kv, self.d.to(kv.dtype)[:, None])
        return self._project((q[:, :, None] * y).sum(1), q.dtype), new.view_as(state.x)

    def _project(self, read: Tensor, dtype: torch.dtype) -> Tensor:
        """(batch, head_dim, n_head, time) to the output (batch, time, d_model)."""
        return self.project_out(read.permute(0, 3, 2, 1).flatten(2).to(dtype))
