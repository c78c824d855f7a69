"""Two maps, one for each language, into the space where translations lie close to each other.

    source word  ->  A n(x),      target word  ->  B n(y)

n are the normalisations that were fitted to each language, B is often the identity. What Procrustes
and the adversarial game find is A; self-learning finds both.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from gonzo.core.pretrained import Pretrained
from gonzo.translation.embeddings import Embeddings
from gonzo.translation.normalization import Normalization

__all__ = ["Alignment"]


class Alignment(Pretrained):
    """The maps of two languages into one space, with what they do to vectors first.

    Made by `align`, or from what other functions found with `Alignment.of`. Save it with
    ``save_pretrained(folder)``, read it with ``Alignment.from_pretrained(folder)``.

    Args:
        source_dim: numbers per vector of the source language.
        target_dim: of the target language.
        shared_dim: of the space they meet in.
        source_steps: names of its normalisation, see `Normalization`.
        target_steps: likewise.
        method: what found it, for people.
    """

    source_map: Tensor
    target_map: Tensor
    source_means: Tensor
    target_means: Tensor

    def __init__(
        self,
        source_dim: int,
        target_dim: int,
        shared_dim: int,
        *,
        source_steps: tuple[str, ...] = (),
        target_steps: tuple[str, ...] = (),
        method: str = "",
    ) -> None:
        super().__init__()
        self.source_steps, self.target_steps = tuple(source_steps), tuple(target_steps)
        self.method = method
        self.register_buffer("source_map", torch.eye(shared_dim, source_dim))
        self.register_buffer("target_map", torch.eye(shared_dim, target_dim))
        for name, steps, dim in (
            ("source_means", self.source_steps, source_dim),
            ("target_means", self.target_steps, target_dim),
        ):
            self.register_buffer(name, torch.zeros(steps.count("center"), dim))

    @classmethod
    def of(
        cls,
        source_map: Tensor,
        target_map: Tensor | None = None,
        *,
        source: Normalization | None = None,
        target: Normalization | None = None,
        method: str = "",
    ) -> Self:
        """Put together maps and normalisations.

        Args:
            source_map: (e, d_source); ``vectors @ source_map.T`` are mapped.
            target_map: (e, d_target); the identity by default.
            source: what is done to source vectors first; nothing by default.
            target: what is done to target vectors first; nothing by default.
            method: what found them.

        Raises:
            ValueError: maps that do not end in one space, or means of another dimension.
        """
        source, target = source or Normalization(), target or Normalization()
        if target_map is None:
            target_map = torch.eye(len(source_map), dtype=source_map.dtype)
        if source_map.ndim != 2 or target_map.ndim != 2 or len(source_map) != len(target_map):
            raise ValueError(
                "Alignment: expected maps (e, d_source) and (e, d_target) into one space, got "
                f"{tuple(source_map.shape)} and {tuple(target_map.shape)}"
            )
        made = cls(
            source_map.shape[1],
            target_map.shape[1],
            len(source_map),
            source_steps=source.steps,
            target_steps=target.steps,
            method=method,
        ).to(source_map.dtype)
        for name, means in (("source_means", source.means), ("target_means", target.means)):
            own = getattr(made, name)
            for row, mean in enumerate(means):
                if mean.shape != own[row].shape:
                    raise ValueError(
                        f"Alignment: expected {name} of dimension {own.shape[1]}, got "
                        f"{tuple(mean.shape)}"
                    )
                own[row] = mean
        made.source_map.copy_(source_map)
        made.target_map.copy_(target_map)
        return made

    @property
    def source_normalization(self) -> Normalization:
        """What is done to a source vector before its map."""
        return Normalization(self.source_steps, tuple(self.source_means))

    @property
    def target_normalization(self) -> Normalization:
        """What is done to a target vector before its map."""
        return Normalization(self.target_steps, tuple(self.target_means))

    def map_source(self, vectors: Tensor) -> Tensor:
        """Return (n, e) for (n, d_source) vectors as they were read."""
        _check("map_source", vectors, self.source_map)
        return self.source_normalization.apply(vectors) @ self.source_map.T.to(vectors.dtype)

    def map_target(self, vectors: Tensor) -> Tensor:
        """Return (m, e) for (m, d_target) vectors as they were read."""
        _check("map_target", vectors, self.target_map)
        return self.target_normalization.apply(vectors) @ self.target_map.T.to(vectors.dtype)

    def mapped_source(self, embeddings: Embeddings) -> Embeddings:
        """Return the source words in the shared space."""
        return Embeddings(embeddings.words, self.map_source(embeddings.vectors))

    def mapped_target(self, embeddings: Embeddings) -> Embeddings:
        """Return the target words in the shared space."""
        return Embeddings(embeddings.words, self.map_target(embeddings.vectors))

    def extra_repr(self) -> str:
        """Say what it maps and what found it."""
        (e, source), target = self.source_map.shape, self.target_map.shape[1]
        return f"{source} and {target} -> {e}, method={self.method!r}"


def _check(name: str, vectors: Tensor, mapping: Tensor) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != mapping.shape[1]:
        raise ValueError(
            f"Alignment.{name}: expected vectors of shape (words, {mapping.shape[1]}), got "
            f"{tuple(vectors.shape)}; they must come from the file the alignment was made with"
        )
