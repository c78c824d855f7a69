"""From a recipe, a config and a few settings to a finished result on disk."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from gonzo.lab import machine
from gonzo.lab.atomic import write_json
from gonzo.lab.checkout import package_folder
from gonzo.lab.errors import LabError
from gonzo.lab.overview import read_result
from gonzo.lab.registry import Registered
from gonzo.lab.run import Run

RUNS = Path("runs")


@dataclass(frozen=True)
class Settings:
    """How to run, which is the same for every recipe.

    Args:
        seed: Where all random numbers come from.
        device: cpu, cuda, cuda:1, …; auto is cuda where there is one.
        threads: CPU threads of torch; 0 leaves it to torch.
        data_dir: Folder to look for data sets first.
        fresh: Discard what an earlier run left in the directory.
        checkpoint_seconds: Time between checkpoints.
    """

    seed: int = 0
    device: str = "auto"
    threads: int = 0
    data_dir: Path | None = None
    fresh: bool = False
    checkpoint_seconds: float = 10.0


def changed_fields(config: Any, preset: Any) -> dict[str, Any]:
    """Return the fields of `config` that differ from the preset's, nested ones as `a.b`."""
    theirs = dict(_fields(preset))
    return {name: value for name, value in _fields(config) if theirs[name] != value}


def default_directory(name: str, preset: str, changes: Mapping[str, Any], seed: int) -> Path:
    """Return `runs/<recipe>.<preset>`, with a short hash after it when anything was changed."""
    what = {**changes, **({"--seed": seed} if seed else {})}
    if not what:
        return RUNS / f"{name}.{preset}"
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return RUNS / f"{name}.{preset}-{digest[:8]}"


def execute(
    registered: Registered, preset: str, config: Any, settings: Settings, directory: Path
) -> dict[str, Any]:
    """Run a recipe, or go on with it, and return its result; a finished one is only read.

    The result is JSON: the final metrics with targets and verdict, and all it takes to judge
    them (config, seed, device, versions, commit, wall-clock time over all restarts). It is
    also `result.json` in the directory.

    Raises:
        LabError: the directory or a data set cannot be used.
        ValueError: `main` did not return the metrics that the recipe names.
        KeyboardInterrupt: Ctrl-C; the same call continues.
    """
    device = machine.choose_device(settings.device)
    if settings.data_dir is not None and not settings.data_dir.is_dir():
        raise LabError(f"--data-dir: {settings.data_dir} is not a folder.")
    if settings.threads < 0:
        raise LabError(f"--threads: expected 0 or more, got {settings.threads}.")
    chosen = registered.preset(preset)
    plain_config = dataclasses.asdict(config)
    with Run(
        directory,
        identity={"recipe": registered.name, "preset": preset, "config": plain_config},
        seed=settings.seed,
        device=device,
        threads=settings.threads or None,
        data_dir=settings.data_dir,
        fresh=settings.fresh,
        checkpoint_seconds=settings.checkpoint_seconds,
    ) as run:
        finished = directory / "result.json"
        if finished.exists():
            return read_result(finished)
        metrics = dict(registered.main(config, run))
        missing = [name for name in registered.recipe.metrics if name not in metrics]
        if missing:
            raise ValueError(
                f"{registered.name}: main returned {sorted(metrics)}, without {missing}"
            )
        result = {
            "format": 1,
            "recipe": registered.name,
            "preset": preset,
            "claim": registered.recipe.claim,
            "metrics": {
                # JSON has no NaN; a number that is not finite is written as null.
                name: float(value) if math.isfinite(value) else None
                for name, value in metrics.items()
            },
            "paper": {
                "citation": registered.recipe.paper.citation,
                "where": registered.recipe.paper.where,
                "metrics": {name: m.paper for name, m in registered.recipe.metrics.items()},
            },
            "targets": [str(target) for target in chosen.targets],
            "verdict": str(chosen.verdict(metrics)),
            "reduced": list(chosen.reduced),
            "changed": changed_fields(config, chosen.config),
            "config": plain_config,
            "seed": settings.seed,
            "wall_seconds": round(run.seconds, 2),
            "device": machine.device_name(device),
            "threads": torch.get_num_threads(),
            "versions": machine.versions(),
            "commit": machine.commit(package_folder(registered.source)),
            "finished": datetime.now(UTC).date().isoformat(),
        }
        write_json(finished, result)
        return read_result(finished)


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value
