"""neat-python on XOR, a generation at a time: what our time per generation stands beside."""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from gonzo.core import require
from gonzo.neuroevo.config import NEATConfig
from gonzo.neuroevo.export.neat_python_config import write_neat_python_config

_XOR = [((0.0, 0.0), 0.0), ((0.0, 1.0), 1.0), ((1.0, 0.0), 1.0), ((1.0, 1.0), 0.0)]


class NeatPythonXor:
    """A run of neat-python with the same rules, rates and population as ours.

    Args:
        population: genomes.
        seed: of Python's random numbers, which are left as they were.
    """

    def __init__(self, population: int, seed: int) -> None:
        neat = require("neat", extra="gonzo-neuroevo[recipes]")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "config.ini"
            write_neat_python_config(NEATConfig(population=population), path, inputs=2, outputs=1)
            self._config = neat.Config(
                neat.DefaultGenome,
                neat.DefaultReproduction,
                neat.DefaultSpeciesSet,
                neat.DefaultStagnation,
                str(path),
            )
        self._random = random.Random(seed).getstate()
        with self._numbers():
            self._run = neat.Population(self._config)
        self._network = neat.nn.FeedForwardNetwork

    def generation(self) -> float:
        """CPU seconds of one generation: evaluation, reproduction and speciation."""
        with self._numbers():
            began = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                self._run.run(self._evaluate, 1)
            return time.process_time() - began

    def _evaluate(self, genomes: list[tuple[int, Any]], config: Any) -> None:
        for _, genome in genomes:
            network = self._network.create(genome, config)
            error = sum((network.activate(x)[0] - y) ** 2 for x, y in _XOR)
            genome.fitness = 4 - error

    @contextlib.contextmanager
    def _numbers(self) -> Any:
        outer = random.getstate()
        random.setstate(self._random)
        try:
            yield
        finally:
            self._random = random.getstate()
            random.setstate(outer)
