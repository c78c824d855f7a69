"""Parts of a data set that share no key: at random, by token sequence, by application."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from gonzo.ithemal.batch import EncodedBlocks

__all__ = ["split", "unseen"]


def split(
    keys: Sequence[Hashable], shares: Sequence[float] = (0.8, 0.1, 0.1), *, seed: int = 0
) -> list[NDArray[np.int64]]:
    """Divide rows so that rows with equal keys stay together.

    Keys decide what a test means. `range(n)`: every row for itself, a random split, in which some
    test blocks have the token sequence of a training block. `[encoded.signature(i) for i …]`: no
    token sequence of the test part occurs in training. Names of applications: new programs.

    Args:
        keys: (n,) one for each row.
        shares: how much of the rows each part should get; groups are dealt in random order, each to
            the part that lacks most, so large groups make the shares approximate.
        seed: of the random order.

    Returns:
        For each share the rows of its part, sorted.

    Raises:
        ValueError: shares are not positive numbers with the sum 1.
    """
    if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"expected positive shares with the sum 1, got {tuple(shares)}")
    groups: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    members = list(groups.values())
    lacking = [share * len(keys) for share in shares]
    parts: list[list[int]] = [[] for _ in shares]
    for index in np.random.default_rng(seed).permutation(len(members)):
        part = max(range(len(shares)), key=lacking.__getitem__)
        parts[part] += members[index]
        lacking[part] -= len(members[index])
    return [np.array(sorted(part), dtype=np.int64) for part in parts]


def unseen(encoded: EncodedBlocks, train: Sequence[int], test: Sequence[int]) -> NDArray[np.bool_]:
    """Return which test rows have a token sequence that no training row has, (test,)."""
    known = {encoded.signature(row) for row in train}
    return np.array([encoded.signature(row) not in known for row in test], dtype=bool)
