import os
import tempfile
from pathlib import Path

import pytest

# Compiled kernels stay in one place between runs, and out of the source tree. It must be known
# before torch and Numba are imported.
_CACHES = Path(tempfile.gettempdir()) / f"gonzo-test-caches-{os.getuid()}"
os.environ.setdefault("NUMBA_CACHE_DIR", str(_CACHES / "numba"))
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_CACHES / "inductor"))


@pytest.fixture(autouse=True)
def _repeatable():
    """Every test starts from one seed and on one thread, which small sizes are fastest on."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
