"""What gonzo's experiments share: runs that resume, data sets, reports, the `gonzo` command.

The names load on first use: the `gonzo` command answers `--help` without importing torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gonzo.lab.batches import Batches
    from gonzo.lab.data.mnist import Images, mnist
    from gonzo.lab.data.tinyshakespeare import tinyshakespeare
    from gonzo.lab.errors import LabError
    from gonzo.lab.recipe import Metric, Paper, Preset, Recipe, Target, Verdict
    from gonzo.lab.run import Run

_HOME = {
    "Batches": "batches",
    "Images": "data.mnist",
    "LabError": "errors",
    "Metric": "recipe",
    "Paper": "recipe",
    "Preset": "recipe",
    "Recipe": "recipe",
    "Run": "run",
    "Target": "recipe",
    "Verdict": "recipe",
    "mnist": "data.mnist",
    "tinyshakespeare": "data.tinyshakespeare",
}

__all__ = [
    "Batches",
    "Images",
    "LabError",
    "Metric",
    "Paper",
    "Preset",
    "Recipe",
    "Run",
    "Target",
    "Verdict",
    "mnist",
    "tinyshakespeare",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gonzo.lab' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gonzo.lab.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
