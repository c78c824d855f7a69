"""Data sets as problems: the fitness is minus a loss over samples, and the classic XOR and parity.

Losses are computed in float64 with additions in a fixed order, so that a genome's fitness is the
same to the last bit whatever other genomes share the call.

Source:
    Stanley and Miikkulainen: Evolving Neural Networks through Augmenting Topologies (2002), §4.1,
    for XOR.
Deviation: the fitness of `xor` is 4 - Σ (error)², with 3.9 for solved, as neat-python has it; the
    paper squares 4 - Σ |error|, and calls solved what is on the right side of 0.5 everywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .genome import Genome
from .phenotypes import Networks
from .population import Population
from .row_sums import row_sums
from .seeds import Episodes

LOSSES = ("mse", "squared-error", "cross-entropy", "accuracy")


class Supervised:
    """Fit outputs to a data set.

    Args:
        x: (samples, inputs)
        y: (samples, outputs) targets of "mse" and "squared-error", or (samples,) classes 0 … of
            "cross-entropy" and "accuracy".
        loss: what is subtracted:
            "mse", the squared error's mean over samples and outputs;
            "squared-error", its sum;
            "cross-entropy", of the outputs as logits, in nats, its mean over samples;
            "accuracy", the share of samples whose largest output is not the class's.
        perfect: the fitness at a loss of 0. For "accuracy", 1 makes the fitness the accuracy.
        classes: number of outputs where y holds classes; by default the largest class plus one.
        x_test: (samples, inputs) kept apart, for `test_fitness`.
        y_test: their targets.

    Raises:
        ValueError: shapes that do not match, values that are not finite, classes that are not
            0 … classes - 1, an unknown loss.
    """

    def __init__(
        self,
        x: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        *,
        loss: str = "mse",
        perfect: float = 0.0,
        classes: int | None = None,
        x_test: ArrayLike | Tensor | None = None,
        y_test: ArrayLike | Tensor | None = None,
    ) -> None:
        if loss not in LOSSES:
            raise ValueError(f"Supervised: expected a loss of {LOSSES}, got {loss!r}")
        if (x_test is None) != (y_test is None):
            raise ValueError("Supervised: expected x_test and y_test together, got one of them")
        self.loss = loss
        self.perfect = float(perfect)
        by_class = loss in ("cross-entropy", "accuracy")
        self._x = _samples("x", x)
        self._y = (_classes if by_class else _targets)("y", y, len(self._x))
        self._x_test = self._y_test = None
        if x_test is not None and y_test is not None:
            self._x_test = _samples("x_test", x_test)
            self._y_test = (_classes if by_class else _targets)("y_test", y_test, len(self._x_test))
        self.inputs = self._x.shape[1]
        self.outputs = self._outputs(classes) if by_class else self._y.shape[1]
        self._check_test()

    def _outputs(self, classes: int | None) -> int:
        largest = max(int(y.max()) for y in (self._y, self._y_test) if y is not None)
        if classes is not None and largest >= classes:
            raise ValueError(f"Supervised: expected classes 0 … {classes - 1}, got {largest}")
        return largest + 1 if classes is None else classes

    def _check_test(self) -> None:
        for name, here, test in (("x", self._x, self._x_test), ("y", self._y, self._y_test)):
            if test is not None and test.shape[1:] != here.shape[1:]:
                raise ValueError(
                    f"Supervised: expected {name}_test as wide as {name}, {tuple(here.shape[1:])}, "
                    f"got {tuple(test.shape[1:])}"
                )

    def evaluate(self, networks: Networks, episodes: Episodes) -> Tensor:
        """See `Problem.evaluate`; nothing is random here."""
        return self._fitness(networks, self._x, self._y)

    def test_fitness(self, networks: Networks) -> Tensor:
        """The same fitness (P,) over the samples kept apart.

        Raises:
            ValueError: there are none.
        """
        if self._x_test is None or self._y_test is None:
            raise ValueError("Supervised: no samples are kept apart; give x_test and y_test")
        return self._fitness(networks, self._x_test, self._y_test)

    def held_out(
        self,
        genome: Genome,
        *,
        run_seed: int,
        phenotype: Callable[[Population], Networks],
    ) -> Tensor:
        """What `evolve` judges a champion by (1,): samples kept apart, or all where none are."""
        one = phenotype(Population.from_genomes([genome]))
        if self._x_test is None:
            return self._fitness(one, self._x, self._y)
        return self.test_fitness(one)

    def _fitness(self, networks: Networks, x: Tensor, y: Tensor) -> Tensor:
        weight = networks.weight
        with torch.no_grad():
            out = networks(x.to(weight.device, weight.dtype)).to(torch.float64)  # (P, S, outputs)
            return self.perfect - self._loss(out, y.to(weight.device))

    def _loss(self, out: Tensor, y: Tensor) -> Tensor:
        if self.loss in ("mse", "squared-error"):
            error = out - y
            total = row_sums((error * error).flatten(1))
            return total / y.numel() if self.loss == "mse" else total
        if self.loss == "accuracy":
            return (out.argmax(2) != y).sum(1).to(torch.float64) / len(y)
        z = out - out.amax(2, keepdim=True)
        wanted = z.gather(2, y.expand(len(z), -1)[..., None])[..., 0]
        return row_sums(row_sums(z.exp()).log() - wanted) / len(y)


def _tensor(name: str, values: ArrayLike | Tensor) -> Tensor:
    tensor = values.detach().cpu() if isinstance(values, Tensor) else torch.tensor(np.array(values))
    if tensor.dtype == torch.bool:
        tensor = tensor.long()
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"Supervised: {name} holds NaN or infinite values; expected numbers")
    return tensor


def _samples(name: str, values: ArrayLike | Tensor) -> Tensor:
    tensor = _tensor(name, values)
    if tensor.ndim != 2 or len(tensor) == 0:
        raise ValueError(
            f"Supervised: expected {name} of shape (samples, inputs), got {tuple(tensor.shape)}"
        )
    return tensor.to(torch.float64)


def _targets(name: str, values: ArrayLike | Tensor, samples: int) -> Tensor:
    tensor = _tensor(name, values)
    if tensor.ndim != 2 or len(tensor) != samples or tensor.shape[1] == 0:
        hint = "; did you mean y[:, None]?" if tensor.shape == (samples,) else ""
        raise ValueError(
            f"Supervised: expected {name} of shape ({samples}, outputs), got "
            f"{tuple(tensor.shape)}{hint}"
        )
    return tensor.to(torch.float64)


def _classes(name: str, values: ArrayLike | Tensor, samples: int) -> Tensor:
    tensor = _tensor(name, values)
    if tensor.shape != (samples,):
        raise ValueError(
            f"Supervised: expected {name} of shape ({samples},), a class for each sample, got "
            f"{tuple(tensor.shape)}"
        )
    if tensor.is_floating_point() or int(tensor.min()) < 0:
        raise ValueError(
            f"Supervised: expected {name} to hold integer classes from 0, got {tensor.dtype} from "
            f"{tensor.min().item()}"
        )
    return tensor.to(torch.int64)


def parity(bits: int) -> Supervised:
    """Whether an odd number of the inputs is 1: fitness 2ᵇⁱᵗˢ - Σ (error)².

    Solved, by the usual measure, above 2ᵇⁱᵗˢ - 0.1.
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"parity: expected 1 to 16 bits, got {bits}")
    x = np.array(list(itertools.product((0.0, 1.0), repeat=bits)))
    y = x.sum(1, keepdims=True) % 2
    return Supervised(x, y, loss="squared-error", perfect=float(len(x)))


def xor() -> Supervised:
    """Exclusive or of two inputs: fitness 4 - Σ (error)², solved at 3.9."""
    return parity(2)


def xor3d() -> Supervised:
    """Parity of three inputs: fitness 8 - Σ (error)², solved at 7.9."""
    return parity(3)
