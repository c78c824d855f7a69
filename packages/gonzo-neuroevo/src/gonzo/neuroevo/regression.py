"""Finding a function from points of it, with other points kept apart to judge what was found.

The fitness is R² = 1 - Σ (f - y)² / Σ (y - ȳ)²: 1 is exact, 0 is as good as the mean, and neither
depends on the scale of the function.

Source of the targets:
    Uy, Hoai, O'Neill, McKay and Galván-López: Semantically-based crossover in genetic programming:
    application to real-valued symbolic regression (2011), for `nguyen-…`;
    Keijzer: Improving Symbolic Regression with Interval Arithmetic and Linear Scaling (2003), for
    `keijzer-…`; both as listed in McDermott et al.: Genetic Programming Needs Better Benchmarks
    (2012).
Deviation: the list gives no test points to `nguyen-…`: 200 are drawn here. The test grids of
    `keijzer-11` … `keijzer-14` are spaced 0.1 and not 0.01: 3,721 points, not 361,201.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .genome import Genome
from .phenotypes import Networks
from .population import Population
from .row_sums import row_sums
from .seeds import Episodes, episode_seed

Function = Callable[..., NDArray[np.floating]]


class Grid(NamedTuple):
    """Points from `low` to `high`, both included, in every variable."""

    low: float
    high: float
    step: float

    def points(self, variables: int, seed: int) -> NDArray[np.float64]:
        """(points, variables); the seed changes nothing."""
        count = round((self.high - self.low) / self.step)
        line = np.linspace(self.low, self.low + count * self.step, count + 1)
        return np.array(list(itertools.product(line, repeat=variables)))


class Uniform(NamedTuple):
    """So many points, each variable uniform between `low` and `high`."""

    low: float
    high: float
    count: int

    def points(self, variables: int, seed: int) -> NDArray[np.float64]:
        """(points, variables) drawn from the seed."""
        generator = np.random.Generator(np.random.PCG64(seed))
        return generator.uniform(self.low, self.high, (self.count, variables))


class Target(NamedTuple):
    """A function that benchmarks know by name."""

    variables: tuple[str, ...]
    formula: str
    function: Function
    train: Grid | Uniform
    test: Grid | Uniform


def _polynomial(degree: int) -> Function:
    return lambda x: np.sum([x**power for power in range(1, degree + 1)], axis=0)


def _keijzer_4(x: NDArray[np.floating]) -> NDArray[np.floating]:
    s, c = np.sin(x), np.cos(x)
    return x**3 * np.exp(-x) * c * s * (s**2 * c - 1)


_UNIT = (Uniform(-1, 1, 20), Uniform(-1, 1, 200))
_PLANE = (Uniform(-3, 3, 20), Grid(-3, 3, 0.1))
_X, _XY = ("x",), ("x", "y")
TARGETS: dict[str, Target] = {
    "nguyen-1": Target(_X, "x³ + x² + x", _polynomial(3), *_UNIT),
    "nguyen-2": Target(_X, "x⁴ + x³ + x² + x", _polynomial(4), *_UNIT),
    "nguyen-3": Target(_X, "x⁵ + x⁴ + x³ + x² + x", _polynomial(5), *_UNIT),
    "nguyen-4": Target(_X, "x⁶ + x⁵ + x⁴ + x³ + x² + x", _polynomial(6), *_UNIT),
    "nguyen-5": Target(_X, "sin(x²) cos(x) - 1", lambda x: np.sin(x**2) * np.cos(x) - 1, *_UNIT),
    "nguyen-6": Target(_X, "sin(x) + sin(x + x²)", lambda x: np.sin(x) + np.sin(x + x**2), *_UNIT),
    "nguyen-7": Target(
        _X,
        "ln(x + 1) + ln(x² + 1)",
        lambda x: np.log(x + 1) + np.log(x**2 + 1),
        Uniform(0, 2, 20),
        Uniform(0, 2, 200),
    ),
    "nguyen-8": Target(_X, "√x", np.sqrt, Uniform(0, 4, 20), Uniform(0, 4, 200)),
    "keijzer-1": Target(
        _X,
        "0.3 x sin(2πx)",
        lambda x: 0.3 * x * np.sin(2 * np.pi * x),
        Grid(-1, 1, 0.1),
        Grid(-1, 1, 0.001),
    ),
    "keijzer-4": Target(
        _X,
        "x³ e⁻ˣ cos(x) sin(x) (sin²(x) cos(x) - 1)",
        _keijzer_4,
        Grid(0, 10, 0.05),
        Grid(0.05, 10.05, 0.1),
    ),
    "keijzer-11": Target(
        _XY, "x y + sin((x - 1)(y - 1))", lambda x, y: x * y + np.sin((x - 1) * (y - 1)), *_PLANE
    ),
    "keijzer-12": Target(
        _XY, "x⁴ - x³ + y²/2 - y", lambda x, y: x**4 - x**3 + y**2 / 2 - y, *_PLANE
    ),
    "keijzer-13": Target(_XY, "6 sin(x) cos(y)", lambda x, y: 6 * np.sin(x) * np.cos(y), *_PLANE),
    "keijzer-14": Target(_XY, "8 / (2 + x² + y²)", lambda x, y: 8 / (2 + x**2 + y**2), *_PLANE),
}
"""Functions by name, with the points to learn from and the points to judge by."""


class SymbolicRegression:
    """Find a function of named variables.

    ``SymbolicRegression("keijzer-4")``, or
    ``SymbolicRegression(lambda x, y: x * y, ("x", "y"), Grid(-1, 1, 0.1), Grid(-1, 1, 0.03))``.

    Args:
        target: a name in `TARGETS`, or a function of one array per variable.
        variables: names of the function's arguments; known for a named target.
        train: the points to learn from; a named target has its own.
        test: the points to judge by; a named target has its own.
        seed: of points that are drawn. Those to judge by are drawn apart from those to learn from.

    Attributes:
        x: (points, variables) to learn from.
        y: (points,) the function there.
        x_test: (points, variables) to judge by.
        y_test: (points,) the function there.

    Raises:
        ValueError: an unknown name, missing points or variables, or a function that is not finite,
            or constant, on them.
    """

    def __init__(
        self,
        target: str | Function,
        variables: tuple[str, ...] | None = None,
        train: Grid | Uniform | None = None,
        test: Grid | Uniform | None = None,
        *,
        seed: int = 0,
    ) -> None:
        if isinstance(target, str):
            if target not in TARGETS:
                raise ValueError(
                    f"SymbolicRegression: expected a target of {list(TARGETS)}, got {target!r}"
                )
            known = TARGETS[target]
            function = known.function
            variables, train, test = (
                variables or known.variables,
                train or known.train,
                test or known.test,
            )
        else:
            function = target
        if not variables or train is None or test is None:
            raise ValueError(
                "SymbolicRegression: expected variables, train and test points with a function of "
                'your own, such as ("x",), Grid(-1, 1, 0.1), Grid(-1, 1, 0.01)'
            )
        if isinstance(target, str) and len(variables) != len(TARGETS[target].variables):
            raise ValueError(
                f"SymbolicRegression: expected names for the variables "
                f"{TARGETS[target].variables} of {target}, got {variables}"
            )
        self.target = target if isinstance(target, str) else "function"
        self.variables = tuple(variables)
        self.inputs, self.outputs = len(self.variables), 1
        self.x, self.y = self._values(function, train, episode_seed(seed, 0, 0, 0))
        apart = episode_seed(seed, 0, 0, 0, held_out=True)
        self.x_test, self.y_test = self._values(function, test, apart)

    def _values(
        self, function: Function, where: Grid | Uniform, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = where.points(self.inputs, seed)
        y = np.asarray(function(*x.T), dtype=np.float64)
        if y.shape != (len(x),):
            raise ValueError(
                f"SymbolicRegression: expected the function to give {len(x)} values for "
                f"{len(x)} points, got the shape {y.shape}"
            )
        if not np.isfinite(y).all():
            point = dict(zip(self.variables, x[~np.isfinite(y)][0].tolist(), strict=True))
            raise ValueError(f"SymbolicRegression: the function is not finite at {point}")
        if np.ptp(y) == 0:
            raise ValueError("SymbolicRegression: the function is constant on its points")
        return x, y

    def evaluate(self, networks: Networks, episodes: Episodes) -> Tensor:
        """R² on the points to learn from; see `Problem.evaluate`. Nothing is random here."""
        return _r_squared(networks, self.x, self.y)

    def test_fitness(self, networks: Networks) -> Tensor:
        """R² (P,) on the points to judge by."""
        return _r_squared(networks, self.x_test, self.y_test)

    def held_out(
        self,
        genome: Genome,
        *,
        run_seed: int,
        phenotype: Callable[[Population], Networks],
    ) -> Tensor:
        """What `evolve` judges a champion by: its `test_fitness` (1,)."""
        return self.test_fitness(phenotype(Population.from_genomes([genome])))


def _r_squared(networks: Networks, x: NDArray[np.float64], y: NDArray[np.float64]) -> Tensor:
    weight = networks.weight
    wanted = torch.from_numpy(y).to(weight.device)
    with torch.no_grad():
        out = networks(torch.from_numpy(x).to(weight.device, weight.dtype))[..., 0]
    error = out.to(torch.float64) - wanted
    spread = wanted - wanted.mean()
    return 1 - row_sums(error * error) / row_sums(spread * spread)
