"""Which token comes next: the most likely, or one drawn from a sharpened and cut distribution.

Top-k: Fan et al., "Hierarchical Neural Story Generation", 2018. Top-p: Holtzman et al., "The
Curious Case of Neural Text Degeneration", 2020.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Sampling"]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: Divides the logits; 0 takes the most likely token.
        top_k: Draw among this many most likely tokens; None for all.
        top_p: Draw among the fewest most likely tokens that have this probability together; after
            ``top_k``, of what that left; None for all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        """Raise unless the values make sense."""
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ValueError(
                "generate: expected a finite temperature >= 0 (0 takes the most likely token), "
                f"got {self.temperature}"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"generate: expected top_k >= 1 or None, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"generate: expected 0 < top_p <= 1 or None, got {self.top_p}")

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return a token for each row of ``logits`` (batch, vocab), as (batch,)."""
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / self.temperature
        tokens = None
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            logits, tokens = logits.topk(self.top_k)
        elif self.top_p is not None and self.top_p < 1:
            logits, tokens = logits.sort(descending=True)
        probabilities = logits.softmax(-1)
        if self.top_p is not None and self.top_p < 1:
            before = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(before >= self.top_p, 0)
        drawn = probabilities.multinomial(1, generator=generator)
        return (drawn if tokens is None else tokens.gather(-1, drawn)).squeeze(-1)
