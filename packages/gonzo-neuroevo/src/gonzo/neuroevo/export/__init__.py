"""Genomes as modules, ONNX, source, formulas, JSON, pictures, and neat-python's own forms.

    from gonzo.neuroevo.export import to_module, to_onnx

Each name is imported from its file when it is first asked for, so that a picture brings no torch
module and a formula no ONNX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dot import to_dot
    from .formula import to_latex, to_sympy
    from .json import from_json, load, save, to_json
    from .module import to_module
    from .neat_python import from_neat_python, to_neat_python
    from .neat_python_config import read_neat_python_config, write_neat_python_config
    from .neat_python_json import read_neat_python_json, to_neat_python_json
    from .onnx import to_onnx
    from .picture import to_svg
    from .source import to_python

__all__ = [
    "from_json",
    "from_neat_python",
    "load",
    "read_neat_python_config",
    "read_neat_python_json",
    "save",
    "to_dot",
    "to_json",
    "to_latex",
    "to_module",
    "to_neat_python",
    "to_neat_python_json",
    "to_onnx",
    "to_python",
    "to_svg",
    "to_sympy",
    "write_neat_python_config",
]

_HOMES = {
    "dot": ("to_dot",),
    "formula": ("to_latex", "to_sympy"),
    "json": ("from_json", "load", "save", "to_json"),
    "module": ("to_module",),
    "neat_python": ("from_neat_python", "to_neat_python"),
    "neat_python_config": ("read_neat_python_config", "write_neat_python_config"),
    "neat_python_json": ("read_neat_python_json", "to_neat_python_json"),
    "onnx": ("to_onnx",),
    "picture": ("to_svg",),
    "source": ("to_python",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its file."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
