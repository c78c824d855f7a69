"""Episodes of many genomes, stepped together: the networks in one batch, the worlds in turn.

Each (genome, episode) has an environment of its own, reset with its own seed. The environments are
stepped one after the other in this process: for cheap ones that is many times faster than a process
for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .gym_spaces import Decoder, Encoder
from .phenotypes import Networks

_DROP_BELOW = 0.5
"""Networks of finished genomes are dropped when fewer than this share of them is needed."""

_Live = tuple[int, int, Any]
"""A running episode: its position in the arrays of a step, its number, and its `step`."""


class EpisodeError(RuntimeError):
    """An environment failed; the message says which, and for which genome, episode and seed."""


class Lockstep:
    """Episodes (P, E) of P genomes.

    Args:
        name: of the environments, for errors.
        envs: P·E of them, genome by genome.
        encode: makes an observation inputs.
        decode: makes outputs actions.
        max_steps: end of an episode; None where the environment alone decides.
        ids: (P,) of the genomes, for errors.
        seeds: (P, E) to reset with.
    """

    def __init__(
        self,
        name: str,
        envs: list[Any],
        encode: Encoder,
        decode: Decoder,
        max_steps: int | None,
        ids: Sequence[int],
        seeds: list[list[int]],
    ) -> None:
        self._name = name
        self._envs = envs
        self._encode = encode
        self._decode = decode
        self._max_steps = math.inf if max_steps is None else max_steps
        self._ids = ids
        self._count = len(seeds[0])
        self._seeds = [seed for row in seeds for seed in row]
        self._returns = [0.0] * len(envs)

    def returns(self, nets: Networks) -> NDArray[np.float64]:
        """Run the episodes with P networks; their returns (P, E).

        Raises:
            EpisodeError: an environment raised, or gave an observation or reward that is no number.
        """
        for _ in self.steps(nets):
            pass
        return np.array(self._returns).reshape(-1, self._count)

    def steps(self, nets: Networks) -> Iterator[None]:
        """Run the episodes, stopping before the first step and after each."""
        count, inputs = self._count, self._encode.inputs
        device = nets.weight.device
        x = torch.zeros(len(nets), count, inputs, dtype=nets.weight.dtype)
        rows = x.view(-1, inputs).numpy()  # where the environments write what the networks read
        self._reset(rows)
        live: list[_Live] = [(i, i, env.step) for i, env in enumerate(self._envs)]
        state = nets.rest(count)
        done = 0
        yield
        while live and done < self._max_steps:
            y, state = nets.step(x.to(device), state)
            actions = self._decode(y.flatten(0, 1).cpu().numpy())
            done += 1
            ended = self._step(live, actions, rows, done)
            yield
            if ended:
                live = [episode for episode in live if episode[1] not in ended]
                genomes = sorted({position // count for position, _, _ in live})
                if 0 < len(genomes) < _DROP_BELOW * len(nets):
                    kept = torch.tensor(genomes)
                    nets, state, x = nets.select(kept), state[kept.to(device)], x[kept]
                    rows = x.view(-1, inputs).numpy()
                    live = _moved(live, genomes, count)

    def _reset(self, rows: NDArray) -> None:
        i = 0
        try:
            for i, (env, seed) in enumerate(zip(self._envs, self._seeds, strict=True)):
                observation, _ = env.reset(seed=seed)
                encoded = self._encode(observation)
                if np.shape(encoded) != rows[i].shape:  # or it would be repeated
                    raise ValueError(
                        f"the observation has the shape {np.shape(observation)}, which is not the "
                        "observation space's"
                    )
                rows[i] = encoded
        except Exception as error:
            raise self._error(i, 0, f"raised {type(error).__name__}: {error}") from error
        if not np.isfinite(rows).all():
            self._refuse_observation(rows, {i: i for i in range(len(rows))}, 0)

    def _step(self, live: list[_Live], actions: list[Any], rows: NDArray, done: int) -> set[int]:
        """Step the running episodes and write their observations; the numbers of those that end."""
        encode, returns = self._encode, self._returns
        ended = set()
        i = 0
        try:
            for position, i, step in live:
                observation, reward, terminated, truncated, _ = step(actions[position])
                returns[i] += float(reward)
                if terminated or truncated:
                    ended.add(i)
                else:
                    rows[position] = encode(observation)
        except Exception as error:
            raise self._error(i, done, f"raised {type(error).__name__}: {error}") from error
        if not np.isfinite(rows).all():
            self._refuse_observation(rows, {position: i for position, i, _ in live}, done)
        broken = [i for i in ended if not math.isfinite(returns[i])]
        if done >= self._max_steps:
            broken += [i for _, i, _ in live if not math.isfinite(returns[i])]
        if broken:
            i = min(broken)
            raise self._error(i, done, f"gave rewards that add up to {returns[i]}")
        return ended

    def _refuse_observation(self, rows: NDArray, numbers: dict[int, int], done: int) -> None:
        position = int(np.flatnonzero(~np.isfinite(rows).all(1))[0])
        what = f"gave an observation that is not finite: {rows[position]}"
        raise self._error(numbers[position], done, what)

    def _error(self, i: int, done: int, what: str) -> EpisodeError:
        row, episode = divmod(i, self._count)
        return EpisodeError(
            f"{self._name} {what} (genome with id {self._ids[row]}, episode {episode}, "
            f"seed {self._seeds[i]}, step {done})"
        )


def _moved(live: list[_Live], genomes: list[int], count: int) -> list[_Live]:
    """The running episodes at their positions after all but some genomes are dropped."""
    now = {genome: i for i, genome in enumerate(genomes)}
    return [
        (now[position // count] * count + position % count, i, step) for position, i, step in live
    ]
