"""The ops of state space models beside the same sums formed whole in torch's complex numbers."""

import torch

from gonzo.core.bench import TimeRow, main
from gonzo.core.ops.cauchy import cauchy
from gonzo.core.ops.ssm_scan import ssm_scan
from gonzo.core.ops.vandermonde import vandermonde

H, N, L = 64, 32, 2048  # heads, stored pairs, length


def modes(heads, n):
    """w in the left half plane, as pairs in float64."""
    return torch.stack([-0.05 * torch.rand(heads, n), 3 * torch.rand(heads, n)], -1).double()


def vandermonde_inputs(h, n, length):
    z = torch.view_as_real(torch.view_as_complex(modes(h, n)).exp())
    c = torch.randn(h, n, 2).double()
    return c.requires_grad_(), z.requires_grad_(), torch.randn(h, length)


def whole_vandermonde(c, z, grad):
    c, z = (torch.view_as_complex(t.float()) for t in (c, z))
    lags = torch.arange(grad.shape[1], device=z.device)
    powers = (z.log()[..., None] * lags).exp()  # (H, N, L)
    return 2 * torch.einsum("hn,hnl->hl", c, powers).real


def ours_vandermonde(c, z, grad):
    return vandermonde(c, z, grad.shape[1])


def cauchy_inputs(h, n, length):
    w, cb = modes(h, n), torch.randn(h, n, 2).double()
    vectors = [cb, 0.1 * cb, 0.1 * cb, 0.01 * torch.rand(h, n, 2).double(), w]
    return *(t.requires_grad_() for t in vectors), torch.randn(h, length)


def cauchy_rank_two_inputs(h, n, length):
    cb, *_, w, grad = cauchy_inputs(h, n, length)
    p, q = (0.1 * torch.randn(h, 2, n, 2).double() for _ in range(2))
    qp = 0.01 * torch.rand(h, 2, 2, n, 2).double()
    return cb, *(t.requires_grad_() for t in (p, q, qp)), w, grad


def poles(w, length):
    """2/(1+ζ) at the nodes, and both fractions of each pair of modes, (H, 2N, L/2+1)."""
    w = torch.view_as_complex(w.float())[..., None]
    nodes = torch.arange(length // 2 + 1, device=w.device)
    zeta = 0.999 * torch.exp(-2j * torch.pi / length * nodes)
    g = 2 * (1 - zeta) / (1 + zeta)
    return 2 / (1 + zeta), torch.cat([1 / (g - w), 1 / (g - w.conj())], 1)


def whole_cauchy(*inputs):
    *vectors, w, grad = inputs
    length = grad.shape[1]
    v = torch.view_as_complex(torch.stack(vectors).float())
    scale, both = poles(w, length)
    k = (torch.cat([v, v.conj()], -1)[..., None] * both).sum(2)
    return torch.fft.irfft(scale * (k[0] - k[1] * k[2] / (1 + k[3])), n=length)


def whole_cauchy_rank_two(*inputs):
    *vectors, w, grad = inputs
    length = grad.shape[1]
    scale, both = poles(w, length)

    def summed(v):
        v = torch.view_as_complex(v.float())
        return torch.einsum("h...n,hnl->h...l", torch.cat([v, v.conj()], -1), both)

    cb, cp, qb, qp = (summed(v) for v in vectors)
    system = torch.eye(2, device=w.device) + qp.movedim(-1, 1)
    solved = torch.linalg.solve(system, qb.movedim(-1, 1))
    corrected = cb - torch.einsum("hjl,hlj->hl", cp, solved)
    return torch.fft.irfft(scale * corrected, n=length)


def ours_cauchy(*inputs):
    return cauchy(*inputs[:-1], inputs[-1].shape[1])


def scan_inputs(h, n, batch, time, vectors=5):
    z = 0.9 * torch.randn(vectors, 2, n, h) / (2 * n) ** 0.5
    return torch.randn(batch, time, h), torch.zeros(batch, 2, n, h), z.requires_grad_(), None


def ours_scan(u, state, system, _):
    return ssm_scan(u, state, system)[0]


def loop(u, state, system, _):
    return ssm_scan(u, state, system, backend="reference")[0]


def and_back(call):
    def run(*inputs):
        wanted = [t for t in inputs if t is not None and t.requires_grad]
        return torch.autograd.grad(call(*inputs).square().sum(), wanted)

    return run


def rows(h, n, length, batch, time):
    """Forward and forward+backward of each op."""
    size = f"H{h} N{2 * n} L{length}"
    cases = [
        (f"vandermonde {size}", ours_vandermonde, whole_vandermonde,
         lambda: vandermonde_inputs(h, n, length), "exp of (H, N, L) in complex64",
         "tests/test_vandermonde.py"),
        (f"cauchy {size}", ours_cauchy, whole_cauchy, lambda: cauchy_inputs(h, n, length),
         "four sums over (H, N, L/2) in complex64", "tests/test_cauchy.py"),
        (f"ssm_scan B{batch} T{time} H{h} N{2 * n}", ours_scan, loop,
         lambda: scan_inputs(h, n, batch, time), "the loop in torch's complex64",
         "tests/test_ssm_scan.py"),
        (f"cauchy rank 2 {size}", ours_cauchy, whole_cauchy_rank_two,
         lambda: cauchy_rank_two_inputs(h, n, length),
         "nine sums over (H, N, L/2), and a solver, in complex64", "tests/test_cauchy.py"),
        (f"ssm_scan rank 2 B{batch} T{time} H{h} N{2 * n}", ours_scan, loop,
         lambda: scan_inputs(h, n, batch, time, 7), "the loop in torch's complex64",
         "tests/test_ssm_scan.py"),
    ]  # fmt: skip
    return [
        TimeRow(
            what=f"{what} {way}",
            ours=wrap(ours),
            peer=wrap(peer),
            peer_name=name,
            setup=setup,
            tests=[tests],
        )
        for what, ours, peer, setup, name, tests in cases
        for way, wrap in (("forward", lambda call: call), ("forward+backward", and_back))
    ]


ROWS = rows(H, N, L, batch=4, time=512)

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-core", script=__file__))
