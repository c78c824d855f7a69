import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

# Compiled kernels stay in one place between runs. It must be known before torch and Numba are
# imported.
_CACHES = Path(tempfile.gettempdir()) / f"gonzo-test-caches-{os.getuid()}"
os.environ.setdefault("NUMBA_CACHE_DIR", str(_CACHES / "numba"))

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def root() -> Path:
    """The repository; the tests may run against wheels, but they lie in it."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def gonzo(tmp_path: Path) -> Command:
    """Run the installed `gonzo` command in an empty folder, as a user would."""
    program = Path(sys.executable).with_name("gonzo")

    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(program), *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=200,
        )

    return call
