"""A run's directory: whose it is, what lies where, and when it must not be touched.

run.json              what the run is: recipe, preset, seed, device, config (its identity)
loops/<name>.pt       the checkpoint of each loop
metrics/<name>.jsonl  what each loop logged
values.json           what `Run.once` remembers
figures/<name>.svg    what `Run.figure` drew; what `Run.image` was given, also .png and .gif
progress.json         how far it is and the wall-clock time it took so far
result.json           the final numbers; there when the run has finished
lock                  held by the process that works here
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gonzo.lab.atomic import read_json, write_json
from gonzo.lab.errors import LabError
from gonzo.lab.lock import DirectoryLock

WAY_OUT = "Start over with --fresh, or choose another directory with --run-dir."

IMAGES = {"svg": "image/svg+xml", "png": "image/png", "gif": "image/gif"}
"""Kinds of pictures in a run, and their media types."""

_FORMAT = 1
_CONTENTS = (
    "loops",
    "metrics",
    "figures",
    "tensorboard",
    "values.json",
    "progress.json",
    "result.json",
)


class RunDirectory:
    """An opened and locked run directory.

    Args:
        path: made when it does not exist.
        identity: what the run is, as JSON: an existing directory must hold the same.
        notes: facts of the first start that a restart wants to know (JSON).
        fresh: discard what an earlier run left here.

    Raises:
        LabError: another process works here, the directory belongs to something else or to a
            run of another identity, or its files are damaged. Nothing in it was changed then.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        notes: Mapping[str, Any],
        *,
        fresh: bool = False,
    ) -> None:
        self.path = path
        _require_ours(path)
        self._lock = DirectoryLock(path)
        try:
            self.notes = self._open(_plain(identity), _plain(notes), fresh)
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let other processes in."""
        self._lock.release()

    def _open(self, identity: dict[str, Any], notes: dict[str, Any], fresh: bool) -> dict[str, Any]:
        marker = self.path / "run.json"
        if marker.exists():
            if not fresh:
                found = read_json(marker, way_out=WAY_OUT)
                if not found.get("discarded"):
                    _require_same(self.path, found, identity)
                    self._remove_temporary_files()
                    return found["notes"]
            # Said before anything is deleted: killed half-way, the next start goes on deleting.
            write_json(marker, {"format": _FORMAT, "discarded": True})
            self._remove_contents()
        self._remove_temporary_files()
        write_json(marker, {"format": _FORMAT, "identity": identity, "notes": notes})
        return notes

    def _remove_contents(self) -> None:
        for name in _CONTENTS:
            entry = self.path / name
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)

    def _remove_temporary_files(self) -> None:
        for left_behind in self.path.rglob(".*.tmp"):
            left_behind.unlink(missing_ok=True)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    # Through JSON and back, so that what is compared is what a file can hold (tuples are lists).
    return json.loads(json.dumps(dict(value)))


def _require_ours(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise LabError(f"{path} cannot be used as a run directory: {error}.") from error
    foreign = {n for n in names if n != "lock" and not (n.startswith(".") and n.endswith(".tmp"))}
    if foreign and "run.json" not in names:
        raise LabError(
            f"{path} is not empty and not a run (it has no run.json, but {min(foreign)}). "
            "Choose another directory with --run-dir, or remove it by hand."
        )


def _require_same(path: Path, found: dict[str, Any], identity: dict[str, Any]) -> None:
    if found.get("format") != _FORMAT or not {"identity", "notes"} <= found.keys():
        raise LabError(f"{path / 'run.json'} is of an unknown format. {WAY_OUT}")
    there, here = dict(_flat(found["identity"])), dict(_flat(identity))
    differences = [
        f"{name.removeprefix('config.')} is {there.get(name, 'not set')!r} there "
        f"and {here.get(name, 'not set')!r} here"
        for name in dict.fromkeys([*there, *here])
        if there.get(name) != here.get(name)
    ]
    if differences:
        raise LabError(f"{path} holds another run: {'; '.join(differences)}. {WAY_OUT}")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
