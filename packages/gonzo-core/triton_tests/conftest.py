"""Kernels on a GPU, or in Triton's interpreter where ``TRITON_INTERPRET=1`` says so.

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


@pytest.fixture(params=range(3), ids=lambda index: f"configuration {index}")
def configuration(request, device):
    """Go through the configurations of tuned kernels; a GPU chooses among them itself."""
    from gonzo.core.triton_kernels import interpreted_configuration

    if device.type != "cpu" and request.param:
        pytest.skip("a GPU measures the configurations and chooses")
    with interpreted_configuration(request.param):
        yield request.param
