"""A genome as formulas: sympy expressions, or LaTeX.

Formulas name the functions themselves. What keeps an evaluated network finite is left out unless
``limits`` asks for it: arguments of exponentials, sigmoids, sines and tanh within ±60, values
within ±1e18.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch

from gonzo.core import require
from gonzo.core.ops.population_forward.functions import (
    BOUND,
    LEAK,
    LIMIT,
    SELU_ALPHA,
    SELU_SCALE,
    SMALLEST,
    activate,
    aggregate,
)

from ..genome import ConnectionGene, Genome, NodeGene
from .names import check_names
from .order import incoming, layers

__all__ = ["LARGEST_FORMULA", "to_latex", "to_sympy"]

LARGEST_FORMULA = 20_000
"""Terms of a formula that is still written out."""


def to_sympy(
    genome: Genome,
    names: Sequence[str] | None = None,
    *,
    limits: bool = False,
    simplify: bool = False,
) -> list[Any]:
    """Write each output as an expression in the inputs.

    Symbols are real: ``sympy.Symbol("x1", real=True)``. Medians of more than two and ``maxabs`` are
    functions of these names, which ``sympy.lambdify`` knows how to evaluate. A node that depends on
    no input is a number.

    Args:
        genome: a genome without a cycle.
        names: of the inputs; by default x1, x2, ….
        limits: also write the clamps that keep values finite.
        simplify: let sympy simplify, which can take minutes.

    Returns:
        One sympy expression per output.

    Raises:
        ValueError: a cycle, a bad name, or a formula of more than `LARGEST_FORMULA` terms.
        MissingExtraError: sympy is not installed.
    """
    default = [f"x{i}" for i in range(1, genome.inputs + 1)]
    symbols = check_names(default if names is None else names, genome.inputs, "to_sympy")
    order = [node for layer in layers(genome, "to_sympy") for node in layer]
    links = incoming(genome)
    _check_size(genome, order, links)
    sympy = require("sympy", extra="gonzo-neuroevo[sympy]")
    values = {-1 - i: sympy.Symbol(name, real=True) for i, name in enumerate(symbols)}
    writer = _Writer(sympy, limits)
    for node in order:
        values[node.key] = writer.node(node, links[node.key], values)
    outputs = [values[key] for key in range(genome.outputs)]
    return [sympy.simplify(output) for output in outputs] if simplify else outputs


def to_latex(genome: Genome, names: Sequence[str] | None = None, *, digits: int = 4) -> str:
    """Write all outputs as one ``aligned`` block of LaTeX, a line an output: y1 = …, y2 = ….

    Args:
        genome: a genome without a cycle.
        names: of the inputs; by default x1, x2, ….
        digits: significant digits of every number.

    Raises:
        ValueError: as `to_sympy`.
        MissingExtraError: sympy is not installed.
    """
    if digits < 1:
        raise ValueError(f"to_latex: expected 1 digit or more, got {digits}")
    outputs = to_sympy(genome, names)
    sympy = require("sympy", extra="gonzo-neuroevo[sympy]")
    rows = []
    for i, output in enumerate(outputs, 1):
        rounded = output.xreplace({n: sympy.Float(n, digits) for n in output.atoms(sympy.Float)})
        # sympy reads the name maxabs as the magnitude of max.
        text = sympy.latex(rounded).replace(r"\left|{max}\right|", r"\operatorname{maxabs}")
        rows.append(f"y_{{{i}}} &= {text}")
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


def _check_size(
    genome: Genome, order: list[NodeGene], links: dict[int, list[ConnectionGene]]
) -> None:
    """Refuse what would fill the memory: a formula repeats a node for each path it is on."""
    sizes: dict[int, int] = {}
    for node in order:
        sizes[node.key] = 1 + sum(sizes.get(gene.source, 1) for gene in links[node.key])
    if (size := sum(sizes[key] for key in range(genome.outputs))) > LARGEST_FORMULA:
        raise ValueError(
            f"to_sympy: written out, the formulas have {size} terms, expected at most "
            f"{LARGEST_FORMULA}; to_python writes one line a node"
        )


class _Writer:
    """Writes nodes as expressions."""

    def __init__(self, sympy: ModuleType, limits: bool) -> None:
        self.sympy = sympy
        self.limits = limits
        implemented = require(
            "sympy.utilities.lambdify", extra="gonzo-neuroevo[sympy]"
        ).implemented_function
        self.median = implemented("median", lambda *terms: _evaluate("median", terms))
        self.maxabs = implemented("maxabs", lambda *terms: _evaluate("maxabs", terms))
        self.activations = self._activations()

    def node(self, node: NodeGene, links: list[ConnectionGene], values: dict[int, Any]) -> Any:
        terms = [self.number(gene.weight) * values[gene.source] for gene in links]
        gathered = self.aggregate(node.aggregation, terms)
        z = self.number(node.bias) + self.number(node.response) * gathered
        if z.is_number:
            # Functions of constants are the network's, which never give an infinity or NaN.
            number = torch.tensor(float(z), dtype=torch.float64).clamp(-BOUND, BOUND)
            return self.number(float(activate(node.activation, number).clamp(-BOUND, BOUND)))
        if self.limits:
            z = self.within(BOUND, z)
        value = self.activations[node.activation](z)
        return self.within(BOUND, value) if self.limits else value

    def aggregate(self, name: str, terms: list[Any]) -> Any:
        if not terms:
            return self.sympy.Integer(1 if name == "product" else 0)
        if all(term.is_number for term in terms):
            return self.number(_evaluate(name, [float(term) for term in terms]))
        if name == "product":
            return self.sympy.Mul(*terms)
        if name == "sum":
            return self.sympy.Add(*terms)
        if len(terms) == 1:
            return terms[0]
        if name == "mean" or (name == "median" and len(terms) == 2):
            return self.sympy.Add(*terms) / len(terms)
        if name == "max":
            return self.sympy.Max(*terms, evaluate=False)
        if name == "min":
            return self.sympy.Min(*terms, evaluate=False)
        return (self.median if name == "median" else self.maxabs)(*terms)

    def number(self, value: float) -> Any:
        whole = float(value).is_integer() and abs(value) < 1e9
        return self.sympy.Integer(int(value)) if whole else self.sympy.Float(value)

    def within(self, bound: float, z: Any) -> Any:
        sympy, bound = self.sympy, self.number(bound)
        return sympy.Max(-bound, sympy.Min(bound, z, evaluate=False), evaluate=False)

    def limited(self, z: Any) -> Any:
        return self.within(LIMIT, z) if self.limits else z

    def _activations(self) -> dict[str, Callable[[Any], Any]]:
        sympy = self.sympy
        number, limited = self.number, self.limited
        exp, log = sympy.exp, sympy.log

        def either(condition: Any, first: Any, second: Any) -> Any:
            return sympy.Piecewise((first, condition), (second, True), evaluate=False)

        def positive(z: Any) -> Any:
            return sympy.Gt(z, 0, evaluate=False)

        def largest(bound: float, z: Any) -> Any:
            return sympy.Max(number(bound), z, evaluate=False)

        def sigmoid(slope: float) -> Callable[[Any], Any]:
            return lambda z: 1 / (1 + exp(-limited(number(slope) * z)))

        def softplus(slope: float) -> Callable[[Any], Any]:
            return lambda z: log(1 + exp(limited(number(slope) * z))) / number(slope)

        return {
            "identity": lambda z: z,
            "sigmoid": sigmoid(1),
            "tanh": lambda z: sympy.tanh(limited(z)),
            "relu": lambda z: largest(0, z),
            "sin": lambda z: sympy.sin(limited(z)),
            "gauss": lambda z: exp(-(z**2)),
            "softplus": softplus(1),
            "abs": sympy.Abs,
            "clamped": lambda z: self.within(1, z),
            "square": lambda z: z**2,
            "cube": lambda z: z**3,
            "exp": lambda z: exp(limited(z)),
            "log": lambda z: log(largest(SMALLEST, z)),
            "inv": lambda z: either(sympy.Eq(z, 0, evaluate=False), number(0), 1 / z),
            "hat": lambda z: largest(0, 1 - sympy.Abs(z)),
            "elu": lambda z: either(positive(z), z, exp(z) - 1),
            "lelu": lambda z: either(positive(z), z, number(LEAK) * z),
            "selu": lambda z: (
                number(SELU_SCALE) * either(positive(z), z, number(SELU_ALPHA) * (exp(z) - 1))
            ),
            "neat_sigmoid": sigmoid(4.9),
            "steep_sigmoid": sigmoid(5),
            "steep_tanh": lambda z: sympy.tanh(limited(number(2.5) * z)),
            "steep_sin": lambda z: sympy.sin(limited(5 * z)),
            "steep_gauss": lambda z: exp(-5 * z**2),
            "steep_softplus": softplus(5),
        }


def _evaluate(name: str, terms: Sequence[float]) -> float:
    gathered = aggregate(name, torch.tensor(list(terms), dtype=torch.float64))
    return float(gathered.nan_to_num(0.0, float("inf"), float("-inf")))
