"""What hostile code can do: nothing but end its own child.

The code here goes to the measuring program directly, past the list of admitted instructions that
stands before it, so that the sandbox is alone.
"""

import io
import math
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gonzo.ithemal.admit import refusal
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.harness import _ANSWER, Harness, HarnessError, Pass, Request

pytestmark = pytest.mark.measures

ORDINARY = [
    "a stack pointer of zero",
    "a stack pointer that is no address",
    "a write to every answer page it can find",
    "division by zero",
    "kernel address",
    "locked across a line",
    "write to its own code",
    "write to the stub",
]
"""Of the nasty list: made of instructions that compilers emit; the sandbox alone stops them."""

ANY = None
"""The child may end in any way that is its own: it harms itself alone."""
DEAD = (
    "bad address",
    "protected memory",
    "illegal instruction",
    "trap",
    "alignment",
    "division",
    "too many pages",
    "late fault",
    "low address",
    "system call",
    "killed",
)

NASTY = [
    ("syscall read", "b800000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall write", "b801000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall open", "b802000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall mprotect", "b80a000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall ioctl", "b810000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall clone", "b838000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall fork", "b839000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall execve", "b83b000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall kill", "b83e000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall ptrace", "b865000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall prctl", "b89d000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall socket", "b829000000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall memfd_create", "b83f010000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall seccomp_strict", "b83d010000bf01000000be00403202ba080000000f05", ("system call",)),
    ("syscall kill of everything", "b83e00000048c7c7ffffffffbe090000000f05", ("system call",)),
    (
        "syscall mmap, executable",
        "b80900000031ffbe00100000ba0700000041ba2200000049c7c0ffffffff4531c90f05",
        ("system call",),
    ),
    (
        "syscall mremap over code",
        "b819000000bf0040320248893f31f6ba0010000041ba0300000041b8000000100f0590",
        DEAD,
    ),
    (
        "syscall mremap of real memory",
        "b819000000bf00403202be00100000ba0010000041ba0300000041b8000000300f05",
        ("system call",),
    ),
    ("syscall rt_sigreturn", "b80f0000000f05", ("bad address", "killed")),
    ("syscall exit_group", "b8e700000031ff0f05", ("no result",)),
    ("syscall of the x32 interface", "b801000040bf010000000f05", ("system call",)),
    ("sysenter", "0f34", DEAD),
    ("int 0x80, number 1", "b801000000bb01000000cd80", ("system call",)),
    ("int 0x80, number 2", "b802000000bb01000000cd80", ("system call",)),
    ("int 0x80, number 4", "b804000000bb01000000cd80", ("system call",)),
    ("int 0x80, number 5", "b805000000bb01000000cd80", ("system call",)),
    ("int 0x80, number 11", "b80b000000bb01000000cd80", ("system call",)),
    ("int 0x80, number 37", "b825000000bb01000000cd80", ("system call",)),
    ("int 0x80, number 90", "b85a000000bb01000000cd80", ("system call",)),
    ("int 0x80, number 120", "b878000000bb01000000cd80", ("system call",)),
    ("int 0x80, number 190", "b8be000000bb01000000cd80", ("system call",)),
    ("far return to nowhere", "48cb", DEAD),
    (
        "far return to 32-bit code, then int 0x80",
        "6a23680b00001048cb909090b801000000cd80",
        ("system call",),
    ),
    ("iretq", "48cf", DEAD),
    ("wrfsbase", "f3480faed0", ANY),
    ("wrgsbase", "f3480faed865488b042500000000", ANY),
    ("mov to a segment register", "8ed8", DEAD),
    ("popf with the trap flag", "9c810c24000100009d9090", DEAD),
    ("popf with alignment checks", "9c810c24000004009d488b4301", DEAD),
    ("popf with the direction flag", "9c810c24000400009d", ANY),
    ("jump to the stub", "b80000ff0fffe0", ANY),
    ("jump to code of the program", "488b24250000fe0f488b4424304883e840ffe0", ANY),
    ("jump to data", "b8004032028800ffe0", DEAD),
    ("endless loop", "ebfe", ("time-out",)),
    ("write to its own code", "c604250000001090", DEAD),
    ("write to the stub", "c704250000ff0f00000000", DEAD),
    ("write to the control page", "bf0000fe0fb90010000031c0f3aa", ANY),
    ("write to every page it can map", "488900480500100000ebf5", DEAD),
    (
        "a write to every answer page it can find",
        "488b3c250000fe0f488b7738488906488b7740488906488b7748488906",
        ANY,
    ),
    ("a stack pointer of zero", "31e450", DEAD),
    ("a stack pointer that is no address", "48bc414141414141414150", DEAD),
    ("hlt", "f4", DEAD),
    ("cli", "fa", DEAD),
    ("in", "e460", DEAD),
    ("out", "e664", DEAD),
    ("lgdt", "0f0110", DEAD),
    ("mov to cr0", "0f22c0", DEAD),
    ("wrmsr", "0f30", DEAD),
    ("vmcall", "0f01c1", ANY),
    ("ud2", "0f0b", DEAD),
    ("int3", "cc", DEAD),
    ("icebp", "f1", DEAD),
    ("cpuid", "0fa2", ANY),
    ("rdtsc", "0f31", ANY),
    ("ldmxcsr unmasking", "c703000000000fae13f30f5ec1f30f51c8f30f5ec2", DEAD),
    ("division by zero", "31c9f7f1", DEAD),
    ("clflush of the control page", "0fae3c250000fe0f", ANY),
    ("xsave", "0fae20", ANY),
    ("prefixes only", "666666666666666666666666666666", ANY),
    ("cut-off instruction", "4805", ANY),
    ("locked across a line", "f083403e01", ANY),
    ("kernel address", "48c7c000000081488b18", DEAD),
    ("vsyscall", "48c7c0000060ffffd0", ("system call",)),
    ("sysenter with the number of exit", "b8010000000f34", DEAD),
]


