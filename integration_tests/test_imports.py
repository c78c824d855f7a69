"""What importing costs, and what it does not bring along. Each in a process of its own."""

import subprocess
import sys

import pytest


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("part", ["core", "ssm", "lab"])
def test_importing_a_package_leaves_the_heavy_libraries_alone(part):
    heavy = {"numba", "llvmlite", "triton", "matplotlib", "scipy", "pandas", "transformers"}
    loaded = run(f"import gonzo.{part}, sys; print(*sys.modules)").split()
    assert heavy.isdisjoint(loaded)


def test_layers_do_not_bring_lab():
    loaded = run("import gonzo.ssm, sys; print(*sys.modules)").split()
    assert not any(name.startswith("gonzo.lab") for name in loaded)


def test_gonzo_is_a_namespace():
    assert run("import gonzo; print(gonzo.__file__)").strip() == "None"


def test_importing_ssm_adds_little_to_torch():
    code = "import time, torch; t = time.perf_counter(); import gonzo.ssm; "
    code += "print(time.perf_counter() - t)"
    assert min(float(run(code)) for _ in range(3)) < 0.3
