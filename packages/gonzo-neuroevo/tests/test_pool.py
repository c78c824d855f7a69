"""`ProcessPool`: equal numbers whoever evaluates, and what becomes of workers that die or hang."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch

from gonzo.neuroevo.evaluators import Evaluator, InProcess
from gonzo.neuroevo.genome import Genome, NodeGene
from gonzo.neuroevo.parcel import pack
from gonzo.neuroevo.phenotypes import Phenotype
from gonzo.neuroevo.pool import ProcessPool
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.problem import GenomeFitness, NetworkFitness, Problem
from gonzo.neuroevo.schedule import EvaluationError
from gonzo.neuroevo.seeds import Episodes
from gonzo.neuroevo.supervised import xor

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
import evaluated_problems as problems  # noqa: E402
from evaluated_problems import alive, hung, wait_until  # noqa: E402

sys.path.remove(HERE)


@pytest.fixture(autouse=True)
def _workers_find_the_problems(monkeypatch):
    monkeypatch.syspath_prepend(HERE)  # spawned processes take over the path


@pytest.fixture(scope="module")
def pool():
    """Two workers for the tests in which none dies for good: a start takes seconds."""
    with ProcessPool(2, chunk=3) as shared:
        yield shared


def episodes(count, *, generation=4, held_out=False):
    return Episodes(11, generation, tuple(range(100, 100 + count)), held_out=held_out)


# Equal numbers


@pytest.mark.parametrize(
    ("kind", "recurrent"), [("feed-forward", False), ("recurrent", True), ("ctrnn", True)]
)
def test_the_numbers_are_those_of_one_process(pool, kind, recurrent):
    population = problems.random_population(17, recurrent=recurrent)
    ours = episodes(17)
    for problem in (problems.Ids(), xor(), GenomeFitness(problems.near_third, 2, 1)):
        options = {"phenotype": Phenotype(kind, ticks=4, time_step=0.05)}
        wanted = InProcess().evaluate(problem, population, ours, **options)
        assert wanted.shape == (17,)
        assert wanted.dtype == torch.float64
        assert len(wanted.unique()) > 10
        for other in (pool, InProcess(chunk=5)):
            assert torch.equal(other.evaluate(problem, population, ours, **options), wanted)


def test_the_order_in_which_tasks_end_changes_nothing(pool):
    population, ours = problems.random_population(12), episodes(12)
    wanted = InProcess().evaluate(problems.Ids(), population, ours)
    assert torch.equal(pool.evaluate(problems.SleepsLonger(), population, ours), wanted)


def test_generation_and_held_out_reach_the_workers(pool):
    population = problems.random_population(4)
    seen = [
        pool.evaluate(problems.Ids(), population, ours)
        for ours in (episodes(4), episodes(4, generation=5), episodes(4, held_out=True))
    ]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (seen[i] != seen[j]).all()


def test_a_problem_that_changed_is_sent_again(pool):
    population, ours = problems.random_population(4), episodes(4)
    problem = xor()
    before = pool.evaluate(problem, population, ours)
    problem.perfect = 104.0
    assert torch.equal(pool.evaluate(problem, population, ours), before + 100)


def test_cartpole_is_equal_for_any_chunks(pool):
    gym = pytest.importorskip("gonzo.neuroevo.gym")
    pytest.importorskip("gymnasium")
    problem = gym.GymnasiumProblem("CartPole-v1", episodes=2, max_steps=60)
    population = problems.random_population(11, 4, 2, recurrent=True)
    for kind in ("recurrent", "ctrnn"):
        wanted = InProcess().evaluate(problem, population, episodes(11), phenotype=Phenotype(kind))
        assert torch.equal(
            pool.evaluate(problem, population, episodes(11), phenotype=Phenotype(kind)), wanted
        )
        one_by_one = InProcess(chunk=1).evaluate(
            problem, population, episodes(11), phenotype=Phenotype(kind)
        )
        assert torch.equal(one_by_one, wanted)


def test_a_phenotype_of_another_kind_goes_along(pool):
    first = Genome(3, 2, (NodeGene(0, activation="tanh"), NodeGene(1)))
    population = Population.from_genomes([first] * 7)
    wanted = InProcess().evaluate(xor(), population, episodes(7), phenotype=problems.xor_for_all)
    assert wanted.shape == (7,)
    got = pool.evaluate(xor(), population, episodes(7), phenotype=problems.xor_for_all)
    assert torch.equal(got, wanted)
    with pytest.raises(ValueError, match="and the networks have 3 and 2; expected the same"):
        pool.evaluate(xor(), population, episodes(7))


def test_no_genomes_are_no_trouble(pool):
    population = problems.random_population(3).select(slice(0, 0))
    for evaluator in (pool, InProcess()):
        assert evaluator.evaluate(problems.Ids(), population, episodes(0)).shape == (0,)


def test_both_are_evaluators_and_the_problems_are_problems(pool):
    assert isinstance(pool, Evaluator)
    assert isinstance(InProcess(), Evaluator)
    for problem in (xor(), problems.Ids(), NetworkFitness(problems.sum_of_outputs, 2, 1)):
        assert isinstance(problem, Problem)


# Parcels


def test_a_parcel_holds_the_genomes_and_little_else():
    population = problems.random_population(40, 4, 2, recurrent=True)
    parcel = pack(population, episodes(40))
    assert parcel.population().genomes() == population.genomes()
    genes = sum(len(g.nodes) + len(g.connections) for g in population.genomes())
    assert parcel.nbytes < 20 * genes
    wide = population.resize(30, 90)
    again = pack(wide, episodes(40))
    assert again.nbytes == parcel.nbytes
    assert again.population().genomes() == population.genomes()


def test_a_parcel_keeps_large_keys_and_every_dtype():
    population = problems.random_population(3).to(dtype=torch.float64)
    far = population.with_(
        innovation=population.innovation.where(
            ~population.connection_mask, population.innovation + 2**40
        )
    )
    parcel = pack(far, episodes(3))
    back = parcel.population()
    for name, array in far.crop().arrays().items():
        assert back.arrays()[name].dtype == array.dtype, name
        assert (back.arrays()[name] == array).all(), name


# Workers that die


def test_a_worker_killed_by_its_problem_costs_only_time(pool, tmp_path):
    population, ours = problems.random_population(12), episodes(12)
    wanted = InProcess().evaluate(problems.Ids(), population, ours)
    got = pool.evaluate(problems.KillOnce(tmp_path, 107), population, ours)
    assert (tmp_path / "killed").exists()
    assert torch.equal(got, wanted)


def test_a_worker_killed_from_outside_costs_only_time(pool):
    population, ours = problems.random_population(12), episodes(12)
    wanted = InProcess().evaluate(problems.Ids(), population, ours)
    assert torch.equal(pool.evaluate(problems.Ids(), population, ours), wanted)
    idle = pool.pids[0]
    os.kill(idle, signal.SIGKILL)
    wait_until(lambda: not alive(idle))
    assert torch.equal(pool.evaluate(problems.Ids(), population, ours), wanted)
    assert idle not in pool.pids

    busy = pool.pids[1]
    killer = threading.Timer(0.15, os.kill, (busy, signal.SIGKILL))
    killer.start()
    assert torch.equal(pool.evaluate(problems.SleepsLonger(), population, ours), wanted)
    killer.join()
    assert not alive(busy)


def test_a_genome_that_kills_its_process_is_named(pool, tmp_path):
    log = tmp_path / "log"
    population = problems.random_population(2)
    with pytest.raises(EvaluationError) as caught:
        pool.evaluate(problems.KillAlways(100, log), population.select(slice(0, 1)), episodes(1))
    error = caught.value
    assert (error.genome_id, error.generation, error.run_seed) == (100, 4, 11)
    assert error.seed == episodes(1).seed(0, 0)
    assert error.cause == "its process was killed by signal 9 (SIGKILL)"
    assert log.read_text().split() == ["1", "1", "1"]  # the first time and two retries
    # The pool goes on.
    fitness = pool.evaluate(problems.Ids(), population, episodes(2))
    assert torch.equal(fitness, InProcess().evaluate(problems.Ids(), population, episodes(2)))


def test_an_exception_arrives_with_its_traceback(pool):
    before = set(pool.pids)
    population = problems.random_population(6)
    with pytest.raises(EvaluationError) as caught:
        pool.evaluate(problems.Raises(102), population, episodes(6))
    assert caught.value.genome_id == 102
    assert "ZeroDivisionError: the wheel came off" in str(caught.value)
    assert "evaluated_problems.py" in caught.value.cause
    with pytest.raises(EvaluationError, match="SystemExit: 5"):
        pool.evaluate(problems.QuitsPython(), population.select(slice(0, 1)), episodes(1))
    assert before & set(pool.pids)  # a worker that was idle then still serves


def test_fitness_that_is_not_finite_names_the_genome(pool):
    population = problems.random_population(6)
    for evaluator in (pool, InProcess()):
        with pytest.raises((ValueError, EvaluationError), match="nan for the genome with id 103"):
            evaluator.evaluate(problems.NotFinite(103), population, episodes(6))


def test_a_worker_that_hangs_is_replaced_and_its_genome_named_in_the_end(tmp_path):
    population = problems.random_population(2)
    once, for_good = tmp_path / "once", tmp_path / "for good"
    once.mkdir()
    for_good.mkdir()
    with ProcessPool(1, episode_seconds=0.2) as pool:
        fitness = pool.evaluate(problems.Hangs(101, once), population, episodes(2))
        assert torch.equal(fitness, InProcess().evaluate(problems.Ids(), population, episodes(2)))
        with pytest.raises(EvaluationError) as caught:
            pool.evaluate(problems.Hangs(101, for_good, raises=2), population, episodes(2))
        assert caught.value.genome_id == 101
        assert caught.value.cause == "timed out after 0.4 s"  # two episodes
    assert [len(hung(folder)) for folder in (once, for_good)] == [1, 1]
    assert not any(alive(pid) for pid in hung(once) + hung(for_good))


# Bad input


def test_a_closed_pool_says_so():
    pool = ProcessPool(1)
    pool.close()
    pool.close()
    with pytest.raises(RuntimeError, match="ProcessPool: closed; make another to go on"):
        pool.evaluate(problems.Ids(), problems.random_population(1), episodes(1))


def test_what_cannot_be_sent_is_refused(pool):
    population = problems.random_population(1)
    with pytest.raises(TypeError, match=r"cannot be sent to another process .* without lambdas"):
        pool.evaluate(NetworkFitness(lambda networks: 0, 2, 1), population, episodes(1))
    with pytest.raises(RuntimeError, match="could not rebuild the problem") as caught:
        pool.evaluate(problems.Unreadable(), population, episodes(1))
    assert "cannot be rebuilt here" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "expected 1 or more workers and genomes, got 0 and None"),
        ({"workers": 1, "chunk": 0}, "expected 1 or more workers and genomes, got 1 and 0"),
        ({"episode_seconds": 0}, "expected episode_seconds above 0, got 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ProcessPool(**options)


def test_what_does_not_fit_is_refused(pool):
    population = problems.random_population(2, 3, 1)
    for evaluator in (pool, InProcess()):
        with pytest.raises(ValueError, match="the problem has 2 inputs and 1 outputs, and the net"):
            evaluator.evaluate(problems.Ids(), population, episodes(2))
        with pytest.raises(ValueError, match="expected an id for each of 2 genomes, got 3"):
            evaluator.evaluate(problems.Ids(), problems.random_population(2), episodes(3))
    with pytest.raises(ValueError, match="expected a chunk of 1 or more genomes, got 0"):
        InProcess(chunk=0)


# Scripts


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": HERE}
    return subprocess.Popen(
        [sys.executable, str(path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


HANGING = """
    import evaluated_problems as problems
    from gonzo.neuroevo.pool import ProcessPool
    from gonzo.neuroevo.seeds import Episodes

    if __name__ == "__main__":
        with ProcessPool(1) as pool:
            pool.evaluate(
                problems.Hangs(0, {folder!r}), problems.random_population(1), Episodes(0, 0, (0,))
            )
