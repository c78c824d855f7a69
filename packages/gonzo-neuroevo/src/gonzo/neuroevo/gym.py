"""Gymnasium environments as problems: the return of episodes, each with a seed of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gonzo.core import require

from .evaluators import FEED_FORWARD
from .genome import Genome
from .gym_spaces import Decoder, Encoder, decoder, observation_encoder
from .lockstep import Lockstep
from .phenotypes import Networks
from .population import Population
from .seeds import Episodes

_EXTRA = "gonzo-neuroevo[gym]"


class GymnasiumProblem:
    """The return of episodes in a Gymnasium environment.

    Observations are flattened (`Box`) or one-hot (`Discrete`). An action of `Discrete` is the
    largest output, or with ``outputs=1`` and two actions whether the output is above 0 (so give
    that output a signed activation). Outputs from -1 to 1 span the bounds of a `Box` action (there,
    too: tanh, not the config's default sigmoid), and are clipped to them; where a dimension is
    unbounded the output is the action. A `MultiBinary` action is 1 where its output is above 0.

    Args:
        env: an id such as "CartPole-v1", or a function that makes an environment. For other
            processes, the function must be importable.
        episodes: for each genome, each with its own seed; their mean is the fitness.
        max_steps: end of an episode, in place of the limit that the environment is made with.
        env_options: arguments of `gymnasium.make`, for an id.
        outputs: of the networks; by default what the action space asks for.
        together: most environments that exist at once.

    Attributes:
        inputs: numbers in an observation.
        outputs: numbers that an action is made of.
        episodes: for each genome.
        max_steps: end of an episode; None where the environment alone decides.

    Raises:
        MissingExtraError: Gymnasium is not installed.
        ValueError: a space that is not supported, or numbers below 1.
    """

    def __init__(
        self,
        env: str | Callable[[], Any],
        episodes: int = 1,
        max_steps: int | None = None,
        env_options: Mapping[str, Any] | None = None,
        *,
        outputs: int | None = None,
        together: int = 1024,
    ) -> None:
        if not isinstance(env, str) and not callable(env):
            raise TypeError(
                f"GymnasiumProblem: expected an id or a function that makes an environment, got "
                f"{env!r}; pass the id, or a function: each episode has an environment of its own"
            )
        if episodes < 1 or together < 1 or (max_steps is not None and max_steps < 1):
            raise ValueError(
                "GymnasiumProblem: expected 1 or more episodes, steps and environments, got "
                f"{episodes}, {max_steps} and {together}"
            )
        if env_options and not isinstance(env, str):
            raise ValueError("GymnasiumProblem: env_options go with an id, not with a function")
        self.env = env
        self.episodes = episodes
        self.env_options = dict(env_options or {})
        self._together = together
        made = self._make({})
        limit = None if made.spec is None else made.spec.max_episode_steps
        self.max_steps: int | None = limit if max_steps is None else max_steps
        self._idle = [self._bare(made)]
        self._encode: Encoder = observation_encoder(made.observation_space, self.name)
        self._decode: Decoder = decoder(made.action_space, outputs, self.name)
        self.inputs = self._encode.inputs
        self.outputs = self._decode.outputs

    @property
    def name(self) -> str:
        """The environment's id, or its function's name."""
        return self.env if isinstance(self.env, str) else getattr(self.env, "__name__", "env")

    def evaluate(self, networks: Networks, episodes: Episodes) -> Tensor:
        """Mean return of each genome; see `Problem.evaluate`.

        Raises:
            EpisodeError: an environment raised, or gave an observation or reward that is no number.
        """
        returns = self.returns(networks, episodes, self.episodes).tolist()
        means = [math.fsum(row) / len(row) for row in returns]
        return torch.tensor(means, dtype=torch.float64, device=networks.weight.device)

    def returns(self, networks: Networks, episodes: Episodes, count: int) -> Tensor:
        """The return of each of the first `count` episodes of each genome: (P, count), on the CPU.

        Raises:
            EpisodeError: as in `evaluate`.
        """
        if count < 1:
            raise ValueError(f"GymnasiumProblem: expected 1 or more episodes, got {count}")
        seeds = episodes.seeds(count).tolist()
        size = max(1, self._together // count)
        parts = [np.zeros((0, count))]
        for start in range(0, len(networks), size):
            rows = range(start, min(start + size, len(networks)))
            whole = len(rows) == len(networks)
            some = networks if whole else networks.select(torch.tensor(rows))
            ids = episodes.ids[rows.start : rows.stop]
            envs = self._borrow(len(rows) * count)
            run = self._lockstep(envs, ids, seeds[rows.start : rows.stop])
            with torch.no_grad():
                parts.append(run.returns(some))
            self._idle += envs  # one that failed is not kept
        return torch.from_numpy(np.concatenate(parts))

    def held_out(
        self,
        genome: Genome,
        *,
        run_seed: int,
        episodes: int = 100,
        phenotype: Callable[[Population], Networks] = FEED_FORWARD,
    ) -> Tensor:
        """Returns (episodes,) float64 of one genome, on seeds that never select.

        The seeds depend on the run's seed alone, so all champions of a run meet the same episodes.

        Raises:
            EpisodeError: as in `evaluate`.
        """
        judged = Episodes(run_seed, 0, (0,), held_out=True)
        one = phenotype(Population.from_genomes([genome]))
        return self.returns(one, judged, episodes)[0]

    def record(
        self,
        genome: Genome,
        *,
        seed: int,
        phenotype: Callable[[Population], Networks] = FEED_FORWARD,
    ) -> NDArray[np.uint8]:
        """One episode as pictures (frames, height, width, 3), the first before the first step.

        An environment of your own must be made with ``render_mode="rgb_array"``.

        Raises:
            ValueError: the environment does not render into arrays.
            EpisodeError: as in `evaluate`.
        """
        env = self._bare(self._make({"render_mode": "rgb_array"}))
        if env.render_mode != "rgb_array":
            raise ValueError(
                f'{self.name}: expected an environment made with render_mode="rgb_array", got '
                f"{env.render_mode!r}"
            )
        one = phenotype(Population.from_genomes([genome]))
        run = self._lockstep([env], (0,), [[seed]])
        try:
            with torch.no_grad():
                frames = [env.render() for _ in run.steps(one)]
        finally:
            env.close()
        return np.stack(frames)

    def close(self) -> None:
        """Close the environments; the next evaluation makes others."""
        while self._idle:
            self._idle.pop().close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_idle": []}  # an environment stays in its process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._idle = [self._bare(self._make({}))]  # so that importing is on no episode's time

    def _lockstep(self, envs: list[Any], ids: tuple[int, ...], seeds: list[list[int]]) -> Lockstep:
        return Lockstep(self.name, envs, self._encode, self._decode, self.max_steps, ids, seeds)

    def _borrow(self, count: int) -> list[Any]:
        """So many idle environments, made as needed."""
        while len(self._idle) < count:
            self._idle.append(self._bare(self._make({})))
        borrowed, self._idle = self._idle[:count], self._idle[count:]
        return borrowed

    def _make(self, render: dict[str, str]) -> Any:
        if not isinstance(self.env, str):
            return self.env()
        gymnasium = require("gymnasium", extra=_EXTRA)
        options = {**self.env_options, **render}
        return gymnasium.make(self.env, disable_env_checker=True, **options)

    def _bare(self, env: Any) -> Any:
        """The environment without the wrappers of `gymnasium.make` whose work is done here."""
        wrappers = require("gymnasium.wrappers", extra=_EXTRA)
        done_here = (wrappers.OrderEnforcing, wrappers.PassiveEnvChecker)
        if isinstance(env, wrappers.TimeLimit) and self.max_steps is not None:
            env = env.env
        while isinstance(env, done_here):
            env = env.env
        return env
