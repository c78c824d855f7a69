"""The algorithms of the original S4 and S4D code in plain torch, restated from their papers.

This is what that code runs where its CUDA extension is not built: complex tensors, powers of ω in
the working precision, C̃ = C (I - Ā^L) as the parameter, and every Cauchy and Vandermonde product
formed whole. Real dtype float32 means complex64. Layout is its own, (batch, features, time).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def both(x: Tensor, dim: int = -1) -> Tensor:
    """One of each conjugate pair to all."""
    return torch.cat([x, x.conj()], dim)


class S4Kernel(nn.Module):
    """S4, algorithm 1, with the parameters of a `gonzo.ssm.S4Kernel`."""

    def __init__(self, operator: nn.Module, length: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.length = length
        a, p, b, dt = continuous(operator)
        a_bar, _, c = dense(operator)
        last = torch.linalg.matrix_power(a_bar, length)
        c = (both(c) - (both(c)[..., None, :] @ last)[..., 0, :])[..., : a.shape[1]]
        omega = cast(torch.tensor(-2j * torch.pi / length, dtype=torch.complex128).exp(), dtype)
        omega = omega ** torch.arange(length // 2 + 1)
        self.register_buffer("omega", omega)
        self.register_buffer("z", 2 * (1 - omega) / (1 + omega))
        self.log_dt = nn.Parameter(dt[:, 0].log().to(dtype))
        self.log_a_real = nn.Parameter((-a.real).log().to(dtype))
        self.a_imag = nn.Parameter(a.imag.to(dtype))
        for name, value in {"b": b, "c": c, "p": p}.items():
            setattr(self, name, nn.Parameter(torch.view_as_real(cast(value, dtype)).clone()))

    def forward(self) -> Tensor:
        """Return K (channels · features, length)."""
        a = torch.complex(-self.log_a_real.exp(), self.a_imag)
        dt = self.log_dt.exp()
        b, c, p = (torch.view_as_complex(v) for v in (self.b, self.c, self.p))
        channels = len(c)
        left, right = torch.cat([c, p.conj()]), torch.cat([b[None], p])
        v = right[None] * left[:, None]  # (channels + rank, 1 + rank, H, N/2)
        w = dt[:, None] * a
        terms = both(v)[..., None] / (self.z - both(w)[..., None])  # (…, H, N, L/2+1)
        k = terms.sum(-2) * dt[:, None]
        k = corrected(k[:channels, 0], k[:channels, 1:], k[channels:, 0], k[channels:, 1:])
        return torch.fft.irfft(k * 2 / (1 + self.omega), n=self.length).flatten(0, 1)


def corrected(cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor) -> Tensor:
    """Woodbury's k_CB - k_CP (1 + k_QP)⁻¹ k_QB for rank 1 and, written out, rank 2."""
    if len(qp) == 1:
        return cb - cp[:, 0] * qb[0] / (1 + qp[0, 0])
    (e, f), (g, h) = qp
    e, h = 1 + e, 1 + h
    found = cp[:, 0] * (h * qb[0] - f * qb[1]) + cp[:, 1] * (e * qb[1] - g * qb[0])
    return cb - found / (e * h - f * g)


class S4DKernel(nn.Module):
    """S4D, listing 1, with the parameters of a `gonzo.ssm.S4DKernel` (zero-order hold)."""

    def __init__(self, operator: nn.Module, length: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.length = length
        a, _, b, dt = continuous(operator)
        c = torch.view_as_complex(operator.c.detach().double()) * b
        self.log_dt = nn.Parameter(dt[:, 0].log().to(dtype))
        self.log_a_real = nn.Parameter((-a.real).log().to(dtype))
        self.a_imag = nn.Parameter(a.imag.to(dtype))
        self.c = nn.Parameter(torch.view_as_real(cast(c, dtype)).clone())

    def forward(self) -> Tensor:
        """Return K (features, length)."""
        a = torch.complex(-self.log_a_real.exp(), self.a_imag)
        w = a * self.log_dt.exp()[:, None]
        lags = torch.arange(self.length, device=w.device)
        powers = (w[..., None] * lags).exp()  # (H, N/2, L)
        c = torch.view_as_complex(self.c) * (w.exp() - 1) / a
        return 2 * torch.einsum("hn,hnl->hl", c, powers).real


class Block(nn.Module):
    """Kernel, FFT convolution of size 2L, skip D, GELU, linear map to 2H, GLU; (B, H, L)."""

    def __init__(self, kernel: nn.Module, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.kernel = kernel
        self.d = nn.Parameter(layer.d.detach().to(dtype, copy=True)[:, None])
        self.output = nn.Conv1d(len(self.d), 2 * len(self.d), 1, dtype=dtype)
        with torch.no_grad():
            self.output.weight.copy_(layer.output.weight[..., None])
            self.output.bias.copy_(layer.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, features, time) to the same shape."""
        length = x.shape[-1]
        k_f = torch.fft.rfft(self.kernel(), n=2 * length)
        x_f = torch.fft.rfft(x, n=2 * length)
        y = torch.fft.irfft(x_f * k_f, n=2 * length)[..., :length] + self.d * x
        return F.glu(self.output(F.gelu(y)), dim=1)


class Step(nn.Module):
    """One step with a dense Ā (H, N, N), the original's default."""

    def __init__(self, operator: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        a_bar, b_bar, c = (cast(v, dtype) for v in dense(operator))
        self.register_buffer("a_bar", a_bar)
        self.register_buffer("b_bar", both(b_bar))
        self.register_buffer("c", both(c[0]))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x (batch, features) and state (batch, features, N) to y and the next state."""
        state = torch.einsum("hmn,bhn->bhm", self.a_bar, state) + self.b_bar * x[..., None]
        return torch.einsum("hn,bhn->bh", self.c, state).real, state


class BlockStep(nn.Module):
    """One step of `Block`."""

    def __init__(self, step: Step, block: Block) -> None:
        super().__init__()
        self.step, self.d = step, block.d[:, 0]
        self.weight, self.bias = block.output.weight[..., 0], block.output.bias

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x (batch, features) and the state to y and the next state."""
        y, state = self.step(x, state)
        return F.glu(F.linear(F.gelu(y + self.d * x), self.weight, self.bias)), state


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Complex `x` in the precision of the real `dtype`."""
    return x.to(torch.complex128 if dtype == torch.float64 else torch.complex64)


def continuous(operator: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Λ, B (H, N/2), P (rank, H, N/2) and Δ (H, 1) of one of our operators, in double."""
    a = torch.complex(-operator.log_a_real.detach().double().exp(), operator.a_imag.double())
    b = torch.view_as_complex(operator.b.detach().double())
    has_p = hasattr(operator, "p")
    p = torch.view_as_complex(operator.p.detach().double()) if has_p else 0 * b[None]
    return a.detach(), p, b, operator.log_dt.detach().double().exp()[:, None]


def dense(operator: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Bilinear Ā (H, N, N) by solving, B̄ (H, N/2) and C (channels, H, N/2), one of each pair."""
    a, p, b, dt = continuous(operator)
    a = torch.diag_embed(both(a)) - torch.einsum("rhm,rhn->hmn", both(p), both(p).conj())
    eye, half = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device), dt[..., None] / 2 * a
    a_bar = torch.linalg.solve(eye - half, eye + half)
    b_bar = torch.linalg.solve(eye - half, dt * both(b))[:, : b.shape[1]]
    c = torch.view_as_complex(operator.c.detach().double())
    return a_bar, b_bar, c.unflatten(0, (-1, len(a)))