"""


@contextlib.contextmanager
def hanging(tmp_path):
    """A script whose only worker hangs, and the worker's process id."""
    folder = tmp_path / "pids"
    folder.mkdir()
    process = script(tmp_path, HANGING.format(folder=str(folder)))
    try:
        wait_until(lambda: process.poll() is not None or hung(folder), 60)
        (worker,) = hung(folder)
        yield process, worker
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_workers_die_with_their_parent(tmp_path):
    with hanging(tmp_path) as (process, worker):
        assert alive(worker)
        process.kill()
        wait_until(lambda: not alive(worker))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_ends_the_run_with_one_traceback(tmp_path):
    with hanging(tmp_path) as (process, worker):
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGINT
        assert errors.count("Traceback") == 1
        assert errors.rstrip().endswith("KeyboardInterrupt")
        wait_until(lambda: not alive(worker))


def test_a_script_without_guard_gets_one_error_with_the_way_out(tmp_path):
    process = script(
        tmp_path,
        """
        import evaluated_problems as problems
        from gonzo.neuroevo.pool import ProcessPool
        from gonzo.neuroevo.seeds import Episodes

        pool = ProcessPool(2)
        pool.evaluate(problems.Ids(), problems.random_population(3), Episodes(0, 0, (0, 1, 2)))
        """,
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.count("Traceback") == 1
    assert 'put what it runs under: if __name__ == "__main__":' in errors