class World:
    """What a hostile child could want to change, as it is now."""

    def __init__(self, harness: Harness, folder: Path) -> None:
        self._pid = harness._process.pid
        self._folder = folder
        self._before = self._look()

    def _look(self) -> dict[str, object]:
        status = Path(f"/proc/{self._pid}/status").read_text()
        wanted = ("Threads", "SigBlk", "SigIgn", "SigCgt", "Seccomp", "NoNewPrivs")
        maps = Path(f"/proc/{self._pid}/maps").read_text().splitlines()
        return {
            "state": {line for line in status.splitlines() if line.split(":")[0] in wanted},
            "descriptors": sorted(os.listdir(f"/proc/{self._pid}/fd")),
            "code": [line for line in maps if "x" in line.split()[1]],
            "writable code": [line for line in maps if {"w", "x"} <= set(line.split()[1])],
            "children": Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text(),
            "canary": (self._folder / "canary").read_text(),
            "files": sorted(os.listdir(self._folder)),
            "shared memory": sorted(os.listdir("/dev/shm")),
            "root": sorted(os.listdir("/")),
            "here": os.getcwd(),
            "our descriptors": len(os.listdir("/proc/self/fd")),
        }

    def check(self) -> None:
        now = self._look()
        assert now == self._before
        assert now["writable code"] == []
        assert now["children"] == ""


@pytest.fixture(scope="module")
def harness():
    with Harness() as running:
        yield running


@pytest.fixture
def world(harness, tmp_path):
    (tmp_path / "canary").write_text("alive")
    _still_right(harness)
    return World(harness, tmp_path)


def _still_right(harness: Harness) -> None:
    """Multiplications that wait for each other last three cycles, before and after."""
    for _ in range(20):
        (timing,) = harness.run([Request(bytes.fromhex("480fafc3"), 1)])
        assert timing.status == "ok"
        if timing.cycles == pytest.approx(3, rel=0.1):
            return
    raise AssertionError(f"imul rax, rbx took {timing.cycles} cycles")


@pytest.mark.parametrize(
    ("name", "code", "expected"), NASTY, ids=[name.replace(" ", "-") for name, _, _ in NASTY]
)
def test_the_nasty_list_harms_only_itself(harness, world, name, code, expected):
    (timing,) = harness.run([Request(bytes.fromhex(code), 1, timeout=0.1)])
    if expected is not ANY:
        assert timing.status in expected, name
    world.check()
    _still_right(harness)


