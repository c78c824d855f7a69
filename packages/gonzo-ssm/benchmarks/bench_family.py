"""S5 and H3 beside their peers, S4 beside the LSSL that it replaces."""

import functools
import importlib.metadata
import importlib.util

import torch
from peers import h3_naive

from gonzo.core.bench import TimeRow, ValueRow, faster_than_peer, main, peak_memory, times_peer
from gonzo.core.ops.linear_scan import linear_scan
from gonzo.core.testing import relative_rms
from gonzo.ssm import H3, LSSL, S4, S5, Mega
from gonzo.ssm.s5 import S5Operator

B, L = 2, 2048
S5_SIZE = (128, 64)
SCAN = (2, 2048, 128, 16)  # mambapy's shape: batch, time, features, states
SCAN_TESTS = ["../gonzo-core/tests/test_linear_scan.py"]
F64 = torch.float64


def peer(package, module):
    """The arguments of a row about its peer: its name, or why it is not there."""
    if importlib.util.find_spec(module):
        return {"peer_name": f"{package} {importlib.metadata.version(package)}"}
    return {"peer": None, "no_peer": f"{package} is not installed; uv sync --group bench"}


def both(x, dim):
    return torch.cat([x, x.conj()], dim)


def s5_peer(operator):
    """The peer with our operator's parameters: it keeps both of each conjugate pair."""
    from s5.s5_model import S5 as Peer  # noqa: N811

    width, half = operator.d_model, operator.d_state // 2
    found = Peer(width, 2 * half)
    with torch.no_grad():
        a = torch.complex(-operator.log_a_real.exp(), operator.a_imag)
        found.seq.Lambda.copy_(both(a, 0))
        found.seq.B.copy_(torch.view_as_real(both(torch.view_as_complex(operator.b), 0)))
        found.seq.C.copy_(both(torch.view_as_complex(operator.c), 1))
        found.seq.D.copy_(operator.d)
        found.seq.log_step.copy_(operator.log_dt.repeat(2))
    return found


def s5(d_state=S5_SIZE[1]):
    """The peer has S5_SIZE[1] complex states; with twice as many real ones, so have we."""
    torch.manual_seed(0)
    ours = S5Operator(S5_SIZE[0], d_state)
    other = None
    if importlib.util.find_spec("s5"):
        other = s5_peer(ours if d_state == S5_SIZE[1] else S5Operator(*S5_SIZE))
    return ours, other, torch.randn(B, L, S5_SIZE[0], requires_grad=True)


def scans(order):
    """A decay and an input in the layout of each: ours (batch, time, features)."""
    torch.manual_seed(0)
    a, x = torch.rand(SCAN), torch.randn(SCAN)
    if order is None:  # mambapy takes (batch, time, features, states) as it is
        theirs = [a.clone(), x.clone()]
    else:
        theirs = [t.flatten(2).permute(order).contiguous() for t in (a, x)]
    ours = [t.flatten(2).requires_grad_() for t in (a, x)]
    theirs = [t.requires_grad_() for t in theirs]
    return *ours, *theirs


def mambapy_scan(a, x):
    from mambapy.pscan import pscan

    return pscan(a, x)


def accelerated_scan(a, x):
    from accelerated_scan.ref import scan

    return scan(a, x)


def scan_and_back(scan, a, x):
    return torch.autograd.grad(scan(a, x).sum(), [a, x])


def h3(head_dim, batch=B, features=256, length=L):
    torch.manual_seed(0)
    ours = H3(features, 64, head_dim=head_dim)
    return ours, h3_naive.H3(ours), torch.randn(batch, length, features, requires_grad=True)


def against_lssl(d_model, d_state, length):
    """S4 and LSSL of one size; A, B and Δ learned in both."""
    torch.manual_seed(0)
    x = torch.randn(1, length, d_model, requires_grad=True)
    return S4(d_model, d_state), LSSL(d_model, d_state), x


def forward(ours, other, x):
    return ours(x)


def peer_forward(ours, other, x):
    return other(x)


def both_ways(ours, other, x):
    return torch.autograd.grad(ours(x).sum(), [x, *ours.parameters()])


def peer_both_ways(ours, other, x):
    return torch.autograd.grad(other(x).sum(), [x, *other.parameters()])


def memory(call, setup, *sizes):
    return lambda: peak_memory(call, setup=functools.partial(setup, *sizes))


def stepping(make):
    torch.manual_seed(0)
    layer = make().eval().requires_grad_(False)
    return layer, layer.init_state(1), torch.randn(1, 256)


