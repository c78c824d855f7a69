"""Non-dominated ranks of two objectives, beside pymoo's compiled sort and DEAP's.

Objectives are random, and for one row like those of protected innovation: small integer ages with
many ties beside rewards. The peers are given what they want: arrays, and DEAP its own fitnesses.
"""

import functools

import numpy as np
import torch

from gonzo.core.bench import TimeRow, at_most, main
from gonzo.neuroevo.ranking import non_dominated_rank

TESTS = ["tests/test_ranking.py"]


def peer(name):
    """What makes a row's peer, or says why there is none."""
    try:
        if name == "pymoo":
            from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

            sort = NonDominatedSorting()
            return {
                "peer": lambda _, array, fitnesses: sort.do(array),
                "peer_name": "pymoo",
            }
        from deap import base, tools

        del base
        return {
            "peer": lambda _, array, fitnesses: tools.sortLogNondominated(
                fitnesses, len(fitnesses)
            ),
            "peer_name": "DEAP",
        }
    except ImportError as missing:
        return {"no_peer": f"{name} is not installed ({missing.name}): uv sync --group bench"}


def individuals(array):
    try:
        from deap import base
    except ImportError:
        return None

    class Fitness(base.Fitness):
        weights = (-1.0, -1.0)

    class Individual:
        def __init__(self, values):
            self.fitness = Fitness(tuple(values))

    return [Individual(row) for row in array.tolist()]


def objectives(n, ages):
    generator = np.random.default_rng(0)
    array = generator.standard_normal((n, 2))
    if ages:
        array[:, 0] = generator.integers(0, 40, n)
        array[:, 1] = -generator.integers(0, 300, n)
    return torch.from_numpy(array), array, individuals(array)


def row(n, bar, name, *, ages=False):
    kind = "integer ages and rewards" if ages else "random"
    return TimeRow(
        what=f"two objectives, {n} rows, {kind}",
        ours=lambda tensor, *_: non_dominated_rank(tensor),
        setup=functools.partial(objectives, n, ages),
        bar=at_most(bar * 1e-3),
        tests=TESTS,
        **peer(name),
    )


ROWS = [
    row(200, 0.05, "pymoo"),
    row(2000, 0.4, "pymoo"),
    row(20000, 6, "pymoo"),
    row(20000, 6, "pymoo", ages=True),
    row(2000, 0.4, "DEAP"),
]

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-neuroevo", script=__file__))
