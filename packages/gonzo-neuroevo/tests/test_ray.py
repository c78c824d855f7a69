"""`RayEvaluator` on a Ray of one core, started and ended here."""

import logging
import sys
from pathlib import Path

import pytest
import torch

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'gonzo-neuroevo[ray]'")

from gonzo.neuroevo.evaluators import Evaluator, InProcess  # noqa: E402
from gonzo.neuroevo.gym import GymnasiumProblem  # noqa: E402
from gonzo.neuroevo.phenotypes import Phenotype  # noqa: E402
from gonzo.neuroevo.problem import NetworkFitness  # noqa: E402
from gonzo.neuroevo.ray import RayEvaluator  # noqa: E402
from gonzo.neuroevo.schedule import EvaluationError  # noqa: E402
from gonzo.neuroevo.seeds import Episodes  # noqa: E402
from gonzo.neuroevo.supervised import xor  # noqa: E402

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
import evaluated_problems as problems  # noqa: E402
from evaluated_problems import alive, hung, wait_until  # noqa: E402

sys.path.remove(HERE)

SECONDS = 0.5


@pytest.fixture(scope="module")
def evaluator():
    """One actor for all tests: Ray takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", HERE)  # workers find the problems there
        patch.setenv("RAY_ADDRESS", "192.0.2.1:6379")  # nobody lives there, and nobody is asked
        with RayEvaluator(workers=1, chunk=5, episode_seconds=SECONDS) as started:
            yield started
    assert not ray.is_initialized()


def episodes(count):
    return Episodes(11, 4, tuple(range(100, 100 + count)))


def test_ray_is_local_and_has_no_dashboard(evaluator):
    assert isinstance(evaluator, Evaluator)
    assert ray.is_initialized()
    assert ray.cluster_resources()["CPU"] == 1
    assert len(ray.nodes()) == 1
    assert not ray._private.worker._global_node.webui_url


@pytest.mark.parametrize(
    ("kind", "recurrent"), [("feed-forward", False), ("recurrent", True), ("ctrnn", True)]
)
def test_the_numbers_are_those_of_one_process(evaluator, kind, recurrent):
    cartpole = GymnasiumProblem("CartPole-v1", episodes=2, max_steps=60)
    for problem in (problems.Ids(), xor(), cartpole):
        population = problems.random_population(
            12, problem.inputs, problem.outputs, recurrent=recurrent
        )
        options = {"phenotype": Phenotype(kind, ticks=4, time_step=0.05)}
        wanted = InProcess().evaluate(problem, population, episodes(12), **options)
        got = evaluator.evaluate(problem, population, episodes(12), **options)
        assert torch.equal(got, wanted)


def test_a_problem_that_changed_is_sent_again(evaluator):
    population, problem = problems.random_population(4), xor()
    before = evaluator.evaluate(problem, population, episodes(4))
    problem.perfect = 104.0
    assert torch.equal(evaluator.evaluate(problem, population, episodes(4)), before + 100)


def test_a_worker_that_is_killed_costs_only_time(evaluator, tmp_path):
    population = problems.random_population(12)
    wanted = InProcess().evaluate(problems.Ids(), population, episodes(12))
    got = evaluator.evaluate(problems.KillOnce(tmp_path, 107), population, episodes(12))
    assert (tmp_path / "killed").exists()
    assert torch.equal(got, wanted)


def test_an_exception_arrives_with_its_traceback(evaluator):
    population = problems.random_population(6)
    with pytest.raises(EvaluationError, match="the wheel came off") as caught:
        evaluator.evaluate(problems.Raises(102), population, episodes(6))
    assert caught.value.genome_id == 102
    assert "evaluated_problems.py" in caught.value.cause
    with pytest.raises(EvaluationError, match="nan for the genome with id 103"):
        evaluator.evaluate(problems.NotFinite(103), population, episodes(6))


def test_a_worker_that_hangs_is_replaced_and_its_genome_named_in_the_end(evaluator, tmp_path):
    population = problems.random_population(2)
    once, for_good = tmp_path / "once", tmp_path / "for good"
    once.mkdir()
    for_good.mkdir()
    fitness = evaluator.evaluate(problems.Hangs(101, once), population, episodes(2))
    assert torch.equal(fitness, InProcess().evaluate(problems.Ids(), population, episodes(2)))
    alone = population.select(slice(1, 2)), Episodes(11, 4, (101,))
    with pytest.raises(EvaluationError) as caught:
        evaluator.evaluate(problems.Hangs(101, for_good, raises=2), *alone)
    assert caught.value.genome_id == 101
    assert caught.value.cause == f"timed out after {2 * SECONDS:g} s"  # two episodes
    (first,), (second,) = hung(once), hung(for_good)
    wait_until(lambda: not alive(first) and not alive(second))


def test_what_cannot_be_sent_or_rebuilt_is_refused(evaluator):
    population = problems.random_population(1)
    opened = NetworkFitness(logging.FileHandler("/dev/null").emit, 2, 1)
    with pytest.raises(TypeError, match="RayEvaluator: the problem cannot be sent to another proc"):
        evaluator.evaluate(opened, population, episodes(1))
    opened.function.__self__.close()
    with pytest.raises(RuntimeError, match="could not rebuild the problem") as caught:
        evaluator.evaluate(problems.Unreadable(), population, episodes(1))
    assert "cannot be rebuilt here" in str(caught.value)


def test_a_ray_that_runs_is_used_and_left_running(evaluator):
    with RayEvaluator(workers=1) as guest:
        pass
    assert ray.is_initialized()
    with pytest.raises(RuntimeError, match="RayEvaluator: closed; make another to go on"):
        guest.evaluate(xor(), problems.random_population(1), episodes(1))
    with pytest.raises(ValueError, match="Ray runs in this program already; leave out the address"):
        RayEvaluator("10.0.0.1:6379")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "expected 1 or more workers and genomes, got 0 and None"),
        ({"chunk": 0}, "expected 1 or more workers and genomes, got None and 0"),
        ({"episode_seconds": 0}, "expected episode_seconds above 0, got 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RayEvaluator(**options)
