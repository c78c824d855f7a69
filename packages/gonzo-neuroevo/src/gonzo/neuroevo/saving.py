"""A run of NEAT in one file, which is written whole or not at all, and read without running it."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from .config import Choice, NEATConfig, Number
from .export.whole_file import write_whole
from .neat import NEAT
from .networks import Networks
from .population import Population

_FORMAT = "gonzo-neat-run"
_VERSION = 1


def save_run(neat: NEAT, path: str | Path) -> None:
    """Write the state of a run, atomically: an interruption leaves the old file."""
    state = {
        "format": _FORMAT,
        "version": _VERSION,
        "inputs": neat.population.inputs,
        "outputs": neat.population.outputs,
        "state": neat.state_dict(),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(Path(path), buffer.getvalue())


def load_run(
    path: str | Path,
    *,
    device: torch.device | str = "cpu",
    phenotype: Callable[[Population], Networks] | None = None,
) -> NEAT:
    """Read what `save_run` wrote; the run goes on to the same numbers.

    Nothing in the file is executed: it holds tensors, numbers and strings.

    Args:
        path: the file.
        device: of the genomes; the same kind as before, where the numbers are to be the same.
        phenotype: as it was given to `NEAT`; functions are not saved.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or something else.
    """
    path = Path(path)
    content = path.read_bytes()
    try:
        saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read as a run of NEAT: it is damaged, or something else "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None
    if not isinstance(saved, dict) or saved.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a run of NEAT; save_run writes one")
    if saved["version"] != _VERSION:
        raise ValueError(
            f"{path} is of version {saved['version']}, this package reads version {_VERSION}: "
            "read it with the release that wrote it"
        )
    state = saved["state"]
    tensors = state["population"]
    neat = NEAT(
        saved["inputs"],
        saved["outputs"],
        _config(state["config"]),
        seed=state["seed"],
        device=device,
        dtype=tensors["weight"].dtype,
        phenotype=phenotype,
    )
    neat.load_state_dict(state)
    return neat


def _config(saved: dict[str, Any]) -> NEATConfig:
    values: dict[str, Any] = {}
    for field in fields(NEATConfig):
        value = saved[field.name]
        if isinstance(value, dict):
            value = Choice(**value) if "options" in value else Number(**value)
        values[field.name] = value
    return NEATConfig(**values)
