"""Structured state space sequence layers."""

from .bidirectional import Bidirectional
from .h3 import H3
from .hippo import DPLR, legs, legs_dplr
from .lssl import LSSL
from .mega import Mega
from .rate import set_rate
from .s4 import S4, S4Kernel
from .s4d import S4D, S4DKernel
from .s5 import S5

__all__ = [
    "DPLR",
    "H3",
    "LSSL",
    "S4",
    "S4D",
    "S5",
    "Bidirectional",
    "Mega",
    "S4DKernel",
    "S4Kernel",
    "legs",
    "legs_dplr",
    "set_rate",
]
