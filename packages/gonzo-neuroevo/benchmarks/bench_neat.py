"""NEAT beside neat-python: a generation of XOR, the first generation of all, and what it solves."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from gonzo.core.bench import ValueRow, at_most, main
from gonzo.neuroevo import NEAT, GymnasiumProblem, NEATConfig, evolve
from gonzo.neuroevo.config import Choice
from gonzo.neuroevo.phenotypes import Phenotype
from gonzo.neuroevo.recipes.neat_python_peer import NeatPythonXor
from gonzo.neuroevo.seeds import Episodes
from gonzo.neuroevo.supervised import xor

WARM, TIMED = 20, 21
TESTS = ["tests/test_neat.py", "tests/test_phenotypes.py"]
SEEDS = 20
UNSEEN = 10_000_019
NO_PEER = "TensorNEAT, the peer due, is not on the package index"


def generation(population):
    """Milliseconds of CPU for one generation, evaluation included: the median of some."""
    problem, neat = xor(), NEAT(2, 1, NEATConfig(population=population), seed=0)
    times = []
    for _ in range(WARM + TIMED):
        began = time.process_time()
        episodes = Episodes(0, neat.generation, tuple(neat.ids.tolist()))
        neat.tell(problem.evaluate(neat.networks(), episodes))
        times.append(time.process_time() - began)
    return 1e3 * statistics.median(times[WARM:])


def neat_python(population):
    peer = NeatPythonXor(population, seed=0)
    times = [peer.generation() for _ in range(WARM + TIMED)]
    return 1e3 * statistics.median(times[WARM:])


FIRST = """
import time
import torch
torch.set_num_threads(1)
began = time.process_time()
from gonzo.neuroevo import NEAT, NEATConfig
from gonzo.neuroevo.seeds import Episodes
from gonzo.neuroevo.supervised import xor
neat = NEAT(2, 1, NEATConfig(population=1000))
neat.tell(xor().evaluate(neat.networks(), Episodes(0, 0, tuple(neat.ids.tolist()))))
print(time.process_time() - began)
"""


def first_generation(caches):
    """CPU seconds from after `import torch` to the end of the first generation, in a process."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": caches}
    command = [sys.executable, "-c", FIRST]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def cold():
    with tempfile.TemporaryDirectory() as caches:
        return first_generation(caches)


def warm():
    with tempfile.TemporaryDirectory() as caches:
        first_generation(caches)
        return statistics.median(first_generation(caches) for _ in range(3))


def solved_in():
    """Generations of XOR in which each seed is solved; 999 where it is not within 300."""
    runs = [evolve(NEAT(2, 1, seed=seed), xor(), 300, target=3.9) for seed in range(SEEDS)]
    return [run.generations if run.solved else 999 for run in runs]


def cartpole():
    """Held-out return of the worst of ten champions, and how far it stays below 475."""
    problem = GymnasiumProblem("CartPole-v1")
    scores = []
    for seed in range(10):
        neat = NEAT(4, problem.outputs, NEATConfig(activation=Choice(("tanh",))), seed=seed)
        found = evolve(neat, problem, 50, target=475.0)
        returns = problem.held_out(found.genome, run_seed=seed + UNSEEN, phenotype=Phenotype())
        scores.append(float(returns.mean()))
    print(f"CartPole champions on 100 held-out episodes: {sorted(scores)}")
    return max(0.0, 475 - min(scores))


def step_time():
    """Microseconds of CPU for a step of CartPole with its network, 150 genomes."""
    problem = GymnasiumProblem("CartPole-v1")
    neat = NEAT(4, problem.outputs, NEATConfig(activation=Choice(("tanh",))), seed=0)
    taken = steps = 0.0
    for number in range(12):
        began = time.process_time()
        fitness = problem.evaluate(neat.networks(), Episodes(0, number, tuple(neat.ids.tolist())))
        if number >= 4:
            taken += time.process_time() - began
            steps += float(fitness.sum())  # a reward of 1 a step
        neat.tell(fitness)
    return 1e6 * taken / steps


def generation_row(population, bar):
    return ValueRow(
        what=f"a generation of XOR, {population} genomes",
        unit="ms",
        ours=lambda: generation(population),
        peer=lambda: neat_python(population),
        peer_name="neat-python",
        bar=at_most(bar),
        tests=TESTS,
    )


ROWS = [
    generation_row(150, 6.5),
    generation_row(1000, 30),
    generation_row(5000, 130),
    ValueRow(what="import to the first finished generation, 1000 genomes, kernels cached",
             unit="s", ours=warm, bar=at_most(3), tests=TESTS, no_peer=NO_PEER),
    ValueRow(what="the same, no kernel cached", unit="s", ours=cold, bar=at_most(15),
             tests=TESTS, no_peer=NO_PEER),
    ValueRow(what=f"XOR within 300 generations, failed of {SEEDS} seeds",
             ours=lambda: solved_in().count(999), bar=at_most(1), tests=TESTS),
    ValueRow(what=f"XOR, generations, median of {SEEDS} seeds",
             ours=lambda: statistics.median(solved_in()), bar=at_most(84), tests=TESTS),
    ValueRow(what="CartPole, 10 champions on 100 held-out episodes: the worst is below 475 by",
             ours=cartpole, bar=at_most(0), tests=["tests/test_gym.py"]),
    ValueRow(what="CartPole, a step with its network, 150 genomes", unit="µs",
             ours=step_time, bar=at_most(1e6 / 60_000), tests=["tests/test_gym.py"]),
]  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-neuroevo", script=__file__))
