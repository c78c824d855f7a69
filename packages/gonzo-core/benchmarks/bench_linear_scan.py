"""`linear_scan` beside the elementwise operation that moves the same bytes."""

import torch

from gonzo.core.bench import TimeRow, main, times_peer
from gonzo.core.ops.linear_scan import linear_scan

SIZE = (8, 4096, 512)
TESTS = ["tests/test_linear_scan.py"]


def _inputs(*decay):
    return torch.rand(decay or SIZE), torch.randn(SIZE)


def _with_out():
    return *_inputs(), torch.empty(SIZE)


def _with_gradient(*decay):
    a, x = _inputs(*decay)
    return a.requires_grad_(), x.requires_grad_(), torch.randn(SIZE)


def _scan_and_back(a, x, grad):
    return torch.autograd.grad(linear_scan(a, x), (a, x), grad)


def _mul_and_back(a, x, grad):
    return torch.autograd.grad(a * x, (a, x), grad)


def _row(what, ours, peer, peer_name, setup, bar=None):
    return TimeRow(
        what=f"linear_scan {what}",
        ours=ours,
        peer=peer,
        peer_name=peer_name,
        setup=setup,
        bar=bar,
        tests=TESTS,
    )


ROWS = [
    _row("forward (8, 4096, 512), allocating", linear_scan, torch.add,
         "torch.add, allocating", _inputs, times_peer(1.3)),
    _row("forward (8, 4096, 512), out=", lambda a, x, out: linear_scan(a, x, out=out),
         lambda a, x, out: torch.add(a, x, out=out), "torch.add, out=", _with_out,
         times_peer(1.3)),
    _row("forward+backward (8, 4096, 512)", _scan_and_back, _mul_and_back,
         "autograd of a * x", _with_gradient, times_peer(1.3)),
    _row("forward+backward, decay (512,)", _scan_and_back, _mul_and_back,
         "autograd of a * x", lambda: _with_gradient(512)),
    _row("forward+backward, decay (8, 4096, 1)", _scan_and_back, _mul_and_back,
         "autograd of a * x", lambda: _with_gradient(8, 4096, 1)),
    _row("forward (1, 4096, 64)", linear_scan, torch.add, "torch.add, allocating",
         lambda: (torch.rand(1, 4096, 64), torch.randn(1, 4096, 64))),
]  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-core", script=__file__))
