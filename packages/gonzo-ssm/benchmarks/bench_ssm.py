"""S4 and S4D beside the algorithms of the original in plain torch: time, memory, error."""

import functools
import statistics
import subprocess
import sys

import torch
from peers import s4_naive

from gonzo.core.bench import (
    TimeRow,
    ValueRow,
    at_most,
    faster_than_peer,
    main,
    peak_memory,
    times_peer,
)
from gonzo.core.testing import relative_rms
from gonzo.ssm import S4, S4D, S4DKernel, S4Kernel, set_rate

H, N, L, B = 64, 64, 2048, 2
LONG = 16_384
OURS = {"S4": (S4, S4Kernel), "S4D": (S4D, S4DKernel)}
PEERS = {"S4": s4_naive.S4Kernel, "S4D": s4_naive.S4DKernel}
NAIVE = "the original's algorithm, naive torch"
KERNEL_TESTS = ["tests/test_dense.py", "tests/test_precision.py"]
LAYER_TESTS = ["tests/test_laws.py", "tests/test_views.py"]
F32, F64 = torch.float32, torch.float64
OPTIONS = {"rank 2": {"init": "legt"}, "2 channels": {"channels": 2}}


def check_peers():
    """The restated peers are the same functions as ours, in float64."""
    torch.manual_seed(0)
    for name, (layer, _) in OURS.items():
        ours = layer(4, 8, dtype=F64)
        kernel = PEERS[name](ours.operator, 100, F64)
        expected = ours.operator.kernel(100, dtype=F64)
        assert (kernel() - expected).abs().max() < 1e-9 * expected.abs().max(), name
        block, x = s4_naive.Block(kernel, ours, F64), torch.randn(2, 100, 4, dtype=F64)
        assert relative_rms(block(x.mT).mT, ours(x)) < 1e-9, name
    for options in OPTIONS.values():
        ours = S4Kernel(4, 8, dtype=F64, **options)
        set_rate(ours, 2)
        expected = ours.kernel(100, dtype=F64)
        set_rate(ours, 1)
        with torch.no_grad():
            ours.log_dt.add_(torch.tensor(2, dtype=F64).log())
        found = s4_naive.S4Kernel(ours, 100, F64)()
        assert (found - expected).abs().max() < 1e-9 * expected.abs().max(), options
    ours = S4(4, 8, dtype=F64)
    step = s4_naive.Step(ours.operator, F64)
    block = s4_naive.BlockStep(step, s4_naive.Block(step, ours, F64))
    x, state, dense = torch.randn(1, 20, 4, dtype=F64), ours.init_state(1), dense_state(4, 8, F64)
    for x_t in x.unbind(1):
        y, state = ours.step(x_t, state)
        expected, dense = block(x_t, dense)
        assert relative_rms(y, expected) < 1e-9


def dense_state(features, n, dtype=F32):
    return s4_naive.cast(torch.zeros(1, features, n), dtype)


def kernels(name, h=H, length=L, **options):
    torch.manual_seed(0)
    ours = OURS[name][1](h, N, **options)
    return ours, PEERS[name](ours, length, F32), torch.randn(ours.channels * h, length)


def at_rate_two(*arguments):
    ours, peer, grad = kernels(*arguments)
    set_rate(ours, 2)
    return ours, peer, grad


def kernel(ours, peer, grad):
    return ours.kernel(grad.shape[1])


def peer_kernel(ours, peer, grad):
    return peer()


def kernel_and_back(ours, peer, grad):
    return torch.autograd.grad(ours.kernel(grad.shape[1]), list(ours.parameters()), grad)


def peer_kernel_and_back(ours, peer, grad):
    return torch.autograd.grad(peer(), list(peer.parameters()), grad)


def ours_alone(name, h, length):
    torch.manual_seed(0)
    return OURS[name][1](h, N), None, torch.randn(h, length)


def s4_kernel_alone():
    return ours_alone("S4", 256, LONG)


def s4d_kernel_alone():
    return ours_alone("S4D", 256, LONG)


def blocks(name, batch=B, h=H, length=L):
    torch.manual_seed(0)
    ours = OURS[name][0](h, N)
    peer = s4_naive.Block(PEERS[name](ours.operator, length, F32), ours, F32)
    x = torch.randn(batch, length, h)
    return ours, x.requires_grad_(), peer, x.detach().mT.contiguous().requires_grad_()


