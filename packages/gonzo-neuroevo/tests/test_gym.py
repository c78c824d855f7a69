"""Gymnasium problems against a loop as Gymnasium's documentation writes it, and broken worlds."""

import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

from gonzo.neuroevo.evaluators import InProcess  # noqa: E402
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene  # noqa: E402
from gonzo.neuroevo.gym import GymnasiumProblem  # noqa: E402
from gonzo.neuroevo.gym_spaces import decoder, observation_encoder  # noqa: E402
from gonzo.neuroevo.lockstep import EpisodeError  # noqa: E402
from gonzo.neuroevo.phenotypes import Phenotype, networks  # noqa: E402
from gonzo.neuroevo.population import Population  # noqa: E402
from gonzo.neuroevo.seeds import Episodes  # noqa: E402

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
from evaluated_problems import random_population  # noqa: E402

sys.path.remove(HERE)

spaces = gymnasium.spaces
LEFT = Genome(4, 2, (NodeGene(0, 1.0), NodeGene(1, 0.0)))
BALANCES = Genome(
    4,
    1,
    (NodeGene(0, activation="identity"),),
    (ConnectionGene(-3, 0, 1.0), ConnectionGene(-4, 0, 0.5), ConnectionGene(-2, 0, 0.1)),
)


class World(gymnasium.Env):
    """Five steps; observes the step and the number drawn at reset; the reward is what it is told.

    Class attributes break it.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Discrete(2)
    raises_at = rewards_nan_at = observes_nan_at = None
    length = 5

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.drawn = self.np_random.random()
        if self.raises_at == 0:
            raise OSError("no world")
        return self.observation(), {}

    def observation(self):
        first = np.nan if self.steps == self.observes_nan_at else float(self.steps)
        return np.array([first, self.drawn])

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps += 1
        if self.steps == self.raises_at:
            raise ZeroDivisionError("the world ended")
        reward = math.nan if self.steps == self.rewards_nan_at else 1 + float(np.sum(action))
        return self.observation(), reward, self.steps >= self.length, False, {}


class RaisesAtReset(World):
    raises_at = 0


class RaisesAtThree(World):
    raises_at = 3


class ObservesNaN(World):
    observes_nan_at = 2


class ObservesNaNAtReset(World):
    observes_nan_at = 0


class RewardsNaN(World):
    rewards_nan_at = 4


class RewardsNaNAndIsCut(RewardsNaN):
    length = 1000


class Draws(World):
    """A return that shows the seed."""

    def step(self, action):
        observation, _, ended, cut, info = super().step(action)
        return observation, self.drawn, ended, cut, info


def episodes(count, **options):
    return Episodes(5, 3, tuple(range(20, 20 + count)), **options)


def plain_return(env, genome, seed, choose, kind="feed-forward"):
    """One genome, one episode, and Gymnasium's own wrappers."""
    net = networks(Population.from_genomes([genome]), kind)
    state, total, ended = net.rest(1), 0.0, False
    observation, _ = env.reset(seed=seed)
    while not ended:
        x = torch.tensor(np.asarray(observation), dtype=torch.float32).reshape(1, 1, -1)
        y, state = net.step(x, state)
        observation, reward, terminated, truncated, _ = env.step(choose(y[0, 0].numpy()))
        total += float(reward)
        ended = terminated or truncated
    return total


def first_largest(y):
    return int(np.argmax(y))


@pytest.mark.parametrize("kind", ["feed-forward", "recurrent"])
def test_cartpole_is_the_plain_loop(kind):
    problem = GymnasiumProblem("CartPole-v1", episodes=3)
    assert (problem.inputs, problem.outputs, problem.max_steps) == (4, 2, 500)
    population = random_population(12, 4, 2, recurrent=kind == "recurrent")
    population = Population.cat([population, Population.from_genomes([LEFT])])
    ours = episodes(13)
    returns = problem.returns(networks(population, kind), ours, 3)
    env = gymnasium.make("CartPole-v1")
    for row, genome in enumerate(population.genomes()):
        for episode in range(3):
            wanted = plain_return(env, genome, ours.seed(row, episode), first_largest, kind)
            assert returns[row, episode] == wanted
    fitness = problem.evaluate(networks(population, kind), ours)
    assert fitness.tolist() == [math.fsum(row) / 3 for row in returns.tolist()]
    assert len(fitness.unique()) > 4


def test_pendulum_is_the_plain_loop_and_its_action_spans_the_bounds():
    problem = GymnasiumProblem("Pendulum-v1")
    assert (problem.inputs, problem.outputs, problem.max_steps) == (3, 1, 200)
    population = random_population(3, 3, 1)
    fitness = problem.evaluate(networks(population), episodes(3))
    env = gymnasium.make("Pendulum-v1")
    for row, genome in enumerate(population.genomes()):
        wanted = plain_return(
            env,
            genome,
            episodes(3).seed(row, 0),
            lambda y: np.clip(2 * y.astype(np.float64), -2, 2).astype(np.float32),
        )
        assert fitness[row] == wanted


