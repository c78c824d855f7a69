"""What importing brings along, and that the names are explained."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import gonzo.neuroevo

README = Path(__file__).parents[1] / "README.md"


def test_importing_it_brings_no_compiler_and_no_laboratory():
    code = "import sys, gonzo.neuroevo; print(*sorted(sys.modules))"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "gonzo.neuroevo" in loaded
    for name in ("numba", "triton", "scipy", "gonzo.lab"):
        assert name not in loaded


def test_every_public_name_exists_and_is_explained():
    assert len(gonzo.neuroevo.__all__) <= 12
    for name in gonzo.neuroevo.__all__:
        assert getattr(gonzo.neuroevo, name).__doc__, name


@pytest.mark.skipif(not README.exists(), reason="the README is not beside the tests")
def test_every_public_name_is_in_the_readme():
    names = README.read_text(encoding="utf-8").partition("## Names")[2].partition("\n## ")[0]
    for name in gonzo.neuroevo.__all__:
        assert f"`{name}`" in names


def test_no_name_is_hidden_by_a_module_of_the_same_name():
    modules = {module.name for module in pkgutil.iter_modules(gonzo.neuroevo.__path__)}
    assert not modules & set(gonzo.neuroevo.__all__)
