"""Structured state space sequence layers."""

from .bidirectional import Bidirectional
from .hippo import DPLR, legs, legs_dplr
from .s4 import S4, S4Kernel
from .s4d import S4D, S4DKernel

__all__ = ["DPLR", "S4", "S4D", "Bidirectional", "S4DKernel", "S4Kernel", "legs", "legs_dplr"]