def test_the_limit_truncates_and_can_be_another():
    population = Population.from_genomes([BALANCES])
    for limit, wanted in ((None, 500.0), (40, 40.0), (700, 700.0)):
        problem = GymnasiumProblem("CartPole-v1", max_steps=limit, outputs=1)
        assert problem.evaluate(networks(population), episodes(1)).item() == wanted


def test_champions_are_judged_on_seeds_of_their_own():
    problem = GymnasiumProblem("CartPole-v1", outputs=1)
    judged = problem.held_out(BALANCES, run_seed=1, episodes=30)
    assert judged.tolist() == [500.0] * 30
    weak = Genome(4, 1, (NodeGene(0, 0.1, activation="identity"),))
    returns = problem.held_out(weak, run_seed=1, episodes=30)
    env = gymnasium.make("CartPole-v1")
    judges = Episodes(1, 0, (0,), held_out=True)
    wanted = [
        plain_return(env, weak, judges.seed(0, e), lambda y: int(y[0] > 0)) for e in range(30)
    ]
    assert returns.tolist() == wanted


@pytest.mark.parametrize("kind", ["feed-forward", "recurrent", "ctrnn"])
def test_whatever_shares_the_call_changes_no_bit(kind):
    population = random_population(21, 4, 2, recurrent=kind != "feed-forward")
    problem = GymnasiumProblem("CartPole-v1", episodes=2)
    whole = InProcess().evaluate(problem, population, episodes(21), phenotype=Phenotype(kind))
    for other in (
        InProcess(chunk=1).evaluate(problem, population, episodes(21), phenotype=Phenotype(kind)),
        InProcess(chunk=8).evaluate(problem, population, episodes(21), phenotype=Phenotype(kind)),
        InProcess().evaluate(
            GymnasiumProblem("CartPole-v1", episodes=2, together=5),
            population,
            episodes(21),
            phenotype=Phenotype(kind),
        ),
        InProcess().evaluate(problem, population, episodes(21), phenotype=Phenotype(kind)),
    ):
        assert torch.equal(other, whole)


def test_every_episode_has_its_seed():
    problem = GymnasiumProblem(Draws)
    population = random_population(3, 2, 2)
    for ours in (episodes(3), episodes(3, held_out=True)):
        returns = problem.returns(networks(population), ours, 4)
        for row in range(3):
            for episode in range(4):
                drawn = np.random.Generator(np.random.PCG64(ours.seed(row, episode))).random()
                assert returns[row, episode].item() == pytest.approx(5 * drawn, abs=1e-14)


def test_a_copy_in_another_process_starts_with_worlds_of_its_own():
    problem = GymnasiumProblem("CartPole-v1", episodes=2)
    population = random_population(4, 4, 2)
    fitness = problem.evaluate(networks(population), episodes(4))
    sent = pickle.dumps(problem)
    assert len(sent) < 2000
    copy = pickle.loads(sent)
    assert torch.equal(copy.evaluate(networks(population), episodes(4)), fitness)
    problem.close()
    assert torch.equal(problem.evaluate(networks(population), episodes(4)), fitness)


def test_a_rollout_is_recorded_in_pictures():
    pytest.importorskip("pygame")
    problem = GymnasiumProblem("CartPole-v1", max_steps=6)
    frames = problem.record(LEFT, seed=4)
    assert frames.shape == (7, 400, 600, 3)
    assert frames.dtype == np.uint8
    assert (frames[0] != frames[-1]).any()
    with pytest.raises(
        ValueError, match='Draws: expected an environment made with render_mode="rg'
    ):
        GymnasiumProblem(Draws).record(Genome(2, 2, (NodeGene(0), NodeGene(1))), seed=0)


# Spaces


def test_observations_become_inputs():
    image = observation_encoder(spaces.Box(0, 255, (2, 3), np.uint8), "world")
    assert image.inputs == 6
    assert image(np.arange(6, dtype=np.uint8).reshape(2, 3)).tolist() == [0, 1, 2, 3, 4, 5]
    choice = observation_encoder(spaces.Discrete(3, start=5), "world")
    assert choice.inputs == 3
    assert choice(6).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match=r"world: expected observations in a Box .*FlattenObserv"):
        observation_encoder(spaces.Dict({"a": spaces.Discrete(2)}), "world")


