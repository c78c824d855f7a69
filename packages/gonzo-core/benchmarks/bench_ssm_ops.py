"""The ops of state space models beside the same sums formed whole in torch's complex numbers."""

import torch

from gonzo.core.bench import TimeRow, main
from gonzo.core.ops.cauchy import cauchy
from gonzo.core.ops.ssm_scan import ssm_scan
from gonzo.core.ops.vandermonde import vandermonde

H, N, L = 64, 32, 2048  # heads, stored pairs, length


def _modes(heads, n):
    """w in the left half plane, as pairs in float64."""
    return torch.stack([-0.05 * torch.rand(heads, n), 3 * torch.rand(heads, n)], -1).double()


def _vandermonde_inputs():
    z = torch.view_as_real(torch.view_as_complex(_modes(H, N)).exp())
    c = torch.randn(H, N, 2).double()
    return c.requires_grad_(), z.requires_grad_(), torch.randn(H, L)


def _whole_vandermonde(c, z, grad):
    c, z = (torch.view_as_complex(t.float()) for t in (c, z))
    powers = (z.log()[..., None] * torch.arange(L)).exp()  # (H, N, L)
    return 2 * torch.einsum("hn,hnl->hl", c, powers).real


def _vandermonde(c, z, grad):
    return vandermonde(c, z, L)


def _cauchy_inputs():
    w, cb = _modes(H, N), torch.randn(H, N, 2).double()
    inputs = [cb, 0.1 * cb, 0.1 * cb, 0.01 * torch.rand(H, N, 2).double(), w]
    return *(t.requires_grad_() for t in inputs), torch.randn(H, L)


def _whole_cauchy(*inputs):
    *vectors, w = (torch.view_as_complex(t.float()) for t in inputs[:-1])
    v, w = torch.stack(vectors), w[..., None]
    zeta = 0.999 * torch.exp(-2j * torch.pi / L * torch.arange(L // 2 + 1))
    g = 2 * (1 - zeta) / (1 + zeta)
    both = torch.cat([1 / (g - w), 1 / (g - w.conj())], 1)  # (H, 2N, L/2+1)
    k = (torch.cat([v, v.conj()], -1)[..., None] * both).sum(2)
    return torch.fft.irfft(2 / (1 + zeta) * (k[0] - k[1] * k[2] / (1 + k[3])), n=L)


def _cauchy(*inputs):
    return cauchy(*inputs[:-1], L)


def _scan_inputs():
    z = 0.9 * torch.randn(5, 2, N, H) / (2 * N) ** 0.5
    return torch.randn(4, 512, H), torch.zeros(4, 2, N, H), z.requires_grad_(), None


def _scan(u, state, system, _):
    return ssm_scan(u, state, system)[0]


def _loop(u, state, system, _):
    return ssm_scan(u, state, system, backend="reference")[0]


def _and_back(call):
    def run(*inputs):
        wanted = [t for t in inputs if t is not None and t.requires_grad]
        return torch.autograd.grad(call(*inputs).square().sum(), wanted)

    return run


CASES = [
    ("vandermonde H64 N64 L2048", _vandermonde, _whole_vandermonde, _vandermonde_inputs,
     "exp of (H, N, L) in complex64", "tests/test_vandermonde.py"),
    ("cauchy H64 N64 L2048", _cauchy, _whole_cauchy, _cauchy_inputs,
     "four sums over (H, N, L/2) in complex64", "tests/test_cauchy.py"),
    ("ssm_scan B4 T512 H64 N64", _scan, _loop, _scan_inputs,
     "the loop in torch's complex64", "tests/test_ssm_scan.py"),
]  # fmt: skip

ROWS = [
    TimeRow(
        what=f"{what} {way}",
        ours=wrap(ours),
        peer=wrap(peer),
        peer_name=name,
        setup=setup,
        tests=[tests],
    )
    for what, ours, peer, setup, name, tests in CASES
    for way, wrap in (("forward", lambda call: call), ("forward+backward", _and_back))
]

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-core", script=__file__))
