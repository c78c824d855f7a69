"""The schedule alone: what goes out when, with no processes about."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonzo.neuroevo.pool import _death
from gonzo.neuroevo.schedule import EvaluationError, Schedule, Task, chunk_size
from gonzo.neuroevo.seeds import Episodes


def of(count):
    return Episodes(7, 2, tuple(range(50, 50 + count)))


def value(task):
    return np.array([float(row * row) for row in task.rows])


@given(st.integers(0, 40), st.integers(1, 12), st.data())
def test_every_genome_is_done_once_whatever_fails(count, chunk, data):
    schedule, out, failures = Schedule(of(count), chunk), [], {}
    while not schedule.finished:
        if schedule.waiting and (not out or data.draw(st.booleans())):
            task = schedule.take()
            assert len(task.rows) <= chunk
            out.append(task)
            continue
        task = out.pop(data.draw(st.integers(0, len(out) - 1)))
        action = data.draw(st.sampled_from(["done", "failed", "back"]))
        if action == "failed" and all(failures.get(row, 0) < 2 for row in task.rows):
            for row in task.rows:
                failures[row] = failures.get(row, 0) + 1
            schedule.failed(task, "no reason")
        elif action == "back":
            schedule.put_back(task)
        else:
            schedule.done(task, value(task))
    assert not out
    assert not schedule.waiting
    assert schedule.fitness().tolist() == [float(row * row) for row in range(count)]


def test_a_chunk_fails_twice_whole_and_then_genome_by_genome():
    schedule, went = Schedule(of(5), 3), []

    def run():
        while not schedule.finished:
            task = schedule.take()
            went.append(list(task.rows))
            if 1 in task.rows:
                schedule.failed(task, "it broke")
            else:
                schedule.done(task, value(task))

    with pytest.raises(EvaluationError) as caught:
        run()
    assert went == [[0, 1, 2], [0, 1, 2], [0], [1], [1]]
    assert caught.value.genome_id == 51
    assert str(caught.value) == (
        "the genome with id 51 in generation 2 (run seed 7, seed of its first episode "
        f"{of(5).seed(1, 0)}) failed 3 times; the last time: it broke"
    )
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_one_genome_gets_two_retries():
    schedule = Schedule(of(1), 1)
    for failures in range(2):
        task = schedule.take()
        assert task == Task(range(1), failures)
        schedule.failed(task, "it broke")
    with pytest.raises(EvaluationError, match="id 50 in generation 2"):
        schedule.failed(schedule.take(), "it broke")


def test_an_innocent_genome_survives_a_kill_after_its_chunk_was_split():
    schedule = Schedule(of(2), 2)
    schedule.failed(schedule.take(), "killed")
    schedule.failed(schedule.take(), "killed")
    alone = schedule.take()
    schedule.failed(alone, "killed")
    schedule.done(schedule.take(), np.array([1.0]))
    schedule.done(schedule.take(), np.array([2.0]))
    assert schedule.fitness().tolist() == [1.0, 2.0]


def test_chunks_are_four_for_a_worker():
    assert chunk_size(150, 2) == 19
    assert chunk_size(3, 8) == 1
    assert chunk_size(0, 8) == 1


def test_the_death_of_a_process_in_words():
    assert _death(-9) == "its process was killed by signal 9 (SIGKILL)"
    assert _death(-11) == "its process was killed by signal 11 (SIGSEGV)"
    assert _death(-200) == "its process was killed by signal 200"
    assert _death(3) == "its process ended with exit code 3"
