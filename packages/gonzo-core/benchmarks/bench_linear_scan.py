"""`linear_scan` beside the elementwise operation that moves the same bytes."""

import torch

from gonzo.core.bench import TimeRow, main, times_peer
from gonzo.core.ops.linear_scan import linear_scan

SIZE = (8, 4096, 512)
SMALL = (1, 4096, 64)


def inputs(size, decay=None, dtype=torch.float32):
    return torch.rand(decay or size, dtype=dtype), torch.randn(size, dtype=dtype)


def with_out(size, dtype=torch.float32):
    return *inputs(size, dtype=dtype), torch.empty(size, dtype=dtype)


def with_gradient(size, decay=None, dtype=torch.float32):
    a, x = inputs(size, decay, dtype)
    return a.requires_grad_(), x.requires_grad_(), torch.randn(size, dtype=dtype)


def scan_and_back(a, x, grad):
    return torch.autograd.grad(linear_scan(a, x), (a, x), grad)


def mul_and_back(a, x, grad):
    return torch.autograd.grad(a * x, (a, x), grad)


def row(what, ours, peer, peer_name, setup, bar=None):
    return TimeRow(
        what=f"linear_scan {what}",
        ours=ours,
        peer=peer,
        peer_name=peer_name,
        setup=setup,
        bar=bar,
        tests=["tests/test_linear_scan.py"],
    )


def rows(size, dtype=torch.float32):
    """Forward, forward+backward, and decays that are shared."""
    shared, gate = size[2:], (*size[:2], 1)
    return [
        row(f"forward {size}, allocating", linear_scan, torch.add,
            "torch.add, allocating", lambda: inputs(size, dtype=dtype), times_peer(1.3)),
        row(f"forward {size}, out=", lambda a, x, out: linear_scan(a, x, out=out),
            lambda a, x, out: torch.add(a, x, out=out), "torch.add, out=",
            lambda: with_out(size, dtype), times_peer(1.3)),
        row(f"forward+backward {size}", scan_and_back, mul_and_back,
            "autograd of a * x", lambda: with_gradient(size, dtype=dtype), times_peer(1.3)),
        row(f"forward+backward, decay ({size[2]},)", scan_and_back, mul_and_back,
            "autograd of a * x", lambda: with_gradient(size, shared, dtype)),
        row(f"forward+backward, decay {gate}", scan_and_back, mul_and_back,
            "autograd of a * x", lambda: with_gradient(size, gate, dtype)),
    ]  # fmt: skip


ROWS = [
    *rows(SIZE),
    row(f"forward {SMALL}", linear_scan, torch.add, "torch.add, allocating", lambda: inputs(SMALL)),
]

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-core", script=__file__))
