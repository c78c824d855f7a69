import os
import tempfile
from pathlib import Path

import pytest

# Compiled kernels stay in one place between runs, and out of the source tree. It must be known
# before torch and Numba are imported.
_CACHES = Path(tempfile.gettempdir()) / f"gonzo-test-caches-{os.getuid()}"
os.environ.setdefault("NUMBA_CACHE_DIR", str(_CACHES / "numba"))
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_CACHES / "inductor"))


@pytest.fixture(autouse=True)
def _repeatable():
    """Every test starts from one seed and on one thread, which small sizes are fastest on."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def grown():
    """Make populations that mutation and crossover have grown: ``grown(size, rounds, seed=…)``."""
    from dataclasses import replace

    import torch

    from gonzo.neuroevo.config import NEATConfig
    from gonzo.neuroevo.crossover import crossover
    from gonzo.neuroevo.initial import initial_population
    from gonzo.neuroevo.innovation import Innovations
    from gonzo.neuroevo.mutation import mutate

    def grow(size=20, rounds=8, *, inputs=3, outputs=2, seed=0, dtype=torch.float64, **rules):
        config = replace(
            NEATConfig(
                population=size,
                add_node=0.5,
                add_connection=0.8,
                delete_node=0.1,
                delete_connection=0.2,
                enabled_mutate=0.2,
            ),
            **rules,
        )
        generator = torch.Generator().manual_seed(seed)
        people = initial_population(inputs, outputs, config, generator, dtype=dtype)
        innovations = Innovations(outputs + config.initial_hidden, people.weight.shape[1] + 1)
        for _ in range(rounds):
            people = mutate(people, config, innovations, generator).population
            mates = people.select(torch.randperm(size, generator=generator))
            equal = torch.rand(size, generator=generator) < 0.5
            people, _ = crossover(people, mates, equal, config, generator)
        return people

    return grow
