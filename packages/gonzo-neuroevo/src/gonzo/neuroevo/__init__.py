"""NEAT as tensors: neuroevolution of network topologies in PyTorch.

The names load on first use, each with what it needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import NEATConfig
    from .cppn import CPPN
    from .es_hyperneat import ESHyperNEAT
    from .evolution import evolve
    from .fine_tuning import fine_tune
    from .genome import Genome
    from .gym import GymnasiumProblem
    from .hyperneat import HyperNEAT
    from .neat import NEAT
    from .phenotypes import networks
    from .population import Population
    from .supervised import Supervised

_HOME = {
    "CPPN": "cppn",
    "ESHyperNEAT": "es_hyperneat",
    "Genome": "genome",
    "GymnasiumProblem": "gym",
    "HyperNEAT": "hyperneat",
    "NEAT": "neat",
    "NEATConfig": "config",
    "Population": "population",
    "Supervised": "supervised",
    "evolve": "evolution",
    "fine_tune": "fine_tuning",
    "networks": "phenotypes",
}

__all__ = [
    "CPPN",
    "NEAT",
    "ESHyperNEAT",
    "Genome",
    "GymnasiumProblem",
    "HyperNEAT",
    "NEATConfig",
    "Population",
    "Supervised",
    "evolve",
    "fine_tune",
    "networks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gonzo.neuroevo' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gonzo.neuroevo.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
