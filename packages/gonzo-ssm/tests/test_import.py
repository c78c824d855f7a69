import subprocess
import sys

import gonzo.ssm


def test_importing_it_brings_no_compiler_and_no_laboratory():
    code = "import sys, gonzo.ssm; print(*sorted(sys.modules))"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "gonzo.ssm" in loaded
    for name in ("numba", "triton", "scipy", "gonzo.lab", "gonzo.ssm.recipes"):
        assert name not in loaded


def test_every_public_name_exists_and_is_explained():
    for name in gonzo.ssm.__all__:
        assert getattr(gonzo.ssm, name).__doc__, name
