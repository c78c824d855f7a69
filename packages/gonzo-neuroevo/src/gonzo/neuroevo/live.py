"""A live view of a run in the terminal: progress and the time left, fitness, species, champion.

with LiveView(generations=300) as view:
    evolve(neat, problem, 300, watch=view)
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from gonzo.core import require

from .generation import Generation
from .neat import NEAT

_EXTRA = "gonzo-neuroevo[live]"
_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = ("red", "green", "yellow", "blue", "magenta", "cyan", "bright_red", "bright_blue")
_WIDTH = 48


class LiveView:
    """Shows a run while it goes; call it after each generation, as `evolve` does.

    Where the output is no terminal, the last state is printed once, at the end.

    Args:
        generations: at most so many; the time left is told for these.
        target: of the fitness, if there is one.

    Raises:
        MissingExtraError: rich is not installed.
    """

    def __init__(self, generations: int, *, target: float | None = None) -> None:
        if generations < 1:
            raise ValueError(f"LiveView: expected 1 or more generations, got {generations}")
        self._generations = generations
        self._target = target
        self._live: Any = require("rich.live", extra=_EXTRA).Live(refresh_per_second=8)
        self._began = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._live.__enter__()
        return self

    @property
    def _plain(self) -> bool:
        """Whether the terminal cannot show more than ASCII."""
        return not self._live.console.encoding.lower().startswith("utf")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, trace)
        if not self._live.console.is_terminal:
            self._live.console.line()  # what is printed there does not end its last one

    def __call__(self, neat: NEAT, generation: Generation) -> None:
        """Take the state after a generation."""
        if self._first is None:
            self._first = generation.number
        self._live.update(self._render(neat, generation, self._first))

    def _render(self, neat: NEAT, told: Generation, first: int) -> Any:
        grid = require("rich.table", extra=_EXTRA).Table.grid(padding=(0, 2))
        grid.add_row("generation", self._progress(told.number + 1, first))
        target = f" of {self._target:g}" if self._target is not None else ""
        grid.add_row("best", f"{told.best:.4g}{target}  {'' if self._plain else _sparkline(neat)}")
        grid.add_row("mean", f"{told.mean:.4g}")
        champion = neat.champion
        if champion is not None:
            nodes, connections = neat.best_genome.size
            grid.add_row(
                "champion",
                f"{champion.fitness:.4g} in generation {champion.generation}, "
                f"{nodes} nodes, {connections} connections",
            )
        grid.add_row("species", _species(told, "#" if self._plain else "█"))
        if told.refused:
            grid.add_row("no room", f"{told.refused} mutations in this generation")
        return grid

    def _progress(self, done: int, first: int) -> str:
        spent = time.monotonic() - self._began
        ours = done - first
        left = spent / ours * (self._generations - done) if ours else 0.0
        filled = round(24 * done / self._generations)
        bar = "━" * filled + "╌" * (24 - filled)
        if self._plain:
            bar = "=" * filled + "-" * (24 - filled)
        minutes, seconds = divmod(round(left), 60)
        return f"{done} of {self._generations} {bar} {minutes}:{seconds:02d} left at most"


def _sparkline(neat: NEAT) -> str:
    """The best fitness of the generations, drawn in one line."""
    best = [told.best for told in neat.history]
    step = max(1, -(-len(best) // 30))
    best = best[::-1][::step][::-1]
    low, high = min(best), max(best)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in best)


def _species(told: Generation, block: str) -> Any:
    """A stacked bar, a colour for each species by its key."""
    text = require("rich.text", extra=_EXTRA)
    line = text.Text(f"{len(told.species)}  ")
    total = sum(told.species.values())
    edge = 0
    for key, size in told.species.items():
        before, edge = edge, edge + size
        cells = round(_WIDTH * edge / total) - round(_WIDTH * before / total)
        line.append(block * cells, style=_COLOURS[key % len(_COLOURS)])
    return line
