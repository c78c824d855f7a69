import functools
import json
import math
import shutil
import time

import pytest
import torch

from gonzo.core.bench import (
    TimeRow,
    ValueRow,
    at_most,
    faster_than_peer,
    main,
    on_device,
    peak_memory,
    session,
    times_peer,
)
from gonzo.core.bench.provenance import commit, device_name, slug, versions
from gonzo.core.bench.timing import time_in_turn


@pytest.mark.parametrize(
    ("bar", "ours", "peer", "ratio", "met"),
    [
        (at_most(40e-6), 39e-6, None, None, True),
        (at_most(40e-6), 41e-6, 1.0, 41e-6, False),
        (times_peer(1.3), 1.2, 1.0, 1.2, True),
        (times_peer(1.3), 1.4, 1.0, 1.4, False),
        (times_peer(1.3), 1.0, None, None, False),
        (faster_than_peer(6), 1.0, 7.0, 7.0, True),
        (faster_than_peer(6), 1.0, 5.0, 5.0, False),
        (at_most(1.0), math.nan, None, None, False),
    ],
)
def test_bars(bar, ours, peer, ratio, met):
    assert bar.ratio(ours, peer) == ratio
    assert bar.met(ours, peer) is met


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tests": []}, "name the tests"),
        ({"tests": "tests/test_x.py"}, r"name the tests \(a list\)"),
        ({"peer": sum}, "name the peer"),
        ({"bar": times_peer(1.3)}, "its bar needs a peer, or the reason why there is none"),
    ],
)
def test_incomplete_rows(settings, message):
    with pytest.raises(ValueError, match=f"^a row: {message}"):
        TimeRow(what="a row", ours=sum, **{"tests": ["tests/test_x.py"], **settings})


class Clock:
    """A clock that the timed calls move themselves."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def call(self, name, seconds):
        def run(which=0):
            self.calls.append((name, which))
            self.now += seconds

        return run


def test_times_are_medians_of_calls_in_turn():
    clock = Clock()
    fast, slow = clock.call("fast", 0.001), clock.call("slow", 0.02)
    times = time_in_turn([fast, slow], [()], clock=lambda: clock.now, budget=0.01)
    assert times == pytest.approx([0.001, 0.02])
    names = [name for name, _ in clock.calls]
    turns = "".join("f" if name == "fast" else "s" for name in names[4:])
    assert turns == "fffffs" * 7


def test_cold_calls_rotate_out_of_step():
    clock = Clock()
    ours, peer = clock.call("ours", 0.01), clock.call("peer", 0.01)
    time_in_turn([ours, peer], [(0,), (1,), (2,), (3,)], clock=lambda: clock.now, budget=0.05)
    timed = clock.calls[10:]
    assert timed[:4] == [("ours", 0), ("peer", 2), ("ours", 1), ("peer", 3)]
    assert len(timed) == 14


def test_real_time_is_measured():
    def busy():
        end = time.process_time() + 0.002
        while time.process_time() < end:
            pass

    assert time_in_turn([busy], [()], budget=0.02)[0] == pytest.approx(0.002, rel=0.2)


@pytest.fixture
def package(tmp_path):
    """A package folder with tests that pass and tests that fail."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_right.py").write_text("def test_it():\n    assert True\n")
    (tmp_path / "tests" / "test_wrong.py").write_text("def test_it():\n    assert 1 == 2\n")
    return tmp_path


@pytest.fixture
def tests_pass(monkeypatch):
    """For sessions that are about something else: running their tests takes seconds."""
    monkeypatch.setattr(session, "_failure", lambda tests, root: "")


def run(package, rows, *arguments):
    script = str(package / "benchmarks" / "bench_toy.py")
    return main(rows, package="gonzo-core", script=script, arguments=arguments)


def results(package):
    (path,) = (package / "benchmarks" / "results").iterdir()
    return path, json.loads(path.read_text())


RIGHT = {"tests": ["tests/test_right.py"]}


def value_row(**settings):
    figures = {"what": "error of a kernel", "ours": lambda: 2e-7, "bar": at_most(1e-6), **RIGHT}
    return ValueRow(**{**figures, **settings})


def time_row(**settings):
    figures = {
        "what": "addition",
        "setup": lambda: (torch.ones(1000), torch.ones(1000)),
        "ours": torch.add,
        "peer": lambda a, b: [torch.add(a, b) for _ in range(20)],
        "peer_name": "twenty additions",
        "bar": faster_than_peer(3),
        **RIGHT,
    }
    return TimeRow(**{**figures, **settings})


def test_a_session_prints_and_writes_what_it_measured(package, capsys):
    no_peer = value_row(
        what="beside a rival", bar=times_peer(1), peer=None, no_peer="it needs a GPU"
    )
    assert run(package, [value_row(), time_row(), no_peer]) == 0
    printed = capsys.readouterr().out
    assert "error of a kernel  (no peer)" in printed
    assert "2e-07" in printed
    assert "≥ 3 × faster" in printed
    assert "hot caches, threads 1" in printed
    assert "none: it needs a GPU" in printed
    path, document = results(package)
    assert document["package"] == "gonzo-core"
    assert path.stem == slug(document["device"])
    suite = document["suites"]["bench_toy"]
    assert suite["versions"]["torch"] == torch.__version__
    assert suite["commit"] == "unknown"
    error, addition, rival = suite["rows"]
    assert (error["ours"], error["met"], error["bar"]) == (2e-7, True, "≤ 1e-06")
    assert addition["peer"] == "twenty additions"
    assert addition["ratio"] == pytest.approx(addition["peer_time"] / addition["ours"])
    assert (addition["met"], addition["unit"], addition["threads"]) == (True, "s", 1)
    assert (rival["met"], rival["peer"]) == (None, "none: it needs a GPU")


