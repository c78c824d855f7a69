"""`gonzo doctor`: what is installed, what runs here, what is missing and how to get it."""

import importlib
import importlib.util
import os
import pkgutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from rich.markup import escape
from rich.table import Table

from gonzo.core import explain
from gonzo.lab import console, machine, registry
from gonzo.lab.arguments import parse
from gonzo.lab.cli import OK
from gonzo.lab.data.files import DATA_DIR_VARIABLE, cache_dir, find, search_path
from gonzo.lab.data.mnist import FILES
from gonzo.lab.errors import LabError

_EXTRAS = {"tensorboard": ("curves in TensorBoard", "pip install 'gonzo-lab[tensorboard]'")}
if torch.cuda.is_available():
    _EXTRAS["triton"] = ("kernels on the GPU", "pip install triton")


@dataclass(frozen=True)
class DoctorOptions:
    """Options of gonzo doctor.

    Args:
        data_dir: Folder to look for data sets first.
    """

    data_dir: Path | None = None


def command(arguments: list[str]) -> int:
    """Print the state of this installation."""
    options = parse(
        DoctorOptions,
        arguments,
        command="gonzo doctor",
        description="Show what is installed, what runs here and what is missing.",
    )
    for title, rows in (
        ("Packages", _packages()),
        ("Recipes", _recipes()),
        ("Machine", _machine()),
        ("Kernels", _kernels()),
        ("Data sets", _data(options.data_dir)),
        ("Extras", _extras()),
    ):
        table = Table.grid(padding=(0, 3))
        for name, text in rows:
            table.add_row(f"  {escape(name)}", escape(text))
        console.output().print(f"[bold]{title}[/]")
        console.output().print(table)
    return OK


def _packages() -> list[tuple[str, str]]:
    rows = [("python", machine.versions()["python"]), ("torch", torch.__version__)]
    return rows + list(machine.gonzo_packages().items())


def _recipes() -> list[tuple[str, str]]:
    loaded, problems = registry.load_all(registry.names())
    rows = [(registered.name, registered.recipe.claim) for registered in loaded]
    return rows + [("problem", problem) for problem in problems] or [("none", "")]


def _machine() -> list[tuple[str, str]]:
    cpu = machine.device_name(torch.device("cpu"))
    rows = [("cpu", f"{cpu}, {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")]
    for index in range(torch.cuda.device_count()):
        rows.append((f"cuda:{index}", machine.device_name(torch.device("cuda", index))))
    if torch.cuda.device_count() == 0:
        rows.append(("cuda", "not available; everything runs on the CPU"))
    return rows


def _kernels() -> list[tuple[str, str]]:
    ops = importlib.import_module("gonzo.core.ops")
    names = sorted(found.name for found in pkgutil.iter_modules(ops.__path__) if found.ispkg)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return [
        (name, "; ".join(_explained(name, torch.empty(0, device=device)) for device in devices))
        for name in names
    ]


def _explained(op: str, tensor: torch.Tensor) -> str:
    return explain(op, tensor).removeprefix(f"{op} ")


def _data(data_dir: Path | None) -> list[tuple[str, str]]:
    rows = [("mnist (subset)", "12,000 images, shipped with gonzo-lab")]
    try:
        folders = search_path("mnist", data_dir)
        found = [find(file, folders) for files in FILES.values() for file in files]
    except LabError as error:
        return [*rows, ("mnist", str(error))]
    if all(found):
        rows.append(("mnist", f"70,000 images in {found[0].parent if found[0] else ''}"))
    else:
        rows.append(
            (
                "mnist",
                f"not here; downloaded on first use into {cache_dir() / 'mnist'}, or looked for "
                f"in --data-dir and {DATA_DIR_VARIABLE}",
            )
        )
    return rows


def _extras() -> list[tuple[str, str]]:
    rows = []
    for module, (purpose, how) in _EXTRAS.items():
        if importlib.util.find_spec(module):
            rows.append((module, f"{version(module)}, {purpose}"))
        else:
            rows.append((module, f"missing ({purpose}): {how}"))
    return rows
