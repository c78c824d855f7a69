"""Names that enter generated source and formulas are checked first."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Sequence

__all__ = ["check_function_name", "check_names"]


def check_names(names: Sequence[str], count: int, what: str) -> list[str]:
    """Return ``names`` if they are ``count`` different identifiers.

    Raises:
        TypeError: a name is no string.
        ValueError: another number of names, a name twice, or one that is no ASCII identifier or is
            a keyword; the message opens with ``what``.
    """
    if isinstance(names, str):
        raise TypeError(f"{what}: expected a sequence of names, got the one string {names!r}")
    if len(names) != count:
        raise ValueError(f"{what}: expected {count} names, got {len(names)}")
    for name in names:
        _check(name, what)
    if len(set(names)) < count:
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"{what}: the name {twice!r} comes more than once")
    return list(names)


def check_function_name(name: str, what: str) -> str:
    """Return ``name`` if a function of generated source may have it.

    Raises:
        TypeError: it is no string.
        ValueError: it is no ASCII identifier, is a keyword, or would hide something that the source
            uses: a built-in, ``math``, or a name with a leading underscore.
    """
    _check(name, what)
    if name.startswith("_") or name == "math" or hasattr(builtins, name):
        raise ValueError(
            f"{what}: the name {name!r} would hide another that the source uses; choose one "
            "without a leading underscore that is not built in"
        )
    return name


def _check(name: str, what: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{what}: expected a name, got {type(name).__name__}")
    # Exotic letters are refused because Python folds several of them into one.
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
        raise ValueError(
            f"{what}: expected a name of ASCII letters, digits and underscores that is no keyword, "
            f"got {name!r}"
        )