@pytest.mark.usefixtures("tests_pass")
def test_scripts_for_gpus_write_beside_the_others(package):
    (package / "benchmarks" / "gpu").mkdir()
    for folder in ("", "gpu"):
        script = package / "benchmarks" / folder / f"bench_{folder or 'cpu'}.py"
        main([value_row()], package="gonzo-core", script=str(script), arguments=[])
    shutil.rmtree(package / "benchmarks" / "gpu")
    assert set(results(package)[1]["suites"]) == {"bench_cpu", "bench_gpu"}


def test_a_row_moves_to_another_device():
    """The meta device stands for one that is not here."""
    row = on_device(time_row(), "meta", tests=["triton_tests/test_it.py"])
    assert all(tensor.device.type == "meta" for tensor in row.setup())
    assert row.tests == ["triton_tests/test_it.py"]
    assert (row.what, row.peer_name) == (time_row().what, time_row().peer_name)


@pytest.mark.usefixtures("tests_pass")
def test_a_missed_bar_is_named_and_fails(package, capsys):
    rows = [value_row(ours=lambda: 2e-6), time_row(caches="cold", bar=at_most(1e-9))]
    assert run(package, rows) == 1
    printed = capsys.readouterr().out
    assert "FAILED error of a kernel: 2e-06 misses ≤ 1e-06" in printed
    assert "FAILED addition: " in printed
    assert "cold caches" in printed
    assert [row["met"] for row in results(package)[1]["suites"]["bench_toy"]["rows"]] == [False] * 2


def test_nothing_is_measured_while_tests_fail(package, capsys):
    def never():
        raise AssertionError("measured all the same")

    assert run(package, [value_row(ours=never, tests=["tests/test_wrong.py"])]) == 1
    printed = capsys.readouterr().out
    assert "refused: its tests fail (tests/test_wrong.py)" in printed
    assert "assert 1 == 2" in printed
    assert results(package)[1]["suites"]["bench_toy"]["rows"] == []


def test_tests_that_do_not_exist_fail(package, capsys):
    assert run(package, [value_row(tests=["tests/test_none.py"])]) == 1
    assert "refused" in capsys.readouterr().out


@pytest.mark.usefixtures("tests_pass")
def test_a_part_writes_no_results(package, capsys):
    assert run(package, [value_row(), time_row()], "--only", "KERNEL") == 0
    assert "addition" not in capsys.readouterr().out
    assert not (package / "benchmarks" / "results").exists()
    with pytest.raises(SystemExit) as caught:
        run(package, [value_row()], "--only", "nothing")
    assert caught.value.code == 2
    assert "the rows are:\n  error of a kernel" in capsys.readouterr().err


@pytest.mark.usefixtures("tests_pass")
def test_scripts_share_one_file(package):
    run(package, [value_row()])
    script = str(package / "benchmarks" / "bench_other.py")
    main([value_row()], package="gonzo-core", script=script, arguments=[])
    assert set(results(package)[1]["suites"]) == {"bench_toy", "bench_other"}


@pytest.mark.usefixtures("tests_pass")
def test_rows_choose_their_threads(package):
    before = torch.get_num_threads()
    row = value_row(ours=torch.get_num_threads, threads=2, bar=None)
    run(package, [row])
    assert results(package)[1]["suites"]["bench_toy"]["rows"][0]["ours"] == 2
    assert torch.get_num_threads() == before


def test_provenance_names_no_machine():
    name = device_name("cpu")
    assert name
    assert "@" not in name
    assert slug("AMD EPYC 7B13 (64)") == "amd-epyc-7b13-64"
    assert {"python", "torch", "gonzo-core"} <= versions("gonzo-core").keys()


def test_commit_marks_changes(tmp_path):
    import subprocess

    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    assert commit(tmp_path) == "unknown"
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("1")
    git("init")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-m", "a")
    clean = commit(tmp_path)
    assert len(clean) == 12
    (tmp_path / "src" / "a.py").write_text("2")
    assert commit(tmp_path) == f"{clean} with changes"


def test_peak_memory_counts_what_a_call_allocates():
    size = 5_000_000
    measured = peak_memory(functools.partial(torch.ones, size))
    assert measured == pytest.approx(4 * size, rel=0.03)


def test_peak_memory_says_when_the_call_failed(capfd):
    with pytest.raises(RuntimeError, match="the call failed in its own process"):
        peak_memory(functools.partial(torch.ones, -1))
    capfd.readouterr()


def test_peak_memory_needs_linux(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(OSError, match="which only Linux has"):
        peak_memory(sum)
