"""Measuring: known latencies, statuses, journals, and machines that cannot."""

import itertools
import math
import platform
import stat
import time

import pytest

from gonzo.ithemal import harness as harness_module
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.harness import HarnessError, Pass, Request, build
from gonzo.ithemal.measurement import STEADY, _settled, _summary, cpu_model, measure

ADD = BasicBlock.from_hex("4801d8")  # add rax, rbx
IMUL = BasicBlock.from_hex("480fafc3")  # imul rax, rbx
LOAD = BasicBlock.from_hex("488b00")  # mov rax, [rax]
STORE = BasicBlock.from_hex("488903")  # mov [rbx], rax


@pytest.mark.measures
def test_chains_last_as_long_as_their_latencies():
    # Chains of one instruction each: what another thread on the core takes, they do not need.
    add, imul, both = measure([ADD, IMUL, BasicBlock(IMUL.code + ADD.code)])
    assert add.cycles == pytest.approx(1, rel=0.2)
    assert imul.cycles == pytest.approx(3, rel=0.1)
    assert both.cycles == pytest.approx(4, rel=0.1)


@pytest.mark.measures
def test_a_chain_through_memory_finds_its_way():
    # Every word of memory is a pointer to more of it, so that pointers can be followed for ever.
    (load,) = measure([LOAD])
    assert load.status == "ok"
    assert 3 < load.cycles < 7
    assert (load.pages, load.aliased) == (1, False)


@pytest.mark.measures
def test_a_rip_relative_operand_reaches_one_address_from_every_copy():
    # A chain through one memory word: copies that meant different words would not wait.
    one = BasicBlock.from_hex("480305f00f0000488905e90f0000")  # add rax, [rip+x]; mov [rip+x], rax
    (through_memory,) = measure([one])
    assert through_memory.status == "ok"
    assert through_memory.pages == 1
    # mov [rip+x], rax; then the same word is loaded, copy after copy, whatever the distance
    assert through_memory.cycles >= 1


@pytest.mark.measures
def test_more_pages_than_physical_ones_are_flagged():
    walk = BasicBlock.from_hex("488900480500100000")  # mov [rax], rax; add rax, 4096
    few = BasicBlock.from_hex("48890048898000100000")  # two pages
    walked, fixed = measure([walk, few])
    assert walked.status == "too many pages"
    assert math.isnan(walked.cycles)
    assert (fixed.status, fixed.pages, fixed.aliased) == ("ok", 2, False)


@pytest.mark.measures
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("31c948f7f1", "division"),  # xor ecx, ecx; div rcx
        ("31c0488b00", "low address"),  # xor eax, eax; mov rax, [rax]
        ("48b84141414141414141488b00", "bad address"),
        ("0f05", "refused: system"),
        ("eb00", "refused: control flow"),
    ],
)
def test_a_block_without_a_value_says_why(code, status):
    (result,) = measure([BasicBlock.from_hex(code)])
    assert result.status == status
    assert math.isnan(result.cycles)
    assert not result.accepted


@pytest.mark.measures
def test_a_journal_is_taken_up_where_it_was_left(tmp_path):
    journal = tmp_path / "passes.csv"
    blocks = [ADD, IMUL, LOAD, STORE]
    first = measure(blocks, journal=journal)
    lines = journal.read_text().splitlines(keepends=True)
    began = time.monotonic()
    assert measure(blocks, journal=journal) == first
    assert time.monotonic() - began < 30
    assert journal.read_text() == "".join(lines)
    # Cut within a line, as by a kill: that pass is lost, and made again.
    journal.write_text("".join(lines[:-3]) + lines[-3][:-9])
    again = measure(blocks, journal=journal)
    assert journal.read_text().startswith("".join(lines[:-3]))
    assert len(journal.read_text().splitlines()) >= len(lines)
    assert [m.hex for m in again] == [m.hex for m in first]
    assert all(m.passes >= 5 for m in again)


@pytest.mark.measures
def test_another_machines_journal_is_refused(tmp_path):
    journal = tmp_path / "passes.csv"
    measure([ADD], journal=journal)
    text = journal.read_text()
    journal.write_text(text.replace("# ", "# Another ", 1))
    with pytest.raises(ValueError, match="was begun on another processor"):
        measure([ADD], journal=journal)
    journal.write_text(text + "not a pass\n")
    with pytest.raises(ValueError, match="a line that is no pass: 'not a pass'"):
        measure([ADD], journal=journal)


