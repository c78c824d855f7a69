"""Random numbers that depend on a name and a seed, and on nothing that ran before."""

import hashlib
import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive_seed(seed: int, name: str) -> int:
    """Return a 63-bit seed for `name`, statistically independent of every other name's."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the global generator is what recipes may use
    torch.manual_seed(seed)


def rng_state(device: torch.device) -> dict[str, Any]:
    """Return the state of every global generator as tensors and numbers.

    Nothing but tensors, numbers and strings, so that `torch.load(weights_only=True)` reads it.
    """
    version, words, gauss = random.getstate()
    numpy: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    words_of_numpy = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    state: dict[str, Any] = {
        "python": (version, torch.tensor(words), gauss),
        "numpy": {**numpy, "state": {**numpy["state"], "key": words_of_numpy}},
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: dict[str, Any], device: torch.device) -> None:
    """Put every global generator back to where `rng_state` found it."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    numpy = state["numpy"]
    words_of_numpy = numpy["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002
        {**numpy, "state": {**numpy["state"], "key": words_of_numpy}}
    )
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def own_generators(seed: int, device: torch.device) -> Generator[None]:
    """Seed every global generator for a block and put all of them back after it."""
    outer = rng_state(device)
    seed_everything(seed)
    try:
        yield
    finally:
        set_rng_state(outer, device)