@torch.no_grad()
def check_peers():
    """What is compared is the same function."""
    torch.manual_seed(0)
    for head_dim in (1, 4):
        layer, x = H3(8, 6, head_dim=head_dim, dtype=F64), torch.randn(2, 40, 8, dtype=F64)
        assert relative_rms(h3_naive.H3(layer)(x), layer(x)) < 1e-9
    if importlib.util.find_spec("s5"):
        operator, x = S5Operator(8, 16, dt_min=1e-2), torch.randn(2, 100, 8)
        assert relative_rms(s5_peer(operator)(x), operator(x)) < 1e-5
    for module, scan, order in (
        ("mambapy", mambapy_scan, None),
        ("accelerated_scan", accelerated_scan, (0, 2, 1)),
    ):
        if importlib.util.find_spec(module):
            ours_a, ours_x, a, x = scans(order)
            y = scan(a, x)
            y = y.flatten(2) if order is None else y.permute(0, 2, 1)
            assert relative_rms(y, linear_scan(ours_a, ours_x)) < 1e-5, module


S5_NAME = f"width {S5_SIZE[0]} B{B} L{L}"
SCAN_NAME = "linear_scan B{} L{} D{} N{}".format(*SCAN)
WAYS = {"forward": (forward, peer_forward), "forward+backward": (both_ways, peer_both_ways)}
LSSL_SIZES = ((32, 256, 10, 1 / 50), (64, 64, None, None))

ROWS = [
    *(TimeRow(what=f"S5 operator {S5_NAME} {note} {way}", ours=ours, tests=["tests/test_s5.py"],
              setup=functools.partial(s5, d_state), bar=faster_than_peer(1),
              **{"peer": theirs, **peer("s5-pytorch", "s5")})
      for d_state, note in ((64, "state 64, the same function"),
                            (128, "64 complex states as the peer has"))
      for way, (ours, theirs) in WAYS.items()),
    *(TimeRow(what=f"{SCAN_NAME} {way}", tests=SCAN_TESTS, bar=faster_than_peer(1),
              setup=functools.partial(scans, order),
              ours=lambda a, x, *_, run=run: run(linear_scan, a, x),
              **{"peer": lambda _, __, a, x, run=run, scan=scan: run(scan, a, x),
                 **peer(package, module)})
      for package, module, scan, order in (
          ("mambapy", "mambapy", mambapy_scan, None),
          ("accelerated-scan", "accelerated_scan", accelerated_scan, (0, 2, 1)))
      for way, run in (("forward", lambda scan, a, x: scan(a, x)),
                       ("forward+backward", scan_and_back))),
    *(TimeRow(what=f"H3 layer B{B} L{L} d256 N64 head_dim {head_dim} {way}", ours=ours,
              peer=theirs, peer_name="the original's algorithm, naive torch",
              setup=functools.partial(h3, head_dim), tests=["tests/test_h3.py"],
              bar=faster_than_peer(3) if head_dim == 1 and way != "forward" else None)
      for head_dim in (1, 8) for way, (ours, theirs) in WAYS.items()),
    *(ValueRow(what=f"H3 layer B{B} L{L} d256 N64 head_dim {head_dim} forward+backward, "
               "peak extra memory", unit="B",
               ours=memory(both_ways, h3, head_dim), peer=memory(peer_both_ways, h3, head_dim),
               peer_name="the original's algorithm, naive torch", tests=["tests/test_h3.py"])
      for head_dim in (1, 8)),
    *(TimeRow(what=f"S4 against LSSL, B1 H{h} N{n} L{length} forward+backward", ours=both_ways,
              peer=peer_both_ways, peer_name="gonzo.ssm.LSSL",
              setup=functools.partial(against_lssl, h, n, length),
              tests=["tests/test_lssl.py", "tests/test_dense.py"],
              bar=faster_than_peer(faster) if faster else None)
      for h, n, faster, _ in LSSL_SIZES for length in (1024, 4096)),
    *(ValueRow(what=f"S4 against LSSL, B1 H{h} N{n} L{length} forward+backward, peak extra memory",
               unit="B", peer_name="gonzo.ssm.LSSL",
               ours=memory(both_ways, against_lssl, h, n, length),
               peer=memory(peer_both_ways, against_lssl, h, n, length),
               tests=["tests/test_lssl.py", "tests/test_dense.py"],
               bar=times_peer(less) if less else None)
      for h, n, _, less in LSSL_SIZES for length in (1024, 4096)),
    *(TimeRow(what=f"{name} layer step d256 B1", ours=lambda layer, state, x: layer.step(x, state),
              setup=functools.partial(stepping, make), tests=[f"tests/test_{file}.py"])
      for name, make, file in (
          ("S5", lambda: S5(256), "s5"), ("H3", lambda: H3(256), "h3"),
          ("H3 head_dim 8", lambda: H3(256, head_dim=8), "h3"),
          ("Mega chunk 128", lambda: Mega(256, chunk=128), "mega"))),
]  # fmt: skip

if __name__ == "__main__":
    check_peers()
    raise SystemExit(main(ROWS, package="gonzo-ssm", script=__file__))
