"""Progress of a loop: a live bar with the time left on a terminal, a line now and then off it."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINE_SECONDS = 10.0
_REFRESH_SECONDS = 0.1


class Bar:
    """What a loop tells about itself.

    Args:
        console: where to show it.
        title: the loop's name.
        start: steps already done, so that the time left counts only the new ones.
        total: steps in all.
    """

    def __init__(self, console: Console, title: str, start: int, total: int) -> None:
        self._console, self._title, self._start, self._total = console, title, start, total
        self._began = self._shown = time.monotonic()
        self._live: Progress | None = None
        if console.is_terminal:
            self._live = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=28),
                TaskProgressColumn(),
                MofNCompleteColumn(),
                TextColumn("[cyan]{task.fields[values]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
                transient=False,
            )
            self._task = self._live.add_task(title, total=total, completed=start, values="")
            self._live.start()
        elif start:
            self._line(start, {}, "continues")

    def update(self, done: int, values: Mapping[str, float]) -> None:
        """Show that `done` steps are behind us; cheap enough to call at every step."""
        now = time.monotonic()
        pause = _REFRESH_SECONDS if self._live else _LINE_SECONDS
        if now - self._shown < pause:
            return
        self._shown = now
        if self._live:
            self._live.update(self._task, completed=done, values=_format(values))
        else:
            seconds = (now - self._began) / max(done - self._start, 1) * (self._total - done)
            self._line(done, values, f"about {format_seconds(seconds)} left")

    def close(self, done: int, values: Mapping[str, float]) -> None:
        """Show the last state and leave the terminal as it was."""
        if self._live:
            self._live.update(self._task, completed=done, values=_format(values))
            self._live.stop()
        else:
            self._line(done, values, format_seconds(time.monotonic() - self._began))

    def _line(self, done: int, values: Mapping[str, float], remark: str) -> None:
        parts = (f"{self._title}: {done}/{self._total}", _format(values), remark)
        self._console.print(" | ".join(part for part in parts if part), soft_wrap=True)


def format_seconds(seconds: float) -> str:
    """Return a duration as people say it: `8 s`, `3 min 05 s`, `1 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _format(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
