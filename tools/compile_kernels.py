"""Compile every Triton kernel for GPUs that are not here, and hold them to the limits of a GPU.

python tools/compile_kernels.py [TEXT] [--write docs/kernels.md]

The launchers of each op run on meta tensors (packages/*/triton_tests/launches.py); what they would
launch, every tuned configuration of it, is specialised as a launch does and compiled. A spilled
register, too much shared memory, or a 16-bit matrix product without matrix instructions fails.
"""

import argparse
import contextlib
import importlib.util
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from gonzo.core.triton_kernels import Launch, recorded_launches

ROOT = Path(__file__).parents[1]
BINARIES = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Target:
    """A kind of GPU.

    Attributes:
        name: as compilers write it.
        gpu: for Triton.
        shared: bytes of shared memory that one block may use.
        device: one that it is.
    """

    name: str
    gpu: GPUTarget
    shared: int
    device: str


TARGETS = [
    Target("sm_80", GPUTarget("cuda", 80, 32), 163 << 10, "A100"),
    Target("sm_90", GPUTarget("cuda", 90, 32), 227 << 10, "H100"),
    Target("sm_100", GPUTarget("cuda", 100, 32), 227 << 10, "B200"),
    Target("gfx942", GPUTarget("hip", "gfx942", 64), 64 << 10, "MI300X"),
]


@dataclass(frozen=True)
class Variant:
    """One specialisation of a kernel for one target."""

    op: str
    launch: Launch
    target: Target

    def prepared(self) -> tuple[ASTSource, dict[str, Any]]:
        """What Triton compiles: exactly what a launch on that GPU would specialise."""
        backend = make_backend(self.target.gpu)
        kernel = self.launch.kernel
        bind = create_function_from_signature(kernel.signature, kernel.params, backend)
        bound, specialization, options = bind(**self.launch.arguments, **self.launch.options)
        options, *source = kernel._pack_args(backend, options, bound, specialization, options)
        return ASTSource(kernel, *source), options.__dict__

    @property
    def constants(self) -> str:
        """The constants and options that tell this variant from others, in words."""
        kernel = self.launch.kernel
        chosen = {p.name: self.launch.arguments[p.name] for p in kernel.params if p.is_constexpr}
        usual = {"enable_fp_fusion": True, "num_ctas": 1, "num_stages": 3}
        chosen |= {k: v for k, v in self.launch.options.items() if usual.get(k) != v}
        types = [str(a.dtype)[6:] for a in self.launch.arguments.values() if hasattr(a, "dtype")]
        return ", ".join([*dict.fromkeys(types), *(f"{k} {v}" for k, v in chosen.items())])


@dataclass(frozen=True)
class Compiled:
    """What a compiler made of a variant."""

    registers: int
    spills: int
    shared: int
    matrix: int
    due: bool

    def problems(self, target: Target) -> list[str]:
        """What a GPU would suffer from, in words."""
        found = []
        if self.spills:
            found.append(f"{self.spills} spilled registers")
        if self.shared > target.shared:
            found.append(f"{self.shared} bytes of shared memory, {target.name} has {target.shared}")
        if self.due and not self.matrix:
            found.append("a 16-bit matrix product without matrix instructions")
        return found


def variants(text: str) -> list[Variant]:
    """Every different kernel that the cases containing `text` would launch, for every target."""
    found: dict[tuple[Any, ...], Variant] = {}
    for op, case in _cases():
        with recorded_launches() as launches, torch.no_grad():
            case("meta")
        for launch in launches:
            for target in TARGETS:
                variant = Variant(op, launch, target)
                source, _ = variant.prepared()
                options = tuple(sorted(launch.options.items()))
                key = (source.hash(), launch.kernel.__name__, options, target)
                if text in f"{op} {launch.kernel.__name__}":
                    found.setdefault(key, variant)
    return list(found.values())


def compiled(variant: Variant) -> Compiled:
    """Compile `variant` and count."""
    source, options = variant.prepared()
    with open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
        result = triton.compile(source, target=variant.target.gpu, options=options)
    due = re.search(r"tt\.dot .*tensor<[\dx]+x(f16|bf16)> \*", result.asm["ttir"]) is not None
    shared = result.metadata.shared
    if variant.target.gpu.backend == "hip":
        text = result.asm["amdgcn"]
        return Compiled(
            registers=_number(r"\.vgpr_count:\s+(\d+)", text),
            spills=_number(r"\.vgpr_spill_count:\s+(\d+)", text)
            + _number(r"\.sgpr_spill_count:\s+(\d+)", text),
            shared=shared,
            matrix=len(re.findall(r"\bv_mfma", text)),
            due=due,
        )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(result.asm["cubin"])
        cubin.flush()
        usage = _output("cuobjdump", "-res-usage", cubin.name)
        code = _output("nvdisasm", "-c", cubin.name)
    return Compiled(
        registers=_number(r"REG:(\d+)", usage),
        # Registers go to local memory, which nothing else here uses.
        spills=len(re.findall(r"\b(?:STL|LDL)\b", code)) or _number(r"STACK:(\d+)", usage) // 4,
        shared=shared,
        matrix=len(re.findall(r"\b(?:HMMA|HGMMA|UTCHMMA|DMMA|IMMA)\b", code)),
        due=due,
    )


