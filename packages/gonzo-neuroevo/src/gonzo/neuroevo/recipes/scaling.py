"""Time per generation against the population's size, beside neat-python, on one CPU thread.

Claim (TensorNEAT's): genomes as tensors make NEAT many times faster than one object per genome.
Its authors measure on a GPU, and report up to 500 times neat-python's speed. Here it is measured on
a CPU, where the same idea has to do without a thousand arithmetic units. On a GPU: not measured.

A generation of XOR is evaluated, reproduced and divided into species by both, with the same rules
and rates; times are CPU seconds, medians over generations, after some to grow on. Fitness differs
as the runs do, and so do genomes, a little: their sizes are reported.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require
from gonzo.neuroevo.config import NEATConfig
from gonzo.neuroevo.neat import NEAT
from gonzo.neuroevo.recipes.neat_python_peer import NeatPythonXor
from gonzo.neuroevo.seeds import Episodes
from gonzo.neuroevo.supervised import xor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Config:
    """Sizes, and how long they are measured."""

    sizes: tuple[int, ...] = (150, 500, 1000, 2000, 5000, 10000)
    warm: int = 15
    """Generations before any is timed."""
    timed: int = 15
    """Generations whose median is reported."""

    def __post_init__(self) -> None:
        require(
            1000 in self.sizes and min(self.sizes) >= 2,
            f"sizes of at least 2, and 1000 among them, got {self.sizes}",
        )
        require(self.timed >= 1, f"timed of at least 1, got {self.timed}")


RECIPE = Recipe(
    claim="genomes as tensors: a generation takes a fraction of neat-python's time, on a CPU too",
    paper=Paper(
        "Wang, Zhao, Liu and Cheng, Tensorized NeuroEvolution of Augmenting Topologies for GPU "
        "Acceleration, GECCO 2024",
        where="abstract: up to 500 times neat-python's speed, on GPUs",
        url="https://arxiv.org/abs/2404.01817",
    ),
    metrics={
        "speedup_1000": Metric("times as fast as neat-python, 1000 genomes", digits=1),
        "speedup_largest": Metric("the same, the largest population", paper=500, digits=1),
        "ours_1000": Metric("a generation of 1000 genomes", unit="ms", digits=1),
        "neat_python_1000": Metric("the same, neat-python", unit="ms", digits=1),
        "per_genome": Metric("per genome, the largest population", unit="µs", digits=2),
    },
    presets={
        "quick": Preset(
            Config(sizes=(150, 1000), warm=10, timed=7),
            time="10 s",
            targets=[Target("speedup_1000", ">", 2)],
            reduced=["a CPU thread, not a GPU", "2 sizes"],
        ),
        "cpu": Preset(
            Config(),
            time="2 min on one core",
            targets=[Target("speedup_1000", ">", 2.5), Target("speedup_largest", ">", 2.5)],
            reduced=["a CPU thread, not a GPU"],
        ),
    },
    headline=True,
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Time both at every size."""
    torch.set_num_threads(1)
    times: dict[int, dict[str, float]] = {}
    for size in config.sizes:
        times[size] = run.once(f"size-{size}", lambda: measure(size, config, run.seed))
    largest = max(config.sizes)
    results: dict[str, float] = {}
    for size, both in times.items():
        results[f"ours_{size}"] = 1e3 * both["ours"]
        results[f"neat_python_{size}"] = 1e3 * both["neat_python"]
        results[f"speedup_{size}"] = both["neat_python"] / both["ours"]
    results["speedup_largest"] = results[f"speedup_{largest}"]
    results["per_genome"] = 1e6 * times[largest]["ours"] / largest
    run.figure("time-per-generation", _figure(times))
    return results


def measure(size: int, config: Config, seed: int) -> dict[str, float]:
    """CPU seconds of a generation, ours and neat-python's in turn."""
    problem, neat = xor(), NEAT(2, 1, NEATConfig(population=size), seed=seed)
    peer = NeatPythonXor(size, seed)
    ours, theirs = [], []
    for _ in range(config.warm + config.timed):
        began = time.process_time()
        episodes = Episodes(seed, neat.generation, tuple(neat.ids.tolist()))
        neat.tell(problem.evaluate(neat.networks(), episodes))
        ours.append(time.process_time() - began)
        theirs.append(peer.generation())
    return {
        "ours": statistics.median(ours[config.warm :]),
        "neat_python": statistics.median(theirs[config.warm :]),
    }


def _figure(times: dict[int, dict[str, float]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3))
    axes = figure.subplots()
    sizes = list(times)
    for name, label in (("ours", "gonzo-neuroevo"), ("neat_python", "neat-python")):
        axes.loglog(sizes, [1e3 * times[size][name] for size in sizes], "o-", label=label)
    axes.set_xlabel("genomes")
    axes.set_ylabel("ms of CPU time per generation")
    axes.legend(fontsize="small")
    figure.tight_layout()
    return figure
