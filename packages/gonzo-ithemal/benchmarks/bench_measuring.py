"""Measuring: known answers, how many blocks have a value, how well two measurements agree, speed.

Run it on a machine that does nothing else. What other threads of a core take shows in every row.
"""

import functools
import os
import shutil
import subprocess
import sys
import time

import numpy as np

from gonzo.core.bench import ValueRow, at_most, main
from gonzo.ithemal import BasicBlock, extract, measure
from gonzo.ithemal.harness import Harness, Request
from gonzo.ithemal.measurement import cpu_model
from gonzo.ithemal.samples import COUNT, sample_blocks

TESTS = ["tests/test_measurement.py", "tests/test_sandbox.py"]
TWICE = 1000

# Cycles of a block that is repeated back to back: of its chain, or of the ports it needs. Of all
# processors, from Agner Fog's tables, uops.info and LLVM's models; and what differs between them.
EVERYWHERE = {
    "add rax, rbx": ("4801d8", 1),
    "imul rax, rbx": ("480fafc3", 3),
    "shl rax, 3": ("48c1e003", 1),
    "paddd xmm0, xmm1": ("660ffec1", 1),
}
ZEN_3 = {
    "mov rax, [rax]": ("488b00", 4),
    "addsd xmm0, xmm1": ("f20f58c1", 3),
    "mulsd xmm0, xmm1": ("f20f59c1", 3),
    "vaddps ymm0, ymm0, ymm1": ("c5fc58c1", 3),
    "divsd xmm0, xmm1": ("f20f5ec1", 13.5),
    "push rax; pop rax": ("5058", 1),
    "mov [rbx], rax": ("488903", 0.5),
}
GOLDEN_COVE = {
    "mov rax, [rax]": ("488b00", 5),
    "addsd xmm0, xmm1": ("f20f58c1", 2),
    "mulsd xmm0, xmm1": ("f20f59c1", 4),
    "vaddps ymm0, ymm0, ymm1": ("c5fc58c1", 2),
    "vfmadd213ps ymm0, ymm1, ymm2": ("c4e275a8c2", 4),
    "sqrtsd xmm0, xmm0": ("f20f51c0", 18),
    "pmulld xmm0, xmm1": ("660f3840c1", 10),
    "aesenc xmm0, xmm1": ("660f38dcc1", 3),
    "crc32 rax, rbx": ("f2480f38f1c3", 3),
    "popcnt rax, rax": ("f3480fb8c0", 3),
    "bswap rax": ("480fc8", 2),
    "pop rax": ("58", 1 / 3),
    "mov [rbx], rax": ("488903", 0.5),
}
OF = {"AuthenticAMD 25-": ZEN_3, **{f"GenuineIntel 6-{n}-": GOLDEN_COVE for n in (143, 151, 207)}}


def known():
    """Known answers of the processor that this is."""
    here = next((table for name, table in OF.items() if cpu_model().startswith(name)), {})
    return {**EVERYWHERE, **here}


def off(code, expected):
    """How far the measured cycles are from the known ones, in per cent."""
    (result,) = measure([BasicBlock.from_hex(code)], passes=9)
    return 100 * abs(result.cycles - expected) / expected


@functools.cache
def twice():
    """Two measurements of the same thousand blocks."""
    blocks = [sample.block for sample in sample_blocks(TWICE)]
    return measure(blocks), measure(blocks)


@functools.cache
def one_pass():
    """The status of every sample block in one pass, and the wall-clock seconds it took."""
    requests = [Request.of(sample.block) for sample in sample_blocks()]
    with Harness() as harness:
        harness.run(requests[:100])
        began = time.perf_counter()
        statuses = [timing.status for timing in harness.run(requests)]
        return statuses, time.perf_counter() - began


def without_value():
    statuses, _ = one_pass()
    return 100 * float(np.mean([status != "ok" for status in statuses]))


def per_pass():
    """Milliseconds on the wall for a thousand block passes: the work is in other processes."""
    statuses, seconds = one_pass()
    return 1e6 * seconds / len(statuses)


def disagreement():
    pairs = [
        (a.cycles, b.cycles) for a, b in zip(*twice(), strict=True) if a.accepted and b.accepted
    ]
    return 100 * float(np.mean([max(pair) / min(pair) > 1.05 for pair in pairs]))


def per_block(path):
    """Milliseconds of extraction per thousand blocks found, duplicates and all."""
    began = time.process_time()
    found = extract(path).found
    return 1e6 * (time.process_time() - began) / found


def disassembly(path):
    """The same for objdump -d, which decodes and prints, by the same number of blocks."""
    before = os.times()
    subprocess.run(["objdump", "-d", path], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    seconds = after.children_user + after.children_system
    seconds -= before.children_user + before.children_system
    return 1e6 * seconds / extract(path).found


def program():
    return shutil.which("git") or sys.executable


ROWS = [
    *(ValueRow(what=f"{text}: off from {expected:.3g} cycles", unit="%",
               ours=functools.partial(off, code, expected),
               bar=at_most(5 if expected <= 1 else 2), tests=TESTS)
      for text, (code, expected) in known().items()),
    ValueRow(what=f"of {COUNT} real blocks, without a value", unit="%", ours=without_value,
             bar=at_most(3), tests=TESTS),
    ValueRow(what=f"of {TWICE} real blocks, accepted twice and more than 5 % apart", unit="%",
             ours=disagreement, bar=at_most(4), tests=TESTS),
    ValueRow(what="wall time of 1000 block passes, sandbox on, one core", unit="ms",
             ours=per_pass, bar=at_most(1000), tests=TESTS,
             no_peer="BHive's harness needs a performance counter that guests do not have"),
    ValueRow(what="extract, CPU time per 1000 blocks found", unit="ms",
             ours=functools.partial(per_block, program()),
             peer=functools.partial(disassembly, program()),
             peer_name="objdump -d of the same file",
             bar=at_most(1000 / 30), tests=["tests/test_extraction.py"]),
]  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-ithemal", script=__file__))
