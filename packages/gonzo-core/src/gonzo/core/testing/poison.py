"""Fill memory that is allocated but not initialised with NaN: an unwritten element shows."""

import contextlib
import warnings
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch
from numpy import ma  # noqa: F401  (what it wraps at its first import, it keeps)

__all__ = ["poisoned_allocations"]


@contextlib.contextmanager
def poisoned_allocations() -> Generator[None]:
    """Make every uninitialised allocation of torch and NumPy NaN (the largest integer) inside.

    Covers ``torch.empty`` and its relatives wherever they are called from, C++ included, through
    torch's own switch for it, and ``numpy.empty`` and ``empty_like`` called as attributes of
    ``numpy`` from Python. Arrays that a compiled Numba function allocates itself are not covered.
    """
    # A module of properties, which no type checker can see through.
    switch: Any = torch.utils.deterministic
    numpy: Any = np
    fill = switch.fill_uninitialized_memory
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    empty, empty_like = np.empty, np.empty_like
    try:
        # The switch works only beside deterministic algorithms, which not every GPU op has.
        torch.use_deterministic_algorithms(True, warn_only=True)
        switch.fill_uninitialized_memory = True
        numpy.empty, numpy.empty_like = _Poisoning(empty), _Poisoning(empty_like)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        numpy.empty, numpy.empty_like = empty, empty_like
        switch.fill_uninitialized_memory = fill
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


class _Poisoning:
    """`allocate`, poisoned. Numba, compiling a kernel meanwhile, takes it for the original."""

    def __init__(self, allocate: Callable[..., np.ndarray]) -> None:
        self.allocate = allocate

    def __call__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        array = self.allocate(*args, **kwargs)
        if array.dtype.kind in "fc":
            array.fill(np.nan)
        elif array.dtype.kind in "iu":
            array.fill(np.iinfo(array.dtype).max)
        return array

    # Numba finds the functions it knows in a dictionary, which it may first fill while they are
    # poisoned: then the key of a later poisoning must equal that of the earlier one.
    def __eq__(self, other: object) -> bool:
        return self.allocate is (other.allocate if isinstance(other, _Poisoning) else other)

    def __hash__(self) -> int:
        return hash(self.allocate)
