"""Where a figure comes from: device, versions and commit, and nothing that names a machine."""

import importlib.metadata
import platform
import re
import subprocess
from pathlib import Path

import torch

__all__ = ["commit", "device_name", "slug", "versions"]

_PACKAGES = ("torch", "numpy", "numba", "triton")


def device_name(device: str) -> str:
    """Return the model of the CPU or of the GPU, without trademarks and clock rates."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        name = found.group(1) if found else name
    name = re.sub(r"\((R|TM)\)|@.*|\bCPU\b|\b\d+-Core\b|\bProcessor\b", " ", name)
    return " ".join(name.split())


def slug(name: str) -> str:
    """Return ``name`` as a file name: lower case, joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def versions(package: str) -> dict[str, str]:
    """Return the versions of Python, of ``package`` and of what its kernels run on."""
    found = {"python": platform.python_version()}
    for name in (package, "gonzo-core", *_PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["torch"] = torch.__version__  # the metadata leaves out which build it is
    return found


def commit(root: Path) -> str:
    """Return the short commit of the sources at ``root``, marked when they differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        name = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--", "src")
    except FileNotFoundError:
        return "unknown"
    if not name:
        return "unknown"
    return f"{name} with changes" if changed else name
