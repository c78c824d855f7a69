"""Name the processor that something was measured on."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

__all__ = ["machine_name"]


def machine_name(device: torch.device, dtype: torch.dtype) -> str:
    """Return processor or GPU, threads of torch and dtype: "Intel Xeon, 1 thread, float32"."""
    kind = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {kind}"
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' * (threads > 1)}, {kind}"


def _processor() -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        name = found.group(1) if found else name
    return " ".join(re.sub(r"\((R|TM)\)|@.*|\b(CPU|Processor)\b", " ", name).split())
