"""What importing brings along, and that the names are explained."""

import subprocess
import sys
from pathlib import Path

import pytest

import gonzo.pruning

README = Path(__file__).parents[1] / "README.md"


def test_importing_it_brings_no_compiler_and_no_laboratory():
    code = "import sys, gonzo.pruning; print(*sorted(sys.modules))"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "gonzo.pruning" in loaded
    for name in ("numba", "triton", "scipy", "gonzo.lab"):
        assert name not in loaded


def test_every_public_name_exists_and_is_explained():
    assert len(gonzo.pruning.__all__) <= 12
    for name in gonzo.pruning.__all__:
        assert getattr(gonzo.pruning, name).__doc__, name


@pytest.mark.skipif(not README.exists(), reason="the README is not beside the tests")
def test_every_public_name_is_in_the_readme():
    names = README.read_text(encoding="utf-8").partition("## Names")[2].partition("\n## ")[0]
    for name in gonzo.pruning.__all__:
        assert f"`{name}`" in names
