"""What a benchmark measures and what it must reach."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch

__all__ = [
    "Bar",
    "Row",
    "TimeRow",
    "ValueRow",
    "at_most",
    "faster_than_peer",
    "on_device",
    "times_peer",
]

AnyRow = TypeVar("AnyRow", bound="Row")


@dataclass(frozen=True)
class Bar:
    """A limit on our figure, absolute or beside the peer's; smaller figures are better."""

    limit: float
    kind: Literal["absolute", "times peer", "times faster"]

    def ratio(self, ours: float, peer: float | None) -> float | None:
        """Return the ratio that the bar speaks of: ours / peer, or peer / ours for a speed-up."""
        if peer is None or min(ours, peer) <= 0:
            return None
        return peer / ours if self.kind == "times faster" else ours / peer

    def met(self, ours: float, peer: float | None) -> bool:
        """Whether ``ours`` reaches the bar. A bar beside a peer that is missing is not reached."""
        if self.kind == "absolute":
            return ours <= self.limit
        ratio = self.ratio(ours, peer)
        if ratio is None:
            return False
        return ratio >= self.limit if self.kind == "times faster" else ratio <= self.limit


def at_most(limit: float) -> Bar:
    """Ours ≤ ``limit``, in seconds or in the unit of the row."""
    return Bar(limit, "absolute")


def times_peer(limit: float) -> Bar:
    """Ours ≤ ``limit`` × the peer's."""
    return Bar(limit, "times peer")


def faster_than_peer(factor: float) -> Bar:
    """Ours at least ``factor`` times as fast as the peer."""
    return Bar(factor, "times faster")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What every row has.

    Attributes:
        what: What is measured, with its sizes.
        tests: Paths or node ids of the pytest tests, from the package's folder, that say the thing
            is correct. Nothing is measured while they fail.
        ours: Called with what ``setup`` returned.
        peer: The same for the peer; None where there is none to run.
        peer_name: What the peer is, with its version where it is a package.
        no_peer: Why there is no peer, where one is due.
        bar: What must be reached; None for a row that only informs.
        setup: Returns the arguments of both; runs when the row's turn comes.
        threads: Of torch, for ours and the peer alike.
    """

    what: str
    tests: Sequence[str]
    ours: Callable[..., Any]
    peer: Callable[..., Any] | None = None
    peer_name: str = ""
    no_peer: str = ""
    bar: Bar | None = None
    setup: Callable[[], tuple[Any, ...]] = tuple
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.tests or isinstance(self.tests, str):
            raise ValueError(f"{self.what}: name the tests (a list) that show it is correct")
        if self.peer is not None and not self.peer_name:
            raise ValueError(f"{self.what}: name the peer")
        if self.bar is not None and self.bar.kind != "absolute" and not (self.peer or self.no_peer):
            raise ValueError(f"{self.what}: its bar needs a peer, or the reason why there is none")


@dataclass(frozen=True, kw_only=True)
class TimeRow(Row):
    """A row in seconds: the median time of a call.

    Attributes:
        caches: ``"hot"``: one set of arguments, called again and again. ``"cold"``: ours and the
            peer alternate call by call over ``sets`` sets, each from its own ``setup``.
        sets: How many sets of arguments a cold row rotates through.
    """

    caches: Literal["hot", "cold"] = "hot"
    sets: int = 4

    unit = "s"


@dataclass(frozen=True, kw_only=True)
class ValueRow(Row):
    """A row in a unit of its own, such as an error or bytes: ours and peer return the figure.

    Attributes:
        unit: Of the figures; empty for a plain number.
    """

    unit: str = ""


def on_device(row: AnyRow, device: torch.device | str, **changes: Any) -> AnyRow:
    """Return ``row`` with the tensors that its ``setup`` makes on ``device``.

    The calls find their arguments there. What they make themselves must follow those.

    Args:
        row: Of a script for the CPU.
        device: Where to make them.
        **changes: Other fields that differ there, such as ``tests``.
    """

    def setup() -> tuple[Any, ...]:
        with torch.device(device):
            return row.setup()

    return replace(row, setup=setup, **changes)
