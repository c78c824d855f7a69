"""What a result was computed on: device, versions, commit. Never who or where."""

import platform
import subprocess
from importlib.metadata import distributions, version
from pathlib import Path

import torch

from gonzo.lab.errors import LabError


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; `"auto"` is CUDA where it is available, else the CPU.

    Raises:
        LabError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise LabError(f"--device: {name!r} cannot be used here ({reason}).") from error
    return device


def device_name(device: torch.device) -> str:
    """Return the model name of the processor or graphics card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python, torch, NumPy and every installed gonzo package."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
    }
    return found | gonzo_packages()


def gonzo_packages() -> dict[str, str]:
    """Return name -> version of every installed `gonzo-…` distribution."""
    names = {d.name: d.version for d in distributions() if d.name.startswith("gonzo-")}
    return dict(sorted(names.items()))


def commit(folder: Path | None) -> str | None:
    """Return the commit of the checkout at `folder`, with `-dirty` when files were changed.

    None without a checkout, without git, or before the first commit.
    """
    if folder is None:
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
