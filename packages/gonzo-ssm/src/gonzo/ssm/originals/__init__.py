"""Weights trained with the original code, as layers of gonzo that compute the same.

The originals are `S4Block`, `SSMKernelDPLR` and `SSMKernelDiag` of models/s4/s4.py in
https://github.com/state-spaces/s4, commit e757cef57d89e448c413de7325ed5601aceaac13, and `H3` of
src/models/ssm/h3.py in https://github.com/HazyResearch/H3, commit
5c4d06b5795405170387c80998b58d76179a8a1a.

Nothing here reads a file. Load one with `safetensors.torch.load_file`, or with
``torch.load(path, weights_only=True)``, which runs no code that the file may hold.
"""

from .h3 import from_h3
from .s4 import from_s4, from_s4_kernel, from_s4d, from_s4d_kernel
from .transforms import Transform

__all__ = ["Transform", "from_h3", "from_s4", "from_s4_kernel", "from_s4d", "from_s4d_kernel"]
