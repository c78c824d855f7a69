"""The fused feature maps over one chunk of a block of heads.

The polynomial maps never multiply features within a chunk: their weight is a polynomial of q·k.
Their features lie with time innermost, so that every product is a run of whole vector registers.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel, run_rows

from .features import activation_backward, features, n_feature


class ChunkMap(Protocol):
    """What a chunk needs of a feature map; q, k (block, steps, d), φ (block, steps, n_feature)."""

    def features(self, x: Tensor) -> Tensor:
        """φ(x)."""

    def features_backward(self, grad: Tensor, x: Tensor, phi: Tensor | None = None) -> Tensor:
        """The gradient of x from that of φ(x), which is `phi` where it is known.

        `grad` may be written to.
        """

    def weights(self, q: Tensor, k: Tensor, fq: Tensor, fk: Tensor) -> Tensor:
        """The weights (block, steps, steps) of a step's past and itself; zero elsewhere."""

    def backward(
        self, grad: Tensor, d_fk: Tensor, q: Tensor, k: Tensor, fq: Tensor, fk: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The weights again, and through them the gradient of q; and that of k, by all ways.

        `grad` is that of the weights, not masked, and may be written to. `d_fk` is the gradient of
        φ(k) by other ways than the weights.
        """


def chunk_map(feature_map: str, scale: float) -> ChunkMap:
    """Return the map of that name."""
    if feature_map in ("taylor", "quadratic"):
        return PolynomialMap(feature_map, scale)
    return ExplicitMap(feature_map)


class ExplicitMap:
    """A map whose weights are products of its features."""

    def __init__(self, name: str) -> None:
        self.name = name

    def features(self, x: Tensor) -> Tensor:
        """See `ChunkMap`."""
        if self.name == "elu":  # as `features` does, in place
            return x.clamp(max=0).exp_().add_(x.clamp(min=0))
        return features(x, self.name, 1.0)

    def features_backward(self, grad: Tensor, x: Tensor, phi: Tensor | None = None) -> Tensor:
        """See `ChunkMap`."""
        if self.name == "identity":
            return grad
        if self.name == "elu":  # as `activation_backward` does, in place
            return grad.mul_((self.features(x) if phi is None else phi).clamp(max=1))
        return activation_backward(grad, self.features(x) if phi is None else phi, self.name)

    def weights(self, q: Tensor, k: Tensor, fq: Tensor, fk: Tensor) -> Tensor:
        """See `ChunkMap`."""
        return torch.bmm(fq, fk.mT).tril_()

    def backward(
        self, grad: Tensor, d_fk: Tensor, q: Tensor, k: Tensor, fq: Tensor, fk: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `ChunkMap`."""
        grad.tril_()
        dq = self.features_backward(torch.bmm(grad, fk), q, fq)
        dk = self.features_backward(torch.baddbmm(d_fk, grad.mT, fq), k, fk)
        return self.weights(q, k, fq, fk), dq, dk


class PolynomialMap:
    """The weight c₀ + c₁ s + c₂ s², s = scale · q·k: 1, 1, ½ for Taylor and 0, 0, 1 for squares."""

    def __init__(self, name: str, scale: float) -> None:
        self.name, self.scale = name, scale
        self.taylor = name == "taylor"
        self.c0, self.c1, self.c2 = (1.0, 1.0, 0.5) if self.taylor else (0.0, 0.0, 1.0)

    def features(self, x: Tensor) -> Tensor:
        """See `ChunkMap`."""
        rows, steps, d = x.shape
        out = x.new_empty(rows, n_feature(self.name, d), steps)
        turned = x.mT.contiguous().numpy()
        run_rows(rows, _expand, turned, self._constants(x), self.taylor, out.numpy())
        return out.mT

    def features_backward(self, grad: Tensor, x: Tensor, phi: Tensor | None = None) -> Tensor:
        """See `ChunkMap`."""
        turned = x.mT.contiguous()
        dx = torch.empty_like(turned)
        arrays = (turned.numpy(), self._constants(x), self.taylor, grad.mT.contiguous().numpy())
        run_rows(len(x), _expand_backward, *arrays, dx.numpy())
        return dx.mT

    def weights(self, q: Tensor, k: Tensor, fq: Tensor, fk: Tensor) -> Tensor:
        """See `ChunkMap`."""
        scores = torch.bmm(q, k.mT)
        run_rows(len(q), _weigh, scores.numpy(), *self._polynomial(q))
        return scores

    def backward(
        self, grad: Tensor, d_fk: Tensor, q: Tensor, k: Tensor, fq: Tensor, fk: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `ChunkMap`."""
        scores = torch.bmm(q, k.mT)
        run_rows(len(q), _weigh_backward, scores.numpy(), grad.numpy(), *self._polynomial(q))
        dk = self.features_backward(d_fk, k).baddbmm_(grad.mT, q)
        return scores, torch.bmm(grad, k), dk

    def _polynomial(self, x: Tensor) -> tuple[float, ...]:
        """c₀, c₁ and c₂ of q·k itself, in the precision of x."""
        kind = x.numpy().dtype.type
        return kind(self.c0), kind(self.c1 * self.scale), kind(self.c2 * self.scale**2)

    def _constants(self, x: Tensor) -> tuple[float, float, float]:
        """What x_i, x_i² and x_i x_j are multiplied by."""
        kind = x.numpy().dtype.type
        square = self.scale * self.c2**0.5
        return kind(self.scale**0.5), kind(square), kind(square * 2**0.5)


@kernel
def _expand(start, stop, x, constants, taylor, out):
    d, steps = x.shape[1], x.shape[2]
    linear, square, mixed = constants
    for row in range(start, stop):
        at = 0
        if taylor:
            out[row, 0, :] = 1
            for i in range(d):
                for t in range(steps):
                    out[row, 1 + i, t] = linear * x[row, i, t]
            at = 1 + d
        for i in range(d):
            for j in range(i, d):
                c = square if i == j else mixed
                for t in range(steps):
                    out[row, at, t] = c * x[row, i, t] * x[row, j, t]
                at += 1


@kernel(fastmath={"contract"})
def _expand_backward(start, stop, x, constants, taylor, grad, dx):
    d, steps = x.shape[1], x.shape[2]
    linear, square, mixed = constants
    for row in range(start, stop):
        at = 1 + d if taylor else 0
        for i in range(d):
            for t in range(steps):
                dx[row, i, t] = linear * grad[row, 1 + i, t] if taylor else 0
        for i in range(d):
            for t in range(steps):
                dx[row, i, t] += 2 * square * grad[row, at, t] * x[row, i, t]
            at += 1
            for j in range(i + 1, d):
                for t in range(steps):
                    g = mixed * grad[row, at, t]
                    dx[row, i, t] += g * x[row, j, t]
                    dx[row, j, t] += g * x[row, i, t]
                at += 1


@kernel(fastmath={"contract"})
def _weigh(start, stop, scores, c0, c1, c2):
    steps = scores.shape[1]
    for row in range(start, stop):
        for t in range(steps):
            for s in range(t + 1):
                x = scores[row, t, s]
                scores[row, t, s] = c0 + x * (c1 + c2 * x)
            for s in range(t + 1, steps):
                scores[row, t, s] = 0


@kernel(fastmath={"contract"})
def _weigh_backward(start, stop, scores, grad, c0, c1, c2):
    """Scores become weights, and the gradient of the weights that of the scores."""
    steps = scores.shape[1]
    for row in range(start, stop):
        for t in range(steps):
            for s in range(t + 1):
                x = scores[row, t, s]
                scores[row, t, s] = c0 + x * (c1 + c2 * x)
                grad[row, t, s] *= c1 + 2 * c2 * x
            for s in range(t + 1, steps):
                scores[row, t, s] = 0
                grad[row, t, s] = 0
