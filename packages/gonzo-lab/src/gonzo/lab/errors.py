"""The one error of this package: something a user can cause, and so can put right."""

import difflib
from collections.abc import Iterable


class LabError(ValueError):
    """A mistake the message explains: what was expected, what came, and the way out.

    The `gonzo` command prints it as one paragraph, without a traceback, and exits with 2.
    """


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest of `options`, or an empty string."""
    close = difflib.get_close_matches(word, list(options), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