@pytest.mark.parametrize(
    ("space", "outputs", "y", "actions"),
    [
        (spaces.Discrete(3), None, [[0.1, 0.7, 0.7], [-1.0, -2.0, -3.0]], [1, 0]),
        (spaces.Discrete(3, start=-1), None, [[0.0, 0.0, 1.0]], [1]),
        (spaces.Discrete(2, start=4), 1, [[0.0], [0.01], [-3.0]], [4, 5, 4]),
        (spaces.MultiBinary(3), None, [[0.2, 0.0, -0.2]], [[1, 0, 0]]),
        (spaces.MultiBinary([2, 1]), None, [[0.2, 0.0]], [[[1], [0]]]),
        (
            spaces.Box(np.array([-1.0, 0.0]), np.array([3.0, 8.0]), dtype=np.float64),
            None,
            [[0.0, 0.0], [-1.0, 1.0], [-9.0, 9.0], [0.5, -0.5]],
            [[1.0, 4.0], [-1.0, 8.0], [-1.0, 8.0], [2.0, 2.0]],
        ),
        (
            spaces.Box(np.array([-np.inf, 0.0]), np.array([np.inf, np.inf]), dtype=np.float64),
            None,
            [[-7.0, -7.0], [7.0, 7.0]],
            [[-7.0, 0.0], [7.0, 7.0]],
        ),
        (spaces.Box(-2, 2, (1, 2), np.float32), None, [[0.5, -4.0]], [[[1.0, -2.0]]]),
    ],
)
def test_outputs_become_actions(space, outputs, y, actions):
    decode = decoder(space, outputs, "world")
    assert decode.outputs == len(y[0])
    made = decode(np.array(y, dtype=np.float32))
    assert [np.asarray(action).tolist() for action in made] == actions
    assert all(space.contains(action) for action in made)
    assert pickle.loads(pickle.dumps(decode)).outputs == decode.outputs


@pytest.mark.parametrize(
    ("space", "outputs", "message"),
    [
        (
            spaces.MultiDiscrete([2, 3]),
            None,
            "expected actions in a Discrete, MultiBinary or float",
        ),
        (spaces.Box(0, 5, (2,), np.int32), None, r"got Box\(0, 5, \(2,\), int32\); wrap the env"),
        (spaces.Discrete(3), 1, r"expected 3 outputs for actions in Discrete\(3\), got 1"),
        (spaces.Discrete(2), 5, r"expected 2 outputs, or 1 for actions in Discrete\(2\), got 5"),
    ],
)
def test_actions_that_no_network_can_make(space, outputs, message):
    with pytest.raises(ValueError, match=message):
        decoder(space, outputs, "world")


# Broken worlds


@pytest.mark.parametrize(
    ("env", "what"),
    [
        (
            RaisesAtReset,
            r"raised OSError: no world \(genome with id 20, episode 0, seed {0}, step 0",
        ),
        (RaisesAtThree, r"raised ZeroDivisionError: the world ended .*id 20, .*seed {0}, step 3\)"),
        (ObservesNaN, r"gave an observation that is not finite: \[ *nan .*seed {0}, step 2\)"),
        (ObservesNaNAtReset, r"gave an observation that is not finite: \[ *nan .* step 0\)"),
        (RewardsNaN, r"gave rewards that add up to nan \(.*seed {0}, step 5\)"),
    ],
)
def test_a_world_that_breaks_names_genome_episode_and_seed(env, what):
    problem = GymnasiumProblem(env, episodes=2)
    message = f"{env.__name__} " + what.format(episodes(2).seed(0, 0))
    with pytest.raises(EpisodeError, match=message):
        problem.evaluate(networks(random_population(2, 2, 2)), episodes(2))


def test_a_reward_that_is_no_number_is_found_at_the_limit_too():
    problem = GymnasiumProblem(RewardsNaNAndIsCut, max_steps=9)
    with pytest.raises(EpisodeError, match=r"rewards that add up to nan \(genome with id 20, .* 9"):
        problem.evaluate(networks(random_population(2, 2, 2)), episodes(2))


def test_the_broken_world_is_found_after_others_have_finished():
    class Uneven(World):
        """The more is drawn, the shorter; the longest breaks."""

        def step(self, action):
            self.length = 3 if self.drawn < 0.8 else 30
            self.observes_nan_at = 20
            return super().step(action)

    ours = episodes(12)
    drawn = [np.random.Generator(np.random.PCG64(ours.seed(row, 0))).random() for row in range(12)]
    row = next(i for i, number in enumerate(drawn) if number >= 0.8)
    with pytest.raises(EpisodeError, match=rf"id {20 + row}, episode 0, seed \d+, step 20\)"):
        GymnasiumProblem(Uneven).evaluate(networks(random_population(12, 2, 2)), ours)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            ("CartPole-v1", 0),
            {},
            "expected 1 or more episodes, steps and environments, got 0, None",
        ),
        (("CartPole-v1", 1, 0), {}, "got 1, 0 and 1024"),
        ((World,), {"env_options": {"a": 1}}, "env_options go with an id, not with a function"),
        (("CartPole-v1",), {"outputs": 3}, "CartPole-v1: expected 2 outputs, or 1 for actions"),
    ],
)
def test_bad_options_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        GymnasiumProblem(*arguments, **options)


def test_no_episodes_are_refused():
    with pytest.raises(ValueError, match="expected 1 or more episodes, got 0"):
        GymnasiumProblem("CartPole-v1").held_out(LEFT, run_seed=0, episodes=0)


def test_options_reach_gymnasium():
    slippery = GymnasiumProblem("FrozenLake-v1", env_options={"is_slippery": False})
    assert (slippery.inputs, slippery.outputs, slippery.max_steps) == (16, 4, 100)
    with pytest.raises(TypeError, match="no_such_option"):
        GymnasiumProblem("CartPole-v1", env_options={"no_such_option": 1})
