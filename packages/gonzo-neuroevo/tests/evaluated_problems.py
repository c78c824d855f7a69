"""Problems that worker processes import, some of which misbehave."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.seeds import Episodes


class Ids:
    """A fitness that shows which genome, seed and network it came from."""

    inputs, outputs = 2, 1

    def evaluate(self, networks, episodes: Episodes):
        x = torch.tensor([[0.3, -1.2], [2.0, 0.1]])
        y = networks(x).double().sum((1, 2))
        seeds = torch.from_numpy(episodes.seeds(1)[:, 0]).double()
        return seeds + y


class KillOnce(Ids):
    """Kills its process the first time that it is asked of a genome."""

    def __init__(self, folder, genome_id):
        self.flag, self.genome_id = str(Path(folder) / "killed"), genome_id

    def evaluate(self, networks, episodes):
        if self.genome_id in episodes.ids and not os.path.exists(self.flag):
            Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().evaluate(networks, episodes)


class KillAlways(Ids):
    """Kills its process for one genome, and counts how often."""

    def __init__(self, genome_id, log=None):
        self.genome_id, self.log = genome_id, log and str(log)

    def evaluate(self, networks, episodes):
        if self.genome_id in episodes.ids:
            if self.log:
                with open(self.log, "a") as file:
                    file.write(f"{len(episodes)}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().evaluate(networks, episodes)


class Raises(Ids):
    def __init__(self, genome_id):
        self.genome_id = genome_id

    def evaluate(self, networks, episodes):
        if self.genome_id in episodes.ids:
            raise ZeroDivisionError("the wheel came off")
        return super().evaluate(networks, episodes)


class QuitsPython(Ids):
    def evaluate(self, networks, episodes):
        raise SystemExit(5)


class NotFinite(Ids):
    def __init__(self, genome_id):
        self.genome_id = genome_id

    def evaluate(self, networks, episodes):
        fitness = super().evaluate(networks, episodes)
        return fitness.where(torch.tensor(episodes.ids) != self.genome_id, float("nan"))


class Hangs(Ids):
    """Raises for one genome so often, then never answers, and works when it is asked again.

    Every process that never answers leaves a file of its number.
    """

    episodes = 2

    def __init__(self, genome_id, folder, *, raises=0, hangs=1):
        self.genome_id, self.folder = genome_id, str(folder)
        self.raises, self.hangs = raises, hangs

    def evaluate(self, networks, episodes):
        if self.genome_id in episodes.ids:
            attempts = Path(self.folder) / "attempts"
            before = len(attempts.read_text()) if attempts.exists() else 0
            attempts.write_text("x" * (before + 1))
            if before < self.raises:
                raise ZeroDivisionError
            if before < self.raises + self.hangs:
                (Path(self.folder) / f"{os.getpid()}.pid").touch()
                while True:
                    time.sleep(3600)
        return super().evaluate(networks, episodes)


def hung(folder):
    """The processes that never answered."""
    return [int(path.stem) for path in Path(folder).glob("*.pid")]


def alive(pid):
    """Whether a process runs; one that ended and is yet to be asked about does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_until(condition, seconds=20):
    """Wait for something that other processes do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


class SleepsLonger(Ids):
    """Tasks end in another order than they begin."""

    def evaluate(self, networks, episodes):
        time.sleep(0.05 * (episodes.ids[0] % 3))
        return super().evaluate(networks, episodes)


class Unreadable(Ids):
    """Can be pickled and not be rebuilt."""

    def __reduce__(self):
        return _broken, ()


def _broken():
    raise RuntimeError("cannot be rebuilt here")


def near_third(network, seed):
    """A function of one genome, for `GenomeFitness`."""
    return -abs(float(network([1.0, 0.5])[0]) - 1 / 3) + seed / 2**40


def sum_of_outputs(networks):
    """A function of all networks, for `NetworkFitness`."""
    return networks(torch.ones(3, 2)).sum((1, 2))


def random_population(count, inputs=2, outputs=1, *, recurrent=False, seed=0):
    """Genomes of different sizes."""
    rng = np.random.default_rng(seed)
    functions = ("tanh", "sin", "sigmoid", "gauss", "abs")
    genomes = []
    for _ in range(count):
        hidden = int(rng.integers(0, 4))
        keys = range(outputs + hidden)
        nodes = [
            NodeGene(k, float(rng.normal()), 1.0, functions[rng.integers(5)], "sum", 0.5)
            for k in keys
        ]
        pairs = [(-i - 1, k) for i in range(inputs) for k in keys]
        pairs += [(h, o) for h in range(outputs, outputs + hidden) for o in range(outputs)]
        if recurrent:
            pairs += [(k, j) for k in keys for j in range(outputs, outputs + hidden)]
            pairs += [(o, o) for o in range(outputs)]
        kept = [pair for pair in pairs if rng.random() < 0.8]
        connections = [
            ConnectionGene(s, t, float(rng.normal(0, 2)), bool(rng.random() < 0.9)) for s, t in kept
        ]
        genomes.append(Genome(inputs, outputs, tuple(nodes), tuple(connections)))
    return Population.from_genomes(genomes)


def xor_for_all(population):
    """A phenotype of its own: networks of two inputs and one output, whatever the genomes."""
    one = random_population(1)
    return networks(one.select(torch.zeros(len(population), dtype=torch.int64)))
