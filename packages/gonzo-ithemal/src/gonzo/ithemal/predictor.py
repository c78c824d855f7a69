"""A trained model with all that it needs to predict: vocabulary, interval scales and a card.

On disk: `config.json` and `model.safetensors` of the model, and `predictor.json` for the rest.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gonzo.core.pretrained import Pretrained
from gonzo.ithemal.bag import LinearBag
from gonzo.ithemal.batch import EncodedBlocks, encode
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.graph import GraphThroughput
from gonzo.ithemal.lstm import Ithemal
from gonzo.ithemal.model import ThroughputModel
from gonzo.ithemal.tokens import Vocabulary
from gonzo.ithemal.training import estimate, index_of

__all__ = ["Prediction", "Predictor"]

COVERAGE = 0.9
MODELS = (GraphThroughput, Ithemal, LinearBag)
"""Loading looks a class up among those that are imported, so these are."""

SHIPPED = Path(__file__).parent / "weights"
"""Where the model that comes with the package is."""

_FILE = "predictor.json"
_LEAST = 0.01  # cycles: no block repeats a hundred times in a cycle


class Prediction(NamedTuple):
    """Cycles per repetition, with a 90 % interval; float64 arrays of shape (blocks,)."""

    cycles: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Predictor:
    """Predicts the cycles of blocks.

    Args:
        model: a trained model.
        vocabulary: the token numbers that it was trained with.
        card: what people should know: data, errors, date; anything that JSON can hold.
        scales: for each machine what the model's intervals are stretched by; see `calibrate`.

    Raises:
        ValueError: the model was made for a vocabulary of another size.
    """

    def __init__(
        self,
        model: ThroughputModel,
        vocabulary: Vocabulary,
        *,
        card: Mapping[str, Any] | None = None,
        scales: Mapping[str, float] | None = None,
    ) -> None:
        if model.arguments()["n_token"] != len(vocabulary):
            raise ValueError(
                f"a model of {model.arguments()['n_token']} tokens and a vocabulary of "
                f"{len(vocabulary)}; they do not belong together"
            )
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.card = dict(card or {})
        self.scales = dict.fromkeys(model.machines, 1.0) | dict(scales or {})

    @property
    def machines(self) -> tuple[str, ...]:
        """The machines whose cycles it can predict."""
        return self.model.machines

    def predict(self, blocks: Sequence[BasicBlock], *, machine: str | None = None) -> Prediction:
        """Predict the cycles of each block when it is repeated back to back.

        Args:
            blocks: any number of blocks.
            machine: one of `machines`; by default this computer's processor if it is one of them,
                otherwise the first, with a warning.

        Raises:
            ValueError: the model was not trained on that machine.
        """
        machine = self._machine(3) if machine is None else machine
        return self.predict_encoded(encode(blocks, self.vocabulary), machine=machine)

    def predict_encoded(self, encoded: EncodedBlocks, *, machine: str | None = None) -> Prediction:
        """Predict blocks that `encode` has taken through this predictor's vocabulary already."""
        machine = self._machine(3) if machine is None else machine
        cycles, low, high = (
            column.double().numpy() for column in estimate(self.model, encoded, machine=machine)
        )
        # Ratios are right even where a network without `positive` gives cycles below zero.
        below, above = low / cycles, high / cycles
        cycles = np.maximum(cycles, _LEAST)
        scale = self.scales[machine]
        return Prediction(cycles, cycles * below**scale, cycles * above**scale)

    def calibrate(
        self, encoded: EncodedBlocks, cycles: ArrayLike, *, machine: str | None = None
    ) -> float:
        """Stretch the intervals of a machine so that they hold 90 % of blocks never trained on.

        Split conformal prediction: the log ratio of truth and prediction is measured in units of
        the interval on its side; the 90 % quantile of that is the factor. Blocks like these are
        then covered with a probability of at least 90 %.

        Args:
            encoded: blocks that were in no training row.
            cycles: (blocks,) measured.
            machine: one of `machines`; by default the first.

        Returns:
            The factor, which is kept in `scales`.

        Raises:
            ValueError: there are fewer than 20 blocks, or not as many cycles.
        """
        machine = self.machines[0] if machine is None else machine
        truth = np.asarray(cycles, dtype=np.float64)
        if len(truth) < 20 or len(truth) != len(encoded):
            raise ValueError(
                f"calibrate: expected at least 20 blocks and their cycles, got {len(encoded)} "
                f"blocks and {len(truth)} cycles"
            )
        index_of(self.model, machine)
        self.scales[machine] = 1.0
        centre, low, high = self.predict_encoded(encoded, machine=machine)
        error = np.log(truth / centre)
        width = np.where(error < 0, np.log(centre / low), np.log(high / centre))
        scores = np.sort(np.abs(error) / np.maximum(width, 1e-6))
        rank = int(np.ceil((len(scores) + 1) * COVERAGE))
        self.scales[machine] = float(scores[min(rank, len(scores)) - 1])
        return self.scales[machine]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the predictor to a folder, which is made if it does not exist."""
        path = Path(folder)
        # Gone first and back last: loading what an interruption left says that it is missing.
        (path / _FILE).unlink(missing_ok=True)
        self.model.save_pretrained(path)
        content = {
            "format": 1,
            "vocabulary": self.vocabulary.to_json(),
            "scales": self.scales,
            "card": self.card,
        }
        handle, name = tempfile.mkstemp(prefix=f".{_FILE}.", suffix=".tmp", dir=path)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
        Path(name).chmod(0o644)
        Path(name).replace(path / _FILE)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what `save_pretrained` wrote. No code in the folder is run.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged or written by a newer version.
        """
        path = Path(folder)
        file = path / _FILE
        if not file.is_file():
            raise FileNotFoundError(
                f"{path} has no {_FILE}; expected a folder written by Predictor.save_pretrained"
            )
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is damaged: {error}") from None
        if not isinstance(content, dict) or content.get("format") != 1:
            raise ValueError(
                f"{file} is not of format 1, which this version reads; "
                "pip install --upgrade gonzo-ithemal"
            )
        missing = {"vocabulary", "scales", "card"} - content.keys()
        if missing:
            raise ValueError(f"{file} is damaged: it has no {max(missing)!r}")
        _check(file, content)
        model = Pretrained.from_pretrained(path)
        if not isinstance(model, ThroughputModel):
            raise ValueError(f"{path} holds a {type(model).__name__}, which predicts no cycles")
        vocabulary = Vocabulary.from_json(content["vocabulary"])
        return cls(model, vocabulary, card=content["card"], scales=content["scales"])

    @classmethod
    def shipped(cls) -> Self:
        """Load the model that comes with the package.

        Raises:
            FileNotFoundError: this build of the package has none.
        """
        return cls.from_pretrained(SHIPPED)

    def _machine(self, stacklevel: int) -> str:
        from gonzo.ithemal.measurement import cpu_model

        here = cpu_model()
        if here in self.machines:
            return here
        warnings.warn(
            f"this processor is {here!r}; the cycles are those of {self.machines[0]!r}, which the "
            "model was trained on. Measure blocks here and train on them, or name the machine",
            stacklevel=stacklevel,
        )
        return self.machines[0]


def _check(file: Path, content: Mapping[str, Any]) -> None:
    vocabulary, scales, card = (content[name] for name in ("vocabulary", "scales", "card"))
    numbers = isinstance(scales, dict) and all(
        isinstance(scale, int | float) for scale in scales.values()
    )
    if not (numbers and isinstance(vocabulary, str) and isinstance(card, dict)):
        raise ValueError(
            f"{file} is damaged: expected a vocabulary in a string, scales that are numbers by "
            "name and a card of names and values"
        )
