"""The measuring program: compiled once by the system's C compiler, spoken to through pipes.

`harness.c` says what it does. It is compiled on first use and kept under the hash of its source,
of the compiler and of the flags, in a folder that nobody else may enter.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from .admit import locked, vector_width
from .block import BasicBlock, displacements

__all__ = ["Harness", "HarnessError", "Pass", "Request", "build", "counter", "find_compiler"]

_SOURCE = Path(__file__).with_name("harness.c")
_FLAGS = ("-O2", "-std=gnu11", "-fno-stack-protector", "-lm")
_MAGIC = 0x6F7A6E67
_REQUEST = struct.Struct("<10I")
_ANSWER = struct.Struct("<2I3d2I")
_UNROLLED_INSTRUCTIONS = 3000
_UNROLLED_BYTES = 12 * 1024
_MOST_COPIES = 1000
_FEWEST_COPIES = 8

_STATUS = (
    "ok",
    "no result",
    "low address",
    "bad address",
    "protected memory",
    "too many pages",
    "late fault",
    "signal",
    "time-out",
    "unstable",
    "set-up",
)
_SIGNALS = {
    signal.SIGFPE: "division",
    signal.SIGILL: "illegal instruction",
    signal.SIGBUS: "alignment",
    signal.SIGSYS: "system call",
    signal.SIGTRAP: "trap",
    signal.SIGSEGV: "bad address",
    signal.SIGKILL: "killed",
}


class HarnessError(RuntimeError):
    """This machine cannot measure; the message says why, and what would help."""


class Pass(NamedTuple):
    """What one timing of a block gave."""

    status: str
    """`ok`, or why there is no number."""
    cycles: float
    """Core cycles per repetition of the block; NaN where the status is not `ok`."""
    spread: float
    """Median absolute deviation over the trials, over the median."""
    clock: float
    """Ticks of the counter per core cycle: 1 where the counter counts core cycles."""
    pages: int
    """Virtual pages that the block touches."""
    quiet: int
    """Trials that no other thread on the core disturbed; 0 where there were too few to go by."""


@dataclass(frozen=True)
class Request:
    """Code to time, and how.

    Args:
        code: the bytes, as if they began at `BLOCK_BASE`.
        instructions: how many there are.
        fixups: offsets of the four-byte displacements that count from the instruction pointer.
        vector: the widest vector registers in use, in bytes: 0, 16, 32 or 64.
        locked: whether it locks the bus, so that misaligned accesses must be trapped.
        trials: timings of both lengths.
        timeout: seconds until the child is killed.
        pages: physical pages behind all that the block touches, 1 to 8.
    """

    code: bytes
    instructions: int
    fixups: tuple[int, ...] = ()
    vector: int = 0
    locked: bool = False
    trials: int = 24
    timeout: float = 1.0
    pages: int = 8

    @classmethod
    def of(cls, block: BasicBlock, *, trials: int = 24, pages: int = 8) -> Self:
        """Return the request for a block."""
        instructions = block.instructions
        return cls(
            block.code,
            len(instructions),
            tuple(at for at, _, _ in displacements(block.code)),
            vector_width(instructions),
            locked(instructions),
            trials,
            pages=pages,
        )

    @property
    def copies(self) -> int:
        """How often the block is repeated: about 3000 instructions, within 12 KiB."""
        copies = min(_MOST_COPIES, max(_FEWEST_COPIES, _UNROLLED_INSTRUCTIONS // self.instructions))
        copies = max(_FEWEST_COPIES, min(copies, _UNROLLED_BYTES // len(self.code)))
        return copies - copies % 2

    def packed(self) -> bytes:
        """Return the bytes that harness.c reads."""
        head = _REQUEST.pack(
            _MAGIC,
            len(self.code),
            self.copies,
            len(self.fixups),
            self.vector,
            self.locked,
            self.trials,
            int(self.timeout * 1000),
            self.pages,
            self.instructions,
        )
        return head + self.code + struct.pack(f"<{len(self.fixups)}H", *self.fixups)


class Harness:
    """A running measuring program. Use it as a context manager.

    Raises:
        HarnessError: this machine cannot measure.
    """

    def __init__(self) -> None:
        program = build()
        self._process = subprocess.Popen(
            [program, counter(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={},
        )
        (first,) = self.run([Request(b"\x90", 1, trials=8)])
        if first.status == "set-up":
            self.close()
            raise HarnessError(
                "a measuring child cannot build its sandbox here: a resource limit, a signal "
                "stack, read-only code or the filter of system calls is refused to it"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the program."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def run(self, requests: Sequence[Request]) -> list[Pass]:
        """Time each request once.

        Raises:
            HarnessError: the program ended.
        """
        done: list[Pass] = []
        for start in range(0, len(requests), 16):  # fits the pipes' buffers, so neither side waits
            some = requests[start : start + 16]
            self._write(b"".join(request.packed() for request in some))
            done += [self._answer() for _ in some]
        return done

    def _write(self, message: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(message)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _answer(self) -> Pass:
        assert self._process.stdout is not None
        packed = self._process.stdout.read(_ANSWER.size)
        if len(packed) < _ANSWER.size:
            raise self._ended()
        status, pages, cycles, spread, clock, quiet, detail = _ANSWER.unpack(packed)
        # A block may have written any of it: whatever it says is a status, and no reason to stop.
        name = _STATUS[status] if status < len(_STATUS) else "no result"
        if name == "signal":
            name = _SIGNALS.get(detail, f"signal {detail}")
        if name != "ok":
            cycles = spread = clock = float("nan")
        return Pass(name, cycles, spread, clock, pages, quiet)

    def _ended(self) -> HarnessError:
        assert self._process.stderr is not None
        code = self._process.wait()
        said = self._process.stderr.read().decode(errors="replace").strip()
        return HarnessError(f"the measuring program ended with {code}: {said or 'no message'}")


def build() -> Path:
    """Return the compiled program, compiling it unless that was done before.

    Raises:
        HarnessError: another system or processor, no compiler, or a folder that others can enter.
    """
    system, processor = platform.system(), platform.machine()
    if system != "Linux" or processor not in ("x86_64", "AMD64"):
        raise HarnessError(
            f"measuring needs Linux on x86-64; this is {system} on {processor}. Extracting, "
            "training on measured tables and predicting work here too."
        )
    compiler = find_compiler()
    key = hashlib.sha256()
    for part in (_SOURCE.read_bytes(), os.fsencode(compiler), _version(compiler), *_FLAGS):
        key.update(part if isinstance(part, bytes) else part.encode())
    program = _folder() / f"harness-{key.hexdigest()[:32]}"
    if program.exists():
        return program
    handle, unfinished = tempfile.mkstemp(dir=program.parent, prefix="unfinished-")
    os.close(handle)
    try:
        compiled = _finished([compiler, "-x", "c", str(_SOURCE), "-o", unfinished, *_FLAGS], 120)
        if compiled.returncode != 0:
            said = compiled.stderr.strip() or f"it ended with {compiled.returncode}"
            raise HarnessError(f"{compiler} cannot compile {_SOURCE}:\n{said}")
        os.chmod(unfinished, 0o700)
        os.replace(unfinished, program)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
    return program


def counter(program: Path) -> str:
    """Return what the program counts with: `rdpmc` (core cycles) or `rdtsc` (time, and a clock).

    Raises:
        HarnessError: the kernel does not filter system calls.
    """
    probe = _finished([program, "probe"], 10, cwd="/", env={})
    if probe.returncode == 4:
        raise HarnessError(
            "this kernel does not filter system calls (seccomp), and blocks are not run "
            "unfiltered. In a container, seccomp must be allowed inside it; under gVisor or WSL 1 "
            "it is not there."
        )
    if probe.returncode != 0:
        raise HarnessError(f"the measuring program failed: {probe.stderr.strip()}")
    return probe.stdout.strip()


def find_compiler() -> str:
    """Return the C compiler to take: $CC, cc, gcc or clang, the first that is there.

    Raises:
        HarnessError: there is none.
    """
    wanted = os.environ.get("CC", "cc")
    for name in (wanted, "cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return found
    raise HarnessError(
        "measuring compiles a small C program, and there is no C compiler (looked for $CC, cc, gcc "
        "and clang). Install one: apt install gcc libc6-dev, dnf install gcc, apk add gcc musl-dev "
        "linux-headers, or pacman -S gcc."
    )


def _version(compiler: str) -> bytes:
    return _finished([compiler, "--version"], 30).stdout.encode()


def _finished(
    command: Sequence[str | Path], seconds: float, **options: Any
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds, **options
        )
    except subprocess.TimeoutExpired:
        raise HarnessError(f"{command[0]} did not end within {seconds:g} s") from None


def _folder() -> Path:
    """The cache folder, which nobody else may enter: what lies there is executed."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser().absolute() / "gonzo" / "ithemal"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        found = folder.stat()
    except OSError as error:
        raise HarnessError(
            f"cannot make the folder {folder} for the measuring program: {error.strerror}. "
            "Set XDG_CACHE_HOME to a folder of your own."
        ) from error
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise HarnessError(
            f"{folder} belongs to or is open to others; expected mode 0700 of your own"
        )
    return folder
