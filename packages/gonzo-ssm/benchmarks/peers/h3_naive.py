"""The algorithm of the original H3 code in plain torch, restated from its paper.

This is what that code runs where its CUDA extensions are not built: the diagonal kernel from a
whole (heads, d_state/2, time) table of complex powers, the shift kernel from FFTs of B and C, and
convolutions through FFTs of twice the length, all in the working precision. Activations are
(batch, features, time), outer products (batch, head_dim, head_dim, heads, time).
"""

import torch
from torch import Tensor, nn


class H3(nn.Module):
    """With the parameters of a `gonzo.ssm` H3 of the bilinear discretisation."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.n_head, self.head_dim = layer.n_head, layer.head_dim
        diagonal = layer.diagonal
        assert diagonal.discretization == "bilinear"
        given = {
            "q": layer.project_in.weight.chunk(3)[0], "q_bias": layer.project_in.bias.chunk(3)[0],
            "k": layer.project_in.weight.chunk(3)[1], "k_bias": layer.project_in.bias.chunk(3)[1],
            "v": layer.project_in.weight.chunk(3)[2], "v_bias": layer.project_in.bias.chunk(3)[2],
            "out": layer.project_out.weight, "out_bias": layer.project_out.bias,
            "shift_b": layer.shift_b, "shift_c": layer.shift_c, "shift_d": layer.shift_d,
            "d": layer.d, "log_dt": diagonal.log_dt, "log_a_real": diagonal.log_a_real,
            "a_imag": diagonal.a_imag, "b": diagonal.b, "c": diagonal.c,
        }  # fmt: skip
        for name, value in given.items():
            self.register_parameter(name, nn.Parameter(value.detach().clone()))

    def diagonal_kernel(self, length: int) -> Tensor:
        """K (heads, length)."""
        dt = self.log_dt.exp()[:, None]
        w = torch.complex(-self.log_a_real.exp(), self.a_imag) * dt
        b, c = torch.view_as_complex(self.b), torch.view_as_complex(self.c)
        weights = c * b * dt / (1 - w / 2)
        log_a_bar = ((1 + w / 2) / (1 - w / 2)).log()
        powers = (log_a_bar[..., None] * torch.arange(length, device=w.device)).exp()  # (H, N/2, L)
        return 2 * torch.einsum("hn,hnl->hl", weights, powers).real

    def shift_kernel(self, length: int) -> Tensor:
        """K (d_model, length), zero from d_state on."""
        n = self.shift_b.shape[1]
        b_f, c_f = (torch.fft.rfft(t, n=2 * n) for t in (self.shift_b, self.shift_c))
        kernel = torch.fft.irfft(b_f.conj() * c_f, n=2 * n)[:, : min(n, length)]
        return torch.nn.functional.pad(kernel, (0, max(0, length - n)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time, d_model) to the same shape."""
        batch, length, _ = x.shape
        flat = x.flatten(0, 1).T

        def project(weight: Tensor, bias: Tensor) -> Tensor:
            return (weight @ flat + bias[:, None]).unflatten(1, (batch, length)).transpose(0, 1)

        q, k, v = (
            project(getattr(self, name), getattr(self, f"{name}_bias")) for name in ("q", "k", "v")
        )
        k = convolve(k, self.shift_kernel(length)) + self.shift_d[:, None] * k
        q, k, v = (t.unflatten(1, (self.n_head, self.head_dim)).transpose(1, 2) for t in (q, k, v))
        kv = k[:, :, None] * v[:, None]
        y = convolve(kv, self.diagonal_kernel(length)) + self.d[:, None] * kv
        y = (q[:, :, None] * y).sum(1).transpose(1, 2).flatten(1, 2)
        return y.transpose(1, 2) @ self.out.T + self.out_bias


def convolve(u: Tensor, kernel: Tensor) -> Tensor:
    """Causal convolution over the last axis through FFTs of length + taps."""
    length = u.shape[-1]
    n = length + kernel.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(u, n=n) * torch.fft.rfft(kernel, n=n), n=n)[..., :length]
