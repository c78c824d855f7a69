"""Basic-block throughput on your own CPU: measured, learned, predicted.

The names load on first use: `gonzo-ithemal --help` answers without importing torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bag import LinearBag
    from .block import BasicBlock
    from .comparison import compare
    from .explanation import explain
    from .extraction import extract
    from .graph import GraphThroughput
    from .learning import learn
    from .lstm import Ithemal
    from .measurement import Measurement, measure
    from .predictor import Prediction, Predictor

_HOME = {
    "BasicBlock": "block",
    "GraphThroughput": "graph",
    "Ithemal": "lstm",
    "LinearBag": "bag",
    "Measurement": "measurement",
    "Prediction": "predictor",
    "Predictor": "predictor",
    "compare": "comparison",
    "explain": "explanation",
    "extract": "extraction",
    "learn": "learning",
    "measure": "measurement",
}

__all__ = [
    "BasicBlock",
    "GraphThroughput",
    "Ithemal",
    "LinearBag",
    "Measurement",
    "Prediction",
    "Predictor",
    "compare",
    "explain",
    "extract",
    "learn",
    "measure",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gonzo.ithemal' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gonzo.ithemal.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