def s4_blocks():
    return blocks("S4")


def s4d_blocks():
    return blocks("S4D")


def block_and_back(ours, x, peer, x_peer):
    return torch.autograd.grad(ours(x).sum(), [x, *ours.parameters()])


def peer_block_and_back(ours, x, peer, x_peer):
    return torch.autograd.grad(peer(x_peer).sum(), [x_peer, *peer.parameters()])


def steps(batch=1, h=256):
    torch.manual_seed(0)
    ours = S4(h, N).eval().requires_grad_(False)
    step = s4_naive.Step(ours.operator, F32)
    block = s4_naive.BlockStep(step, s4_naive.Block(step, ours, F32).requires_grad_(False))
    dense = dense_state(h, N).expand(batch, -1, -1)
    return ours, ours.init_state(batch), step, block, dense, torch.randn(batch, h)


@torch.no_grad()
def worst_error(name, *, of_peer):
    """The largest max-over-max error against float64 over five seeds."""
    errors = []
    for seed in range(5):
        torch.manual_seed(seed)
        operator = OURS[name][1](2, N)
        exact = operator.kernel(LONG, dtype=F64)
        actual = PEERS[name](operator, LONG, F32)() if of_peer else operator.kernel(LONG)
        errors.append(((actual - exact).abs().max() / exact.abs().max()).item())
    return max(errors)


