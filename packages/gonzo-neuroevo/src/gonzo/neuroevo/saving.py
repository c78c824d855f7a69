"""A run of NEAT in one file, which is written whole or not at all, and read without running it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from .config import Choice, NEATConfig, Number
from .export.whole_file import write_whole
from .genome import Genome, NodeGene
from .neat import NEAT
from .phenotypes import Networks
from .population import Population

_FORMAT = "gonzo-neat-run"
_VERSION = 1
_DIGEST = 32


def save_run(neat: NEAT, path: str | Path) -> None:
    """Write the state of a run, atomically: an interruption leaves the old file."""
    state = {
        "format": _FORMAT,
        "version": _VERSION,
        "inputs": neat.population.inputs,
        "outputs": neat.population.outputs,
        "phenotype": repr(neat.phenotype),
        "state": neat.state_dict(),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    # torch does not check the contents of its archives.
    write_whole(Path(path), payload + hashlib.sha256(payload).digest())


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
        ValueError: it is damaged, or something else, or the phenotype is another one.
    """
    path = Path(path)
    saved = _read(path)
    state = saved["state"]
    inputs, outputs = saved["inputs"], saved["outputs"]
    neat = NEAT(
        inputs,
        outputs,
        _config(state["config"]),
        seed=state["seed"],
        device=device,
        dtype=state["population"]["weight"].dtype,
        phenotype=phenotype,
        # Any small one: its first generation is replaced at once.
        ancestor=Genome(inputs, outputs, tuple(NodeGene(key) for key in range(outputs))),
    )
    if repr(neat.phenotype) != saved["phenotype"] and " at 0x" not in saved["phenotype"]:
        raise ValueError(
            f"{path} was saved with the phenotype {saved['phenotype']}, got {neat.phenotype!r}; "
            "load_run(path, phenotype=…) takes the one that it was saved with"
        )
    neat.load_state_dict(state)
    return neat


def saved_generation(path: Path) -> int:
    """The generation that a file of `save_run` goes on with."""
    return _read(path)["state"]["generation"]


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    payload, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError(
            f"{path} cannot be read as a run of NEAT: it is damaged, or was not written by save_run"
        )
    saved = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if not isinstance(saved, dict) or saved.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a run of NEAT; save_run writes one")
    if saved["version"] != _VERSION:
        raise ValueError(
            f"{path} is of version {saved['version']}, this package reads version {_VERSION}: "
            "read it with the release that wrote it"
        )
    return saved


def _config(saved: dict[str, Any]) -> NEATConfig:
    values: dict[str, Any] = {}
    for field in fields(NEATConfig):
        value = saved[field.name]
        if isinstance(value, dict):
            value = Choice(**value) if "options" in value else Number(**value)
        values[field.name] = value
    return NEATConfig(**values)
