"""The loops of an alignment, run plainly here; whoever wants them resumable brings his own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

__all__ = ["Loops", "PlainLoops"]


class Loops(Protocol):
    """Runs loops by name and takes down numbers, as `gonzo.lab.Run` does."""

    def steps(self, total: int, *, name: str, **stateful: Any) -> Iterator[int]:
        """Yield the steps that are still to do; `stateful` have state_dict and load_state_dict."""
        ...

    def log(self, step: int, **values: float) -> None:
        """Take down numbers at a step of the loop that is running."""
        ...


class PlainLoops:
    """Loops that nobody watches and that start from the beginning."""

    def steps(self, total: int, *, name: str, **stateful: Any) -> Iterator[int]:
        """Yield 0 … total - 1."""
        return iter(range(total))

    def log(self, step: int, **values: float) -> None:
        """Forget the numbers."""
