"""What OSACA says a block costs, where the user has installed its command.

OSACA (Laukemann et al., "Automated Instruction Stream Throughput Prediction for Intel and AMD
Microarchitectures", 2018) adds up how long each port of the processor is busy, and how long the
longest chain of operations from one repetition to the next is. The larger one is the prediction.

It is free software under the AGPL and runs as a program of its own, one process a block: about two
blocks a second.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gonzo.ithemal.block import BasicBlock

__all__ = ["architecture", "find", "osaca", "version"]

_ARCHITECTURES = {
    ("GenuineIntel", 6, "SNB"): (42, 45),
    ("GenuineIntel", 6, "IVB"): (58, 62),
    ("GenuineIntel", 6, "HSW"): (60, 63, 69, 70),
    ("GenuineIntel", 6, "BDW"): (61, 71, 79, 86),
    ("GenuineIntel", 6, "SKX"): (78, 85, 94),
    ("GenuineIntel", 6, "ICL"): (125, 126),
    ("GenuineIntel", 6, "ICX"): (106, 108),
    ("GenuineIntel", 6, "SPR"): (143, 207),
    ("AuthenticAMD", 23, "ZEN1"): range(0x30),
    ("AuthenticAMD", 23, "ZEN2"): range(0x30, 0x100),
    ("AuthenticAMD", 25, "ZEN3"): (*range(0x10), *range(0x20, 0x60)),
    ("AuthenticAMD", 25, "ZEN4"): (*range(0x10, 0x20), *range(0x60, 0xB0)),
}


def find(program: str = "osaca") -> str:
    """Return the path of the command.

    Raises:
        ValueError: it is not installed.
    """
    found = shutil.which(program)
    if found is None:
        raise ValueError(
            f"{program} is not installed. OSACA is a program of its own (licence: AGPL); "
            "to install its command: uv tool install osaca, or pipx install osaca"
        )
    return found


def version(program: str = "osaca") -> str:
    """Return the version of the command, such as "0.7.1".

    Raises:
        ValueError: it is not installed, or does not say.
    """
    path = find(program)
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"{path} does not run: {error}") from None
    found = re.search(r"\d+(\.\d+)+", said)
    if found is None:
        raise ValueError(f"expected {path} to be OSACA; it does not say its version")
    return found.group()


def architecture(cpu: str) -> str:
    """Return OSACA's name for a processor, such as "SPR".

    Args:
        cpu: vendor, then family-model-stepping, as `measure.cpu_model` says them:
            "GenuineIntel 6-207-2 Intel(R) Xeon(R) Processor".

    Raises:
        ValueError: OSACA has no model of it.
    """
    said = re.match(r"(\w+) (\d+)-(\d+)", cpu)
    if said:
        vendor, family, number = said[1], int(said[2]), int(said[3])
        for (maker, generation, name), models in _ARCHITECTURES.items():
            if (vendor, family) == (maker, generation) and number in models:
                return name
    known = ", ".join(name for _, _, name in _ARCHITECTURES)
    raise ValueError(f"OSACA has no model of this processor, {cpu!r}; choose one of {known}")


def osaca(
    blocks: Sequence[BasicBlock],
    *,
    arch: str | None = None,
    program: str = "osaca",
    seconds: float = 20.0,
) -> NDArray[np.float64]:
    """Analyse blocks, one process each.

    Args:
        blocks: n blocks; at about two a second, a few hundred are a sensible number.
        arch: the processor by OSACA's name, such as "ZEN3"; by default this one.
        program: the command.
        seconds: the time for one block.

    Returns:
        (n,) cycles per repetition; nan where OSACA fails, takes too long, or does not know an
        instruction of the block.

    Raises:
        ValueError: OSACA is not installed, or has no model of the processor.
    """
    path = find(program)
    if arch is None:
        from gonzo.ithemal.measurement import (
            cpu_model,  # compiles nothing, but most callers name a processor
        )

        arch = architecture(cpu_model())
    cycles = np.full(len(blocks), np.nan)
    with tempfile.TemporaryDirectory(prefix="gonzo-osaca-") as folder:
        for position, block in enumerate(blocks):
            cycles[position] = _analyse(path, block, arch, seconds, Path(folder))
    return cycles


def _analyse(path: str, block: BasicBlock, arch: str, seconds: float, folder: Path) -> float:
    kernel, answer = folder / "kernel.s", folder / "answer.yml"
    kernel.write_text("\n".join(block.text("gas")) + "\n")
    answer.unlink(missing_ok=True)
    command = [path, "--arch", arch, "--syntax", "ATT", "--yaml-out", str(answer), str(kernel)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return float("nan")
    except OSError as error:
        raise ValueError(f"{path} does not run: {error}") from None
    if "Microarchitecture not supported" in done.stderr:
        raise ValueError(f"OSACA does not know the processor {arch!r}; osaca --help names those")
    if done.returncode != 0 or not answer.exists():
        return float("nan")
    return _cycles(answer.read_text())


def _cycles(answer: str) -> float:
    # The file holds tags of OSACA's own classes, which no YAML reader should be asked to build.
    summary = re.search(r"^Summary:\n(.*?)^Target:", answer, re.MULTILINE | re.DOTALL)
    if summary is None or not re.search(r"^Warnings: \[\]", answer, re.MULTILINE):
        return float("nan")
    carried = re.search(r"^  LCD: ([\d.]+)", summary[1], re.MULTILINE)
    ports = re.search(r"PortPressure: \{(.*?)\}", summary[1], re.DOTALL)
    busy = re.findall(r":\s+([\d.]+)", ports[1]) if ports else []
    if carried is None or not busy:
        return float("nan")
    return max(float(carried[1]), *map(float, busy))
