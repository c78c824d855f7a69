"""Import an optional library, or say exactly how to install it."""

import importlib
from types import ModuleType

__all__ = ["MissingExtraError", "require"]


class MissingExtraError(ModuleNotFoundError):
    """An optional library is not installed; the message is the pip command that installs it."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module``, which belongs to an extra, and return it.

    Call it inside the function that needs the library, so that importing a package never does.

    Args:
        module: The name to import, such as ``"gymnasium"`` or ``"matplotlib.pyplot"``.
        extra: The distribution and the extra that bring it: ``"gonzo-neuroevo[gym]"``.

    Raises:
        MissingExtraError: The library is not installed. A library that is installed but fails on
            a missing import of its own raises its own error, which is the one that helps.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        wanted = error.name is not None and (
            module == error.name or module.startswith(f"{error.name}.")
        )
        if not wanted:
            raise
        raise MissingExtraError(
            f'{module} is not installed; it comes with: pip install "{extra}"', name=error.name
        ) from None
