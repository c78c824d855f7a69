"""Time and memory of LSSL and of S4 against the length of the sequence.

Claim: S4 computes what LSSL computes in a fraction of its time and memory; the paper is cited with
up to 30 times less time and 400 times less memory. LSSL's kernel goes through the Krylov matrix of
a dense A, O(N²L) work and N·L numbers for each feature; S4's through a structured A,
O(L (N + log L)) work and L numbers.

Both layers have the same sizes, learn A, B, C and Δ, and run forward and backward over one
sequence. Before that they are given the same A, B, C and Δ, S4's A = Λ - P P* being HiPPO-LegS in
another basis, and their kernels are compared in float64: one function is computed in two ways. The
layers around the kernels differ a little: S4's linear map has twice the outputs, for its gate.

On the CPU, time is the median CPU time of one thread, the layers in turn, and memory the growth of
a process of its own at its peak (which needs Linux). On a GPU, which was not tried, time is wall
time and memory the peak of what torch allocates. A measured time is off by some ten per cent, so
this recipe does not repeat to the last digit, as the others do.

What differs from the paper: it measured other code on a GPU, at sizes that are not known here,
hence no preset ``paper``. The ratios depend on the sizes. They grow with N: with 64 states LSSL
takes 6 to 7 times as long and 13 to 18 times the memory (32 features, 1024 and 4096 steps;
gonzo-ssm's benchmark). The ratio of memory falls with L, from that of N × N matrices to that of
N × L; 400 is not reached here. LSSL at 16384 steps is where ``cpu`` stops, for its time.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gonzo.core import SequenceModule
from gonzo.core.bench import peak_memory
from gonzo.core.bench.timing import time_in_turn
from gonzo.core.complex_pairs import conj, mul
from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require
from gonzo.ssm import LSSL, S4, S4Kernel
from gonzo.ssm.hippo import legs_normal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYERS: dict[str, type[SequenceModule]] = {"s4": S4, "lssl": LSSL}


@dataclass(frozen=True)
class Config:
    """The size of both layers, and the lengths of the sequence."""

    d_model: int = 32
    d_state: int = 256
    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096, 8192, 16384)

    def __post_init__(self) -> None:
        require(self.d_model >= 1, f"d_model of at least 1, got {self.d_model}")
        require(
            self.d_state >= 2 and self.d_state % 2 == 0,
            f"an even d_state of at least 2, got {self.d_state}",
        )
        require(
            list(self.lengths) == sorted(set(self.lengths)) and min(self.lengths, default=0) >= 1,
            f"lengths of at least 1 that grow, got {self.lengths}",
        )


RECIPE = Recipe(
    claim="S4 computes what LSSL does in a fraction of the time and memory",
    paper=Paper(
        "Gu, Goel and Ré, Efficiently Modeling Long Sequences with Structured State Spaces, "
        "ICLR 2022",
        where="its comparison with LSSL, the largest ratios; as commonly cited, not checked "
        "against the paper's text",
        url="https://arxiv.org/abs/2111.00396",
    ),
    metrics={
        "speedup": Metric("LSSL's time over S4's", unit="×", paper=30, digits=0),
        "memory_ratio": Metric("LSSL's memory over S4's", unit="×", paper=400, digits=0),
        "agreement": Metric("decimal digits in which their kernels agree", digits=1),
    },
    presets={
        "quick": Preset(
            Config(d_model=8, lengths=(512, 2048)),
            time="30 s",
            targets=[
                Target("speedup", ">=", 10),
                Target("memory_ratio", ">=", 20),
                Target("agreement", ">=", 9),
            ],
            reduced=["a CPU", "8 features, 256 states", "up to 2048 steps"],
        ),
        "cpu": Preset(
            Config(),
            time="10 min on an idle core",
            targets=[
                Target("speedup", ">=", 30),
                Target("memory_ratio", ">=", 40),
                Target("agreement", ">=", 9),
            ],
            reduced=["a CPU", "32 features, 256 states", "up to 16384 steps"],
        ),
    },
    headline=True,
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Compare the kernels, then measure both layers at each length."""
    # Times are of one thread, and with two oneMKL can hang in LSSL's factorisations.
    torch.set_num_threads(1)
    agreement = run.once("agreement", lambda: kernel_agreement(config))
    seconds: dict[int, dict[str, float]] = {}
    memory: dict[int, dict[str, float]] = {}
    for length in config.lengths:
        with run.part(f"length{length}"):
            seconds[length] = run.once("seconds", lambda: times(config, length, run.device))
            memory[length] = run.once("bytes", lambda: peaks(config, length, run.device))
    run.figure("length", _figure(seconds, memory))
    last = config.lengths[-1]
    every = {
        f"{name}_{unit}_{length}": value
        for unit, measured in (("seconds", seconds), ("bytes", memory))
        for length, of in measured.items()
        for name, value in of.items()
    }
    return {
        "speedup": seconds[last]["lssl"] / seconds[last]["s4"],
        "memory_ratio": memory[last]["lssl"] / memory[last]["s4"],
        "agreement": agreement,
        **every,
    }


