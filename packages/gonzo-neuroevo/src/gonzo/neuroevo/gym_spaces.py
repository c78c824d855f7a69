"""Between networks and Gymnasium's spaces: observations to inputs, outputs to actions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gonzo.core import require

_EXTRA = "gonzo-neuroevo[gym]"


class Encoder(Protocol):
    """Makes an observation the inputs of a network."""

    @property
    def inputs(self) -> int:
        """Numbers in an observation."""
        ...

    def __call__(self, observation: Any) -> NDArray:
        """The inputs (inputs,)."""
        ...


class Decoder(Protocol):
    """Makes outputs of networks actions."""

    @property
    def outputs(self) -> int:
        """Numbers that an action is made of."""
        ...

    def __call__(self, y: NDArray[np.floating]) -> list[Any]:
        """Outputs (n, outputs) → n actions of the space."""
        ...


@dataclass(frozen=True)
class FromVector:
    """A `Box` of one dimension is the inputs."""

    inputs: int

    def __call__(self, observation: Any) -> NDArray:
        """The inputs (inputs,)."""
        return observation


@dataclass(frozen=True)
class FromArray:
    """A `Box` of any shape, flattened in C order."""

    inputs: int

    def __call__(self, observation: Any) -> NDArray:
        """The inputs (inputs,)."""
        return np.asarray(observation).reshape(-1)


@dataclass(frozen=True)
class FromChoice:
    """A `Discrete` observation, one-hot."""

    inputs: int
    start: int

    def __call__(self, observation: Any) -> NDArray:
        """The inputs (inputs,)."""
        row = np.zeros(self.inputs)
        row[int(observation) - self.start] = 1.0
        return row


@dataclass(frozen=True)
class Largest:
    """A `Discrete` action: the largest output, the first of equals."""

    outputs: int
    start: int

    def __call__(self, y: NDArray[np.floating]) -> list[np.int64]:
        """So many integers, of the type that the space checks fastest."""
        return list(y.argmax(1) + self.start)


@dataclass(frozen=True)
class Positive:
    """One of two actions: the second where the only output is above 0."""

    start: int
    outputs: int = 1

    def __call__(self, y: NDArray[np.floating]) -> list[np.int64]:
        """So many integers."""
        return list((y[:, 0] > 0) + np.int64(self.start))


@dataclass(frozen=True)
class Bits:
    """A `MultiBinary` action: 1 where its output is above 0."""

    shape: tuple[int, ...]

    @property
    def outputs(self) -> int:
        """One for each bit."""
        return math.prod(self.shape)

    def __call__(self, y: NDArray[np.floating]) -> list[NDArray[np.int8]]:
        """So many arrays of the space's shape."""
        return list((y > 0).astype(np.int8).reshape(-1, *self.shape))


class Continuous:
    """A `Box` action: -1 … 1 spans the bounds, and an unbounded dimension is the output itself."""

    def __init__(self, low: NDArray, high: NDArray) -> None:
        self._low, self._high = low.reshape(-1), high.reshape(-1)
        self._shape, self._dtype = low.shape, low.dtype
        self._bounded = np.isfinite(self._low) & np.isfinite(self._high)
        some_low = np.where(self._bounded, self._low, 0.0).astype(np.float64)
        some_high = np.where(self._bounded, self._high, 0.0).astype(np.float64)
        self._middle, self._half = (some_low + some_high) / 2, (some_high - some_low) / 2
        self.outputs = self._low.size

    def __call__(self, y: NDArray[np.floating]) -> list[NDArray]:
        """So many arrays of the space's shape and dtype."""
        wide = y.astype(np.float64)
        action = np.where(self._bounded, self._middle + self._half * wide, wide).astype(self._dtype)
        return list(np.clip(action, self._low, self._high).reshape(-1, *self._shape))


def observation_encoder(space: Any, name: str) -> Encoder:
    """How observations of a space become inputs.

    Raises:
        ValueError: neither a `Box` nor `Discrete`.
    """
    spaces = require("gymnasium.spaces", extra=_EXTRA)
    if isinstance(space, spaces.Box):
        size = math.prod(space.shape)
        return FromVector(size) if len(space.shape) == 1 else FromArray(size)
    if isinstance(space, spaces.Discrete):
        return FromChoice(int(space.n), int(space.start))
    raise ValueError(
        f"{name}: expected observations in a Box or Discrete space, got {space}; "
        "gymnasium.wrappers.FlattenObservation makes a Box of most others"
    )


def decoder(space: Any, outputs: int | None, name: str) -> Decoder:
    """How outputs become actions of a space.

    Args:
        space: of the actions.
        outputs: of the networks; None for what the space asks for.
        name: of the environment, for errors.

    Raises:
        ValueError: another space than `Discrete`, floating `Box` and `MultiBinary`, or a number of
            outputs that cannot be made an action.
    """
    spaces = require("gymnasium.spaces", extra=_EXTRA)
    if isinstance(space, spaces.Discrete):
        if outputs == 1 and space.n == 2:
            return Positive(int(space.start))
        found: Decoder = Largest(int(space.n), int(space.start))
    elif isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        found = Continuous(space.low, space.high)
    elif isinstance(space, spaces.MultiBinary):
        found = Bits(tuple(int(n) for n in space.shape))
    else:
        raise ValueError(
            f"{name}: expected actions in a Discrete, MultiBinary or floating Box space, got "
            f"{space}; wrap the environment in a gymnasium.ActionWrapper that offers one of them"
        )
    if outputs not in (None, found.outputs):
        or_one = ", or 1" if isinstance(found, Largest) and found.outputs == 2 else ""
        raise ValueError(
            f"{name}: expected {found.outputs} outputs{or_one} for actions in {space}, got "
            f"{outputs}"
        )
    return found