@pytest.mark.measures
@pytest.mark.parametrize("note", ["a precious note", "a precious note\n"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, note):
    journal = tmp_path / "passes.csv"
    journal.write_text(note)
    with pytest.raises(ValueError, match="or is no journal of passes: it begins with 'a precious"):
        measure([ADD], journal=journal)
    assert journal.read_text() == note


@pytest.mark.measures
def test_a_journal_that_was_cut_in_its_head_is_begun_again(tmp_path):
    journal = tmp_path / "passes.csv"
    measure([ADD], journal=journal)
    whole = journal.read_text()
    journal.write_text(whole[:20])
    measure([ADD], journal=journal)
    assert journal.read_text().splitlines()[:2] == whole.splitlines()[:2]


@pytest.mark.measures
def test_two_measurements_do_not_share_a_journal(tmp_path):
    journal = tmp_path / "passes.csv"
    refused = []

    def second(_done, _total):
        with pytest.raises(ValueError, match="is in use by another measurement") as error:
            measure([IMUL], journal=journal)
        refused.append(error)

    first = measure([ADD], journal=journal, progress=second)
    assert refused
    assert measure([ADD], journal=journal) == first


@pytest.mark.measures
def test_workers_and_repeated_blocks_give_one_answer_each():
    seen = []
    results = measure([IMUL, ADD, IMUL], workers=2, progress=lambda *now: seen.append(now))
    assert [result.hex for result in results] == [IMUL.hex, ADD.hex, IMUL.hex]
    assert results[0] == results[2]
    assert seen[-1][0] == seen[-1][1]
    assert all(a <= b for (a, _), (b, _) in itertools.pairwise(seen))


def _pass(cycles, quiet=24, status="ok"):
    return Pass(status, cycles, 0.0, 1.0, 0, quiet)


def test_the_second_smallest_of_the_quiet_passes_is_the_result():
    timings = [_pass(1.0), _pass(1.01), _pass(1.02), _pass(3.0), _pass(0.5, quiet=0)]
    result = _summary(ADD, timings, "cpu")
    assert result.cycles == 1.01
    assert result.spread == pytest.approx(0.02)
    assert result.accepted
    # Where quiet passes are too few, all count.
    noisy = [_pass(c, quiet=0) for c in (2.0, 1.0, 1.5)] + [_pass(1.2)]
    assert _summary(ADD, noisy, "cpu").cycles == 1.2
    assert not _summary(ADD, noisy, "cpu").accepted
    assert STEADY < 0.5


def test_blocks_get_more_passes_until_they_agree():
    steady = [_pass(1.0)] * 5
    assert _settled(steady, 5)
    assert not _settled(steady[:4], 5)
    wild = [_pass(1.0 + i) for i in range(5)]
    assert not _settled(wild, 5)
    assert _settled(wild + [_pass(1.0)] * 2, 5)
    assert _settled([_pass(1.0 + i) for i in range(15)], 5)
    noisy = [_pass(1.0, quiet=0)] * 2 + [_pass(1.0)] * 4
    assert not _settled(noisy, 5)
    failed = [_pass(math.nan, status="division")]
    assert not _settled(failed, 5)
    assert _settled(failed * 2, 5)


def test_a_block_that_mostly_fails_has_no_value():
    timings = [_pass(math.nan, 0, "division")] * 2 + [_pass(1.0)]
    result = _summary(ADD, timings, "cpu")
    assert (result.status, result.passes) == ("division", 3)
    assert math.isnan(result.cycles)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"passes": 2}, "expected at least 3 passes, got 2"),
        ({"workers": 0}, "expected at least 1 worker, got 0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        measure([ADD], **arguments)


def test_copies_fill_the_window_and_not_the_cache():
    one = Request(b"\x90", 1)
    assert one.copies == 1000
    long = Request(b"\x90" * 1024, 200)
    assert long.copies == 12
    assert Request(b"\x90" * 300, 30).copies * 300 <= 12 * 1024


def test_the_processor_has_numbers_and_a_name():
    name = cpu_model()
    assert name
    assert name == name.strip()
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        assert name.split()[1].count("-") == 2


def test_other_systems_are_refused_kindly(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(HarnessError, match="needs Linux on x86-64; this is Linux on aarch64"):
        build()
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(HarnessError, match="predicting work here too"):
        build()


@pytest.mark.measures
class TestBuilding:
    def test_once_into_a_folder_of_ones_own(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        program = build()
        assert program.parent == tmp_path / "gonzo" / "ithemal"
        assert stat.S_IMODE(program.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(program.stat().st_mode) == 0o700
        made = program.stat().st_mtime_ns
        assert build() == program
        assert program.stat().st_mtime_ns == made
        assert [path.name for path in program.parent.iterdir()] == [program.name]

    def test_a_relative_cache_folder(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("XDG_CACHE_HOME", "cache")
        assert harness_module.counter(build()) in ("rdtsc", "rdpmc")

    def test_a_compiler_that_hangs(self, monkeypatch, tmp_path):
        compiler = tmp_path / "cc"
        compiler.write_text("#!/bin/sh\nexec sleep 60\n")
        compiler.chmod(0o755)
        with pytest.raises(HarnessError, match=r"cc did not end within 0\.1 s"):
            harness_module._finished([compiler], 0.1)

    def test_without_a_compiler(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CC", raising=False)
        with pytest.raises(HarnessError, match=r"there is no C compiler.*apt install gcc"):
            build()

    def test_with_a_compiler_that_fails(self, monkeypatch, tmp_path):
        compiler = tmp_path / "cc"
        compiler.write_text("#!/bin/sh\necho 'stdio.h: no such file' >&2\nexit 1\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("CC", str(compiler))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        with pytest.raises(HarnessError, match=r"(?s)cannot compile .*no such file"):
            build()
        assert list((tmp_path / "cache" / "gonzo" / "ithemal").iterdir()) == []

    def test_where_no_folder_can_be_made(self, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(HarnessError, match="Set XDG_CACHE_HOME to a folder of your own"):
            build()

    def test_a_kernel_without_seccomp_is_refused(self, tmp_path):
        program = tmp_path / "program"
        program.write_text("#!/bin/sh\nexit 4\n")
        program.chmod(0o755)
        with pytest.raises(HarnessError, match="blocks are not run unfiltered"):
            harness_module.counter(program)
