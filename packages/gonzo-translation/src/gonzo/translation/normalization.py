"""Length and mean of word vectors: unit norm, centring, and what was taken away, kept for later.

The steps run in the order given. ``("unit", "center", "unit")`` is what Artetxe, Labaka and Agirre
2018 (A robust self-learning method for fully unsupervised cross-lingual mappings of word
embeddings, https://arxiv.org/abs/1805.06297, section 3.1) do before anything else; MUSE's
``center,renorm`` is ``("center", "unit")`` here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Normalization", "fit_normalization"]

_STEPS = ("unit", "center")


@dataclass(frozen=True, eq=False)
class Normalization:
    """The steps, with the mean of every centring as it was fitted.

    Args:
        steps: Names out of ``"unit"`` (every vector to length 1; a zero vector stays zero) and
            ``"center"`` (subtract a mean). Empty: nothing happens.
        means: One vector of shape (d,) per ``"center"``, in the order of the steps.

    Raises:
        ValueError: A step has another name, or the number or the shapes of the means do not fit.
    """

    steps: tuple[str, ...] = ()
    means: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", check_steps(self.steps))
        object.__setattr__(self, "means", tuple(self.means))
        wanted = self.steps.count("center")
        if len(self.means) != wanted:
            raise ValueError(
                f"Normalization: expected one mean for each of the {wanted} centring steps in "
                f"{self.steps}, got {len(self.means)}; fit_normalization finds them"
            )
        shapes = {tuple(mean.shape) for mean in self.means}
        if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
            raise ValueError(
                f"Normalization: expected means of one shape (d,), got {sorted(shapes)}"
            )

    def apply(self, vectors: Tensor) -> Tensor:
        """Do the steps to other vectors with the means that were fitted.

        Args:
            vectors: (n, d) or (d,), floating point.

        Returns:
            The same shape and dtype; the argument itself when there are no steps.

        Raises:
            ValueError: The dimension is not that of the means.
        """
        means = iter(self.means)
        for step in self.steps:
            if step == "unit":
                vectors = _unit(vectors)
                continue
            mean = next(means)
            if vectors.shape[-1] != len(mean):
                raise ValueError(
                    f"Normalization: fitted on vectors of dimension {len(mean)}, got vectors of "
                    f"shape {tuple(vectors.shape)}; apply it to vectors of the same space"
                )
            vectors = vectors - mean.to(vectors)
        return vectors


def fit_normalization(vectors: Tensor, steps: Sequence[str]) -> Normalization:
    """Find the means that the centring steps subtract from these vectors.

    Args:
        vectors: (n, d), floating point, n at least 1.
        steps: Names as in `Normalization`; a single name may stand without a sequence.

    Returns:
        The normalization; ``fit_normalization(x, steps).apply(x)`` is the normalised x.

    Raises:
        ValueError: A step has another name, or the vectors are not (n, d) with n at least 1.
    """
    names = check_steps(steps)
    if vectors.ndim != 2 or not len(vectors):
        raise ValueError(
            "fit_normalization: expected vectors of shape (n, d) with at least one row, got "
            f"{tuple(vectors.shape)}"
        )
    means: list[Tensor] = []
    # What follows the last centring cannot change a mean.
    last = max((i for i, name in enumerate(names) if name == "center"), default=-1)
    for i, name in enumerate(names[: last + 1]):
        if name == "unit":
            vectors = _unit(vectors)
            continue
        means.append(vectors.mean(dim=0))
        if i < last:
            vectors = vectors - means[-1]
    return Normalization(names, tuple(means))


def check_steps(steps: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the steps as a tuple.

    Raises:
        ValueError: A name is not a step.
    """
    names = (steps,) if isinstance(steps, str) else tuple(steps)
    for name in names:
        if name not in _STEPS:
            raise ValueError(
                f'normalization: expected steps out of "unit" and "center", got {name!r}; '
                'MUSE\'s center,renorm is ("center", "unit")'
            )
    return names


def _unit(vectors: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    # The squares of very long and of very short vectors are beyond the numbers' range.
    beyond = norms.isinf() | (norms < torch.finfo(vectors.dtype).tiny ** 0.5)
    if bool(beyond.any()):
        largest = vectors.abs().amax(-1, keepdim=True)
        vectors = torch.where(beyond & (largest > 0), vectors / largest, vectors)
        norms = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / norms.masked_fill(norms == 0, 1)
