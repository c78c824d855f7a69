"""Where text goes: results to standard output, progress and remarks to standard error."""

from rich.console import Console

_PIPE_WIDTH = 120


def output() -> Console:
    """Return the console for results; wide enough for a table when it is not a terminal."""
    return _console(stderr=False)


def remarks() -> Console:
    """Return the console for progress and remarks."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console
