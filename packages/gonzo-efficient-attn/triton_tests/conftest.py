"""Layers on a GPU, or in Triton's interpreter where ``TRITON_INTERPRET=1`` says so.

Apart from the other tests because a process either interprets all kernels or none.
"""

import os
import tempfile
from pathlib import Path

import pytest

# It must be known before torch and Numba are imported.
_CACHES = Path(tempfile.gettempdir()) / f"gonzo-test-caches-{os.getuid()}"
os.environ.setdefault("NUMBA_CACHE_DIR", str(_CACHES / "numba"))
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_CACHES / "inductor"))


@pytest.fixture(autouse=True)
def _repeatable():
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def device():
    """The device to run kernels on: the CPU when they are interpreted."""
    import torch

    from gonzo.core.backends import triton_is_interpreted

    if triton_is_interpreted():
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    pytest.fail("there is no GPU; run `nox -s triton`, or set TRITON_INTERPRET=1")
