"""The source folder of an editable package, where recorded results live."""

import tomllib
from pathlib import Path
from typing import Any

from gonzo.lab.atomic import write_json
from gonzo.lab.errors import LabError
from gonzo.lab.overview import read_result
from gonzo.lab.registry import Registered


def package_folder(source: Path) -> Path | None:
    """Return the folder of the package that `source` belongs to, None when it is installed.

    That is the nearest parent with a `pyproject.toml` whose `src/` holds the file.
    """
    for folder in source.resolve().parents:
        project = folder / "pyproject.toml"
        if project.is_file():
            named = "project" in tomllib.loads(project.read_text())
            return folder if named and (folder / "src") in source.resolve().parents else None
    return None


def recorded_path(registered: Registered, preset: str) -> Path | None:
    """Return where the recorded numbers of a preset lie, or would lie; None when installed."""
    folder = package_folder(registered.source)
    if folder is None:
        return None
    return folder / "results" / f"{registered.name.partition('.')[2]}.{preset}.json"


def require_recorded_path(registered: Registered, preset: str) -> Path:
    """Return `recorded_path`.

    Raises:
        LabError: the recipe's package is installed as a wheel.
    """
    path = recorded_path(registered, preset)
    if path is None:
        raise LabError(
            f"{registered.name} was loaded from an installed package, so there is no checkout to "
            "record to. --record is for working on gonzo itself: run it in a clone of the "
            "repository."
        )
    return path


def record(registered: Registered, result: dict[str, Any]) -> Path:
    """Copy a finished result into the package's `results/` and return the file."""
    path = require_recorded_path(registered, result["preset"])
    write_json(path, result)
    return path


def recorded(registered: Registered, preset: str) -> dict[str, Any] | None:
    """Return the recorded result of a preset, None when there is none."""
    path = recorded_path(registered, preset)
    if path is None or not path.is_file():
        return None
    return read_result(path)
