import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from gonzo.core.numba_kernels import kernel, run_rows

SCAN = """
import torch
from gonzo.core.ops.linear_scan import linear_scan
torch.set_num_threads(2)
x = torch.ones(4, 9, 3)
assert torch.equal(linear_scan(torch.ones(3), x), x.cumsum(1))
"""


@kernel
def _count(start, stop, hits):
    for row in range(start, stop):
        hits[row] += 1


def _python(code, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 100])
def test_every_row_runs_once(rows, threads):
    torch.set_num_threads(threads)
    hits = np.zeros(rows)
    run_rows(rows, _count, hits)
    assert (hits == 1).all()


def test_pieces_run_in_several_threads():
    torch.set_num_threads(3)
    meeting = threading.Barrier(3)  # broken, and so an error, unless three pieces meet
    run_rows(3, lambda start, stop: meeting.wait(timeout=20))


@pytest.mark.parametrize("bad", [0, 2])
def test_an_error_in_a_piece_reaches_the_caller_after_all_pieces_ended(bad):
    torch.set_num_threads(3)
    done = []

    def loop(start, stop):
        if start == bad:
            raise ZeroDivisionError(f"row {start}")
        done.append(start)

    with pytest.raises(ZeroDivisionError, match=f"row {bad}"):
        run_rows(3, loop)
    assert sorted(done) == sorted({0, 1, 2} - {bad})
    hits = np.zeros(9)
    run_rows(9, _count, hits)
    assert (hits == 1).all()


def test_nested_in_a_piece_and_in_other_threads():
    torch.set_num_threads(2)
    hits = np.zeros((8, 50))

    def outer(start, stop):
        for row in range(start, stop):
            run_rows(50, _count, hits[row])

    run_rows(8, outer)
    with ThreadPoolExecutor(4) as others:
        list(others.map(lambda row: run_rows(50, _count, hits[row]), range(8)))
    assert (hits == 2).all()


def test_concurrent_first_calls_from_threads():
    @kernel
    def fresh(start, stop, hits):
        for row in range(start, stop):
            hits[row] += 1

    torch.set_num_threads(2)
    hits = np.zeros((4, 10))
    with ThreadPoolExecutor(4) as others:
        list(others.map(lambda row: run_rows(10, fresh, row), hits))
    assert (hits == 1).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_pool_is_new_after_a_fork():
    code = """
import os, warnings
warnings.simplefilter("ignore")
import numpy as np, torch
from gonzo.core.numba_kernels import run_rows
torch.set_num_threads(2)
def fill(start, stop, out):
    out[start:stop] = 1
out = np.zeros(4)
run_rows(4, fill, out)
child = os.fork()
out[:] = 0
run_rows(4, fill, out)
assert out.sum() == 4
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
else:
    os._exit(0)
"""
    process = _python(code)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_two_processes_compile_one_kernel_at_once(tmp_path):
    cache = tmp_path / "cache"
    processes = [_python(SCAN, NUMBA_CACHE_DIR=str(cache)) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert any(cache.rglob("*.nbc"))


def test_a_cache_folder_that_cannot_be_written_costs_one_line_of_log(tmp_path):
    (tmp_path / "file").write_text("no folder")
    process = _python(
        SCAN,
        NUMBA_CACHE_DIR=str(tmp_path / "file" / "cache"),
        NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator",  # and no second choice
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors.count("no folder to cache kernels in") == 1
    assert len(errors.strip().splitlines()) == 1
