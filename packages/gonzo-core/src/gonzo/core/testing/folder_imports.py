"""Scripts of a folder, imported by tests in a process that other packages' scripts share."""

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path


@contextlib.contextmanager
def imports_from(folder: Path | str) -> Generator[None]:
    """Import what lies in `folder` by its own names while this lasts, and forget it afterwards.

    Several packages have a ``benchmarks/peers``: whichever is imported first would be everyone's.
    What was loaded under these names before is put back at the end, as is ``sys.path``.
    """
    folder = Path(folder)
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}

    def take() -> dict:
        """All modules of these names, taken out of ``sys.modules``."""
        found = [name for name in sys.modules if name.partition(".")[0] in names]
        return {name: sys.modules.pop(name) for name in found}

    before, path = take(), list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        take()
        sys.modules.update(before)
        sys.path[:] = path