def kernel_agreement(config: Config) -> float:
    """Return in how many digits both kernels of one model agree, computed in float64."""
    s4, lssl = same_model(config.d_model, config.d_state)
    length = config.lengths[0]
    with torch.no_grad():
        ours = s4.kernel(length, dtype=torch.float64)
        theirs = lssl.kernel(length, dtype=torch.float64).squeeze(1)
    difference = torch.linalg.norm(theirs - ours) / torch.linalg.norm(ours)
    return -math.log10(max(float(difference), torch.finfo(torch.float64).eps))


@torch.no_grad()
def same_model(d_model: int, d_state: int) -> tuple[S4Kernel, LSSL]:
    """Return S4's operator, and an LSSL with its A, B, C and Δ in HiPPO's own basis."""
    s4 = S4Kernel(d_model, d_state, dtype=torch.float64)
    lssl = LSSL(d_model, d_state, alpha=0.5, dtype=torch.float64)
    # S4's modes are V* x, one of each conjugate pair: 2 Re Σ c V* x is a real C times x.
    _, vectors = legs_normal(d_state)
    lssl.c.copy_(2 * mul(conj(vectors), s4.c[:, None])[..., 0].sum(-1)[:, None])
    lssl.log_dt.copy_(s4.log_dt)
    lssl.d.zero_()
    return s4, lssl


def inputs(
    name: str, config: Config, length: int, device: torch.device
) -> tuple[SequenceModule, Tensor]:
    """Return a layer and a sequence."""
    torch.manual_seed(0)
    layer = LAYERS[name](config.d_model, config.d_state).to(device)
    return layer, torch.randn(1, length, config.d_model, device=device, requires_grad=True)


def forward_backward(layer: SequenceModule, x: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of everything."""
    return torch.autograd.grad(layer(x).sum(), [x, *layer.parameters()])


def times(config: Config, length: int, device: torch.device) -> dict[str, float]:
    """Return the median seconds of a call of each layer, on one thread."""
    calls = [
        functools.partial(forward_backward, *inputs(name, config, length, device))
        for name in LAYERS
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if device.type == "cuda":
            measure = functools.partial(
                time_in_turn, clock=time.perf_counter, synchronize=torch.cuda.synchronize
            )
        else:
            measure = time_in_turn
        medians = measure(calls, [()], budget=1.0)
    finally:
        torch.set_num_threads(threads)
    return dict(zip(LAYERS, medians, strict=True))


def peaks(config: Config, length: int, device: torch.device) -> dict[str, float]:
    """Return the bytes that a call of each layer needs at its peak, its arguments aside."""
    measure = _cuda_peak if device.type == "cuda" else peak_memory
    return {
        name: float(
            measure(forward_backward, setup=functools.partial(inputs, name, config, length, device))
        )
        for name in LAYERS
    }


def _cuda_peak(call: Callable[..., Any], *, setup: Callable[[], tuple[Any, ...]]) -> int:
    arguments = setup()
    call(*arguments)  # compiles and loads what it needs
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call(*arguments)
    return torch.cuda.max_memory_allocated() - before


def _figure(seconds: dict[int, dict[str, float]], memory: dict[int, dict[str, float]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    panels = (("forward and backward (s)", seconds, 1), ("peak memory (MiB)", memory, 2**20))
    for axes, (label, measured, unit) in zip(figure.subplots(1, 2), panels, strict=True):
        lengths = list(measured)
        for name, shown in (("lssl", "LSSL"), ("s4", "S4")):
            values = [of[name] / unit for of in measured.values()]
            axes.loglog(lengths, values, "o-", label=shown, base=10)
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths, [str(length) for length in lengths])
        axes.set_xlabel("time steps")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