@torch.no_grad()
def worst_split(dtype, kind, length=1024, **arguments):
    """The largest relative RMS difference of scan, chunks and step from forward."""
    state_dtype = arguments.pop("state", None)
    torch.manual_seed(0)
    operator = kind(16, N, dtype=dtype, **arguments)
    x = torch.randn(1, length, 16, dtype=dtype)
    y, start = operator(x), operator.init_state(1, dtype=state_dtype)
    errors = [relative_rms(operator.scan(x, start)[0], y)]
    state, chunks = start, []
    for chunk in x.split([1, length // 3, length - length // 3 - 1], 1):
        part, state = operator.scan(chunk, state)
        chunks.append(part)
    errors.append(relative_rms(torch.cat(chunks, 1), y))
    state, outputs = start, []
    for x_t in x.unbind(1):
        part, state = operator.step(x_t, state)
        outputs.append(part)
    return max(*errors, relative_rms(torch.stack(outputs, 1), y))


@torch.no_grad()
def worst_prefix(dtype):
    errors = []
    for kind in (S4Kernel, S4DKernel):
        torch.manual_seed(0)
        operator = kind(16, N, dtype=dtype)
        longest = operator.kernel(4096, dtype=dtype)
        for length in (1, 100, 784, 1024, 3000):
            kernel = operator.kernel(length, dtype=dtype)
            errors.append(relative_rms(kernel, longest[:, :length]))
    return max(errors)


def import_seconds():
    code = (
        "import time, torch; start = time.process_time(); import gonzo.ssm; "
        "print(time.process_time() - start)"
    )
    command = [sys.executable, "-c", code]
    return statistics.median(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    )


def short(dtype):
    return str(dtype).removeprefix("torch.")


SIZE = f"H{H} N{N} L{L}"
NO_ROOM = {
    "S4": "its Cauchy products alone would take 4.3 GB at this size",
    "S4D": "its powers alone would take 1.1 GB at this size, several times",
}

ROWS = [
    TimeRow(what=f"S4 kernel {SIZE} forward", ours=kernel, peer=peer_kernel, peer_name=NAIVE,
            setup=lambda: kernels("S4"), bar=faster_than_peer(6), tests=KERNEL_TESTS),
    TimeRow(what=f"S4 kernel {SIZE} forward+backward", ours=kernel_and_back,
            peer=peer_kernel_and_back, peer_name=NAIVE, setup=lambda: kernels("S4"),
            bar=faster_than_peer(15), tests=KERNEL_TESTS),
    TimeRow(what=f"S4D kernel {SIZE} forward", ours=kernel, peer=peer_kernel, peer_name=NAIVE,
            setup=lambda: kernels("S4D"), tests=KERNEL_TESTS),
    TimeRow(what=f"S4D kernel {SIZE} forward+backward", ours=kernel_and_back,
            peer=peer_kernel_and_back, peer_name=NAIVE, setup=lambda: kernels("S4D"),
            bar=faster_than_peer(20), tests=KERNEL_TESTS),
    *(TimeRow(what=f"S4 kernel {SIZE} {note} {way}", ours=ours, peer=peer, peer_name=NAIVE,
              setup=setup, bar=faster_than_peer(bar), tests=[*KERNEL_TESTS, "tests/test_rate.py"])
      for note, setup in (
          *((note, functools.partial(kernels, "S4", **options))
            for note, options in OPTIONS.items()),
          ("at rate 2", functools.partial(at_rate_two, "S4")))
      for way, ours, peer, bar in (("forward", kernel, peer_kernel, 6),
                                   ("forward+backward", kernel_and_back,
                                    peer_kernel_and_back, 15))),
    *(TimeRow(what=f"{name} block B{B} {SIZE} forward+backward", ours=block_and_back,
              peer=peer_block_and_back, peer_name=NAIVE, setup=setup,
              bar=faster_than_peer(10), tests=LAYER_TESTS)
      for name, setup in (("S4", s4_blocks), ("S4D", s4d_blocks))),
    *(ValueRow(what=f"{name} block B{B} {SIZE} forward+backward, peak extra memory", unit="B",
               ours=lambda setup=setup: peak_memory(block_and_back, setup=setup),
               peer=lambda setup=setup: peak_memory(peer_block_and_back, setup=setup),
               peer_name=NAIVE, bar=times_peer(0.25), tests=LAYER_TESTS)
      for name, setup in (("S4", s4_blocks), ("S4D", s4d_blocks))),
    *(ValueRow(what=f"{name} kernel H256 N{N} L{LONG} forward+backward, peak extra memory",
               unit="B", ours=lambda setup=setup: peak_memory(kernel_and_back, setup=setup),
               no_peer=NO_ROOM[name], bar=at_most(8 * 256 * LONG * 4), tests=KERNEL_TESTS)
      for name, setup in (("S4", s4_kernel_alone), ("S4D", s4d_kernel_alone))),
    *(ValueRow(what=f"{name} kernel error in float32, N{N} L{LONG}, max over max",
               ours=lambda name=name: worst_error(name, of_peer=False),
               peer=lambda name=name: worst_error(name, of_peer=True), peer_name=NAIVE,
               bar=at_most(bar), tests=KERNEL_TESTS)
      for name, bar in (("S4", 1e-6), ("S4D", 5e-7))),
    *(ValueRow(what=f"{name} conv = scan = chunks = step, 1024 steps, {short(dtype)}",
               ours=lambda kind=kinds[1], dtype=dtype: worst_split(dtype, kind), bar=at_most(bar),
               tests=LAYER_TESTS)
      for name, kinds in OURS.items() for dtype, bar in ((F32, 1e-5), (F64, 1e-10))),
    *(ValueRow(what=f"{name} the same, 4096 steps, all dt 1e-3, float32, {note}",
               ours=lambda kind=kinds[1], state=state: worst_split(
                   F32, kind, 4096, dt_max=1e-3, state=state),
               bar=bar, tests=LAYER_TESTS)
      for name, kinds in OURS.items()
      for note, state, bar in (("state in float64", F64, at_most(1e-6)),
                               ("state in float32", None, at_most(1e-5)))),
    *(ValueRow(what=f"a kernel is the prefix of a longer one, {short(dtype)}",
               ours=lambda dtype=dtype: worst_prefix(dtype), bar=at_most(bar), tests=LAYER_TESTS)
      for dtype, bar in ((F32, 1e-5), (F64, 1e-10))),
    TimeRow(what="S4 operator step H256 N64 B1",
            ours=lambda ours, state, step, block, dense, x: ours.operator.step(x, state),
            peer=lambda ours, state, step, block, dense, x: step(x, dense),
            peer_name="the original's dense step", setup=steps, bar=at_most(40e-6),
            tests=LAYER_TESTS),
    TimeRow(what="S4 layer step H256 N64 B1",
            ours=lambda ours, state, step, block, dense, x: ours.step(x, state),
            peer=lambda ours, state, step, block, dense, x: block(x, dense),
            peer_name="the original's dense step", setup=steps, bar=at_most(120e-6),
            tests=LAYER_TESTS),
    ValueRow(what="import gonzo.ssm on top of torch", unit="s", ours=import_seconds,
             bar=at_most(0.3), tests=["tests/test_import.py"]),
]  # fmt: skip

if __name__ == "__main__":
    check_peers()
    raise SystemExit(main(ROWS, package="gonzo-ssm", script=__file__))