def test_the_nasty_list_is_not_admitted_in_the_first_place():
    admitted = []
    for name, code, _ in NASTY:
        try:
            block = BasicBlock.from_hex(code)
        except ValueError:
            continue
        if refusal(block.instructions) is None:
            admitted.append(name)
    assert sorted(admitted) == ORDINARY


def test_five_thousand_random_strings_of_bytes(harness, world):
    generator = random.Random(0)
    requests = [
        Request(generator.randbytes(generator.randint(1, 40)), 1, trials=8, timeout=0.03)
        for _ in range(5000)
    ]
    seen = {timing.status for timing in harness.run(requests)}
    assert {"ok", "bad address", "illegal instruction"} <= seen
    world.check()
    _still_right(harness)


@pytest.mark.parametrize(
    ("status", "detail", "said"),
    [
        (10, 2**32 - 1, "set-up"),
        (10, 7, "set-up"),
        (7, 2**31, f"signal {2**31}"),
        (99, 0, "no result"),
    ],
)
def test_what_a_child_says_is_never_a_reason_to_stop(harness, monkeypatch, status, detail, said):
    # A block can call the code that leaves an answer, with arguments of its own.
    forged = _ANSWER.pack(status, 0, 1.0, 0.0, 1.0, 24, detail)
    monkeypatch.setattr(harness, "_process", SimpleNamespace(stdout=io.BytesIO(forged)))
    timing = harness._answer()
    assert timing.status == said
    assert math.isnan(timing.cycles)


def test_a_sandbox_that_cannot_be_built_is_said_at_the_start(monkeypatch):
    monkeypatch.setattr(
        Harness, "run", lambda *_: [Pass("set-up", math.nan, math.nan, math.nan, 0, 0)]
    )
    with pytest.raises(HarnessError, match="cannot build its sandbox here"):
        Harness()


def test_a_locked_instruction_across_a_line_never_runs(harness, world):
    # It would stall every core of the machine; kernels even slow the offender down on purpose.
    block = BasicBlock.from_hex("f083403e01")
    (timing,) = harness.run([Request.of(block)])
    assert timing.status == "alignment"
    aligned = BasicBlock.from_hex("f083404001")
    assert harness.run([Request.of(aligned)])[0].status == "ok"
    world.check()


def test_a_child_dies_with_its_parent():
    with Harness() as harness:
        pid = harness._process.pid
        harness._write(Request(b"\xeb\xfe", 1, timeout=30).packed())
        children = _wait_for_children(pid)
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while any(_alive(child) for child in children):
            assert time.monotonic() < deadline, "the child outlived its parent"
            time.sleep(0.01)


def test_a_program_that_ended_is_reported():
    with Harness() as harness:
        harness._process.kill()
        harness._process.wait()
        with pytest.raises(HarnessError, match="the measuring program ended with -9"):
            harness.run([Request(b"\x90", 1)])


def test_what_is_no_request_ends_the_program_with_a_word():
    with Harness() as harness:
        harness._write(b"\0" * 40)
        with pytest.raises(HarnessError, match="not a request"):
            harness._answer()


def test_nothing_is_inherited(harness):
    environment = Path(f"/proc/{harness._process.pid}/environ").read_bytes()
    assert environment == b""
    links = [os.readlink(link) for link in Path(f"/proc/{harness._process.pid}/fd").iterdir()]
    assert all(link.startswith("pipe:") for link in links)


def _wait_for_children(pid: int) -> list[int]:
    deadline = time.monotonic() + 5
    while True:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if found:
            return [int(child) for child in found]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_the_program_compiles_without_a_warning(tmp_path):
    import gonzo.ithemal.harness as module

    strict = ["-Wall", "-Wextra", "-Werror"]
    command = [module.find_compiler(), *module._FLAGS, *strict, "-x", "c", str(module._SOURCE)]
    built = subprocess.run([*command, "-o", tmp_path / "h", "-lm"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
