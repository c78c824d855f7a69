"""The files of a lottery run: each whole or absent, the same bytes for the same run.

::

    config.json                  what the run is; another configuration is refused
    plan.txt                     what is pruned and what is not, for people
    drawn.safetensors            the network as it was drawn
    rewind.safetensors           the network at step k, where tickets are reset to that
    rewind-training.pt           the optimizers' states and the data's order there, where needed
    dense-scores.safetensors     the criterion's scores of the trained dense network
    masks/03.safetensors         the masks of round 3
    trained/03.safetensors       the trained network of round 3, where it is kept
    trials/ticket-03.json        what was recorded; it is there once the trial is finished
    unfinished/ticket-03.pt      where an interrupted training goes on

Optimizers' states and unfinished trainings are read by ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .atomic_file import replacing
from .masks import Masks
from .trials import Trial, trial_name

__all__ = ["RunDirectory", "model_state", "starting_file"]

_FOLDERS = ("masks", "trained", "trials", "unfinished")


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers, on the CPU, each with memory of its own.

    Raises:
        ValueError: The state has something that is no tensor.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"expected a state of tensors, got {type(tensor).__name__} under {name!r}; "
                "modules with extra state are not supported"
            )
        state[name] = tensor.detach().to("cpu", copy=True).contiguous()
    return state


def starting_file(number: int, rewind_to: int, after_pruning: str) -> str:
    """Return where the network lies, unmasked, from which a round trains."""
    if number and after_pruning == "keep":
        return f"trained/{number - 1:02}"
    return "rewind" if number and rewind_to else "drawn"


class RunDirectory:
    """Reads and writes the files that the module describes.

    Args:
        path: The folder; made when something is first written.

    Raises:
        TypeError: ``path`` is no path.
        ValueError: It is empty, a file, or lies under one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"expected the folder of a run as a path, got {path!r}")
        if not os.fspath(path):
            raise ValueError("expected the folder of a run, got an empty path; '.' is this folder")
        self.path = Path(path)
        for place in (self.path, *self.path.parents):
            if place.exists() and not place.is_dir():
                raise ValueError(f"expected the folder of a run, got {path}; {place} is a file")

    def config(self) -> dict[str, Any] | None:
        """The configuration, or None where no run has begun."""
        path = self.path / "config.json"
        config = self._json(path)
        if config is not None and not (
            isinstance(config, dict) and {"format", "parameters", "made_by"} <= config.keys()
        ):
            raise ValueError(f"{path} is not one of this package; name another folder")
        return config

    def has(self, name: str) -> bool:
        """Whether ``name.safetensors`` is there."""
        return (self.path / f"{name}.safetensors").is_file()

    def begin(self, config: Mapping[str, Any], plan: str, drawn: Mapping[str, Tensor]) -> None:
        """Begin a run; the configuration comes last, so a run that has one has all three."""
        self.write_tensors("drawn", drawn)
        self._write(self.path / "plan.txt", (plan + "\n").encode())
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        self._write(self.path / "config.json", text.encode())

    def trial(self, name: str) -> Trial | None:
        """A finished trial, or None."""
        path = self.path / "trials" / f"{name}.json"
        if not path.exists():
            return None
        try:
            return Trial.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); delete it to train again") from None

    def write_trial(self, trial: Trial) -> None:
        """Finish a trial: its unfinished state goes."""
        self._write(self.path / "trials" / f"{trial.name}.json", trial.to_json().encode())
        self._forget(trial.name)

    def masks(self, number: int) -> Masks:
        """The masks of a round from 1."""
        path = self.path / "masks" / f"{number:02}.safetensors"
        if not path.exists():
            raise ValueError(
                f"there are no masks of round {number}: {path} is not there yet; "
                + self._remedy(f"masks/{number:02}")
            )
        try:
            return Masks.load(path)
        except ValueError as error:
            raise ValueError(f"{error}; {self._remedy(f'masks/{number:02}')}") from None

    def write_masks(self, number: int, masks: Masks) -> None:
        """Keep the masks of a round."""
        path = self.path / "masks" / f"{number:02}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        masks.to("cpu").save(path)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of ``name.safetensors``."""
        path = self.path / f"{name}.safetensors"
        if not path.exists():
            raise ValueError(
                f"{path} is not there; was it kept, and is its training finished? "
                f"If it was lost, {self._remedy(name)}"
            )
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}; {self._remedy(name)}") from None

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write ``name.safetensors``."""
        path = self.path / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(dict(tensors), temporary)

    @property
    def rewind_training(self) -> Path:
        """The file of the optimizers' states and of the data's order at the rewind point."""
        return self.path / "rewind-training.pt"

    def rewound(self) -> bytes:
        """The bytes of `rewind_training`, known to be whole."""
        content = self.state(self.rewind_training)
        if content is None:
            raise ValueError(f"{self.rewind_training} is not there; {self._remedy('rewind')}")
        return content

    def unfinished(self, name: str) -> Path:
        """The file where the training of a trial goes on."""
        return self.path / "unfinished" / f"{name}.pt"

    def state(self, path: Path) -> bytes | None:
        """The bytes that `write_state` wrote to ``path``, known to be whole, or None."""
        if not path.exists():
            return None
        content = path.read_bytes()
        try:
            torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # a zip, a pickle or a tensor may be what is damaged
            what = "it to start again"
            if path == self.rewind_training:
                what = f"{self.path / 'trials' / 'ticket-00.json'} to train it again"
            raise ValueError(f"{path} is damaged ({error}); delete {what}") from None
        return content

    def write_state(self, path: Path, state: Any) -> None:
        """Write nested dicts and lists of tensors and numbers."""
        buffer = io.BytesIO()  # a file's own name would become part of what is written
        torch.save(state, buffer)
        self._write(path, buffer.getvalue())

    def strangers(self, own: set[str]) -> list[str]:
        """Names in the folder other than ``own`` and their half-written versions."""
        if not self.path.is_dir():
            return []
        names = sorted(path.name for path in self.path.iterdir())
        half = tuple(f".{name}." for name in (*own, "config.json"))
        return [
            n for n in names if n not in own and not (n.startswith(half) and n.endswith(".tmp"))
        ]

    def sweep(self) -> None:
        """Remove what a killed process left of this run, half written or done with; no more."""
        for folder in (self.path, *(self.path / name for name in _FOLDERS)):
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)
        for path in (self.path / "trials").glob("*.json"):
            self._forget(path.stem)

    def _forget(self, name: str) -> None:
        """Remove the unfinished state of a finished trial, and the folder after the last."""
        path = self.unfinished(name)
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()

    def _remedy(self, name: str) -> str:
        """How ``name.safetensors`` is made again."""
        if name == "drawn":
            return f"delete {self.path / 'drawn.safetensors'} and run again, which draws it again"
        kind, _, number = name.partition("/")
        maker = int(number or 0) - (kind == "masks")
        path = self.path / "trials" / f"{trial_name('ticket', maker, 0)}.json"
        return f"delete {path} and run again: that training writes it"

    def _json(self, path: Path) -> dict[str, Any] | None:
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); use another folder") from None

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
