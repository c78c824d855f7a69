"""The seed of an episode, from nothing but integers that name it.

A seed depends on the run's seed, the generation, the genome's id and the episode's number, and not
on who evaluates it, where, or in which order. Each integer in turn is mixed into a 64-bit state by
the finaliser of SplitMix64, ``state ← mix((state ⊕ word) + γ)``, a bijection of either argument.

Source:
    Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators (2014), figure 16.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WORD = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_DOMAINS = (0x747261696E, 0x68656C642D6F7574)  # "train" and "held-out" in ASCII
_SEED_BITS = 31


def splitmix64(state: int) -> int:
    """The output of SplitMix64 at a state: 64 bits, a bijection of the state."""
    z = state & _WORD
    z = ((z ^ (z >> 30)) * _FACTORS[0]) & _WORD
    z = ((z ^ (z >> 27)) * _FACTORS[1]) & _WORD
    return z ^ (z >> 31)


def _mixed(words: Sequence[int]) -> int:
    state = 0
    for word in words:
        state = splitmix64(((state ^ word) + _GAMMA) & _WORD)
    return state


def _checked(name: str, value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None
    if not 0 <= number <= _WORD:
        raise ValueError(f"{name}: expected an integer in 0 … 2^64 - 1, got {number}")
    return number


def episode_seed(
    run_seed: int, generation: int, genome_id: int, episode: int, *, held_out: bool = False
) -> int:
    """The seed of one episode of one genome, in 0 … 2³¹ - 1.

    Held-out seeds are odd and training seeds are even, so none is ever both; and the two are
    hashed apart, so that one tells nothing of the other.

    Args:
        run_seed: of the run.
        generation: of the run, from 0.
        genome_id: of the genome.
        episode: number of the episode, from 0.
        held_out: whether it serves to judge a champion and never to select.

    Raises:
        TypeError: not an integer.
        ValueError: outside 0 … 2⁶⁴ - 1.
    """
    named = {
        "run_seed": run_seed,
        "generation": generation,
        "genome_id": genome_id,
        "episode": episode,
    }
    words = [_checked(name, value) for name, value in named.items()]
    state = _mixed([_DOMAINS[bool(held_out)], *words])
    return state >> (64 - _SEED_BITS + 1) << 1 | bool(held_out)


def episode_seeds(
    run_seed: int,
    generation: int,
    genome_ids: NDArray[np.integer],
    episodes: int,
    *,
    held_out: bool = False,
) -> NDArray[np.int64]:
    """`episode_seed` of many genomes and of the episodes 0 … episodes - 1.

    Args:
        run_seed: of the run.
        generation: of the run, from 0.
        genome_ids: (P,) ids, 0 or more.
        episodes: how many for each genome.
        held_out: as in `episode_seed`.

    Returns:
        (P, episodes) seeds.
    """
    words = [_checked("run_seed", run_seed), _checked("generation", generation)]
    if len(genome_ids) and int(np.min(genome_ids)) < 0:
        raise ValueError(f"genome_id: expected 0 or more, got {int(np.min(genome_ids))}")
    state = np.array([_mixed([_DOMAINS[bool(held_out)], *words])], dtype=np.uint64)[:, None]
    for word in (
        np.asarray(genome_ids).astype(np.uint64)[:, None],
        np.arange(episodes, dtype=np.uint64)[None, :],
    ):
        state = (state ^ word) + np.uint64(_GAMMA)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(_FACTORS[0])
        state = (state ^ (state >> np.uint64(27))) * np.uint64(_FACTORS[1])
        state = state ^ (state >> np.uint64(31))
    seeds = state >> np.uint64(64 - _SEED_BITS + 1) << np.uint64(1) | np.uint64(bool(held_out))
    return seeds.astype(np.int64)


@dataclass(frozen=True)
class Episodes:
    """Whose episodes a call evaluates: genome by genome, what their seeds depend on.

    Args:
        run_seed: of the run.
        generation: of the run, from 0.
        ids: the genomes' ids, in the order of the networks; each 0 or more.
        held_out: whether these episodes judge a champion and never select.

    Raises:
        TypeError: something is not an integer.
        ValueError: a negative or too large integer.
    """

    run_seed: int
    generation: int
    ids: tuple[int, ...]
    held_out: bool = False

    def __post_init__(self) -> None:
        for name in ("run_seed", "generation"):
            object.__setattr__(self, name, _checked(name, getattr(self, name)))
        ids = np.asarray(self.ids).tolist()  # of a tensor or an array too
        object.__setattr__(self, "ids", tuple(_checked("genome id", i) for i in ids))

    def __len__(self) -> int:
        return len(self.ids)

    def seed(self, row: int, episode: int) -> int:
        """The seed of one episode of the genome in a row."""
        return episode_seed(
            self.run_seed, self.generation, self.ids[row], episode, held_out=self.held_out
        )

    def seeds(self, episodes: int) -> NDArray[np.int64]:
        """The seeds of the first so many episodes of every genome: (P, episodes)."""
        ids = np.array(self.ids, dtype=np.uint64)
        return episode_seeds(self.run_seed, self.generation, ids, episodes, held_out=self.held_out)

    def select(self, rows: Sequence[int]) -> Episodes:
        """Those of some genomes, by position."""
        ids = tuple(self.ids[row] for row in rows)
        return Episodes(self.run_seed, self.generation, ids, held_out=self.held_out)