def _cases() -> Iterator[tuple[str, Any]]:
    for path in sorted(ROOT.glob("packages/*/triton_tests/launches.py")):
        spec = importlib.util.spec_from_file_location(path.parents[1].name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield from module.CASES.items()


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"{pattern} is not in what the compiler printed:\n{text[:500]}")
    return int(found[1])


def _output(program: str, *arguments: str) -> str:
    return subprocess.run(
        [BINARIES / program, *arguments], check=True, capture_output=True, text=True
    ).stdout


def _table(results: list[tuple[Variant, Compiled]]) -> str:
    """A row for each kernel, constants and all targets beside each other."""
    rows: dict[tuple[str, str, str], dict[str, Compiled]] = {}
    for variant, result in results:
        key = (variant.op, variant.launch.kernel.__name__.lstrip("_"), variant.constants)
        rows.setdefault(key, {})[variant.target.name] = result
    lines = [
        f"| op | kernel | types and constants | {' | '.join(t.name for t in TARGETS)} |",
        f"| --- | --- | --- | {' | '.join('---' for _ in TARGETS)} |",
    ]
    for (op, kernel, constants), by_target in rows.items():
        cells = " | ".join(_cell(by_target[t.name]) for t in TARGETS)
        lines.append(f"| {op} | `{kernel}` | {constants} | {cells} |")
    return "\n".join(lines)


def _cell(result: Compiled) -> str:
    shared = f"{result.shared / 1024:.3g} K" if result.shared else "0"
    return f"{result.registers} / {result.spills} / {shared} / {result.matrix}"


def _page(results: list[tuple[Variant, Compiled]]) -> str:
    names = ", ".join(f"{t.name} ({t.device})" for t in TARGETS)
    return f"""# Kernels

Every op of gonzo-core has Triton kernels beside its loops for the CPU. Where there is no GPU they
are proven in two ways: Triton's interpreter runs them against the reference, outputs and all
gradients (`nox -s triton`), and the compiler builds them for
{names}
(`nox -s aot`). Neither measures speed: that is `nox -s gpu_bench`, on a GPU.

The table is what the compiler made of them, with Triton {triton.__version__};
`nox -s aot` writes it. Each cell has: registers of a thread / spilled registers / KiB of shared
memory of a block / matrix instructions. A spill fails the job, and so do more shared memory than
the GPU has and a 16-bit matrix product without matrix instructions. Products and sums in float32
and float64 need none (MI300X has some for float32): float32 means IEEE arithmetic here, never TF32.

{_table(results)}
"""


def main() -> int:
    """Compile, print the table, write it where asked, and say what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", nargs="?", default="", help="only ops and kernels that contain it")
    parser.add_argument("--write", type=Path, help="the page to write the table to")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    found = variants(arguments.text)
    if not found:
        print(f"no kernel contains {arguments.text!r}")
        return 1
    # Forked, so that the workers have the kernels; nothing here has started a thread.
    fork = multiprocessing.get_context("fork")
    global _VARIANTS
    _VARIANTS = found
    with ProcessPoolExecutor(arguments.jobs, mp_context=fork) as pool:
        results = list(zip(found, pool.map(_compiled_at, range(len(found))), strict=True))
    print(_table(results))
    problems = [
        f"{v.op} {v.launch.kernel.__name__} for {v.target.name} ({v.constants}): {problem}"
        for v, result in results
        for problem in result.problems(v.target)
    ]
    print(f"\n{len(found)} kernels compiled for {', '.join(t.name for t in TARGETS)}")
    for problem in problems:
        print(f"FAILED {problem}", file=sys.stderr)
    if arguments.write and not problems:
        arguments.write.write_text(_page(results), encoding="utf-8")
        print(f"written: {arguments.write}")
    return 1 if problems else 0


_VARIANTS: list[Variant] = []


def _compiled_at(index: int) -> Compiled:
    return compiled(_VARIANTS[index])


if __name__ == "__main__":
    raise SystemExit(main())
