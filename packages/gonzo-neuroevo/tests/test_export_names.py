"""The names of gonzo.neuroevo.export, and what asking for one brings along."""

import subprocess
import sys

import pytest

import gonzo.neuroevo.export as export


def test_every_name_exists_and_is_explained():
    for name in export.__all__:
        assert getattr(export, name).__doc__, name
    with pytest.raises(AttributeError, match=r"gonzo\.neuroevo\.export has no attribute 'to_cake'"):
        export.to_cake  # noqa: B018


def test_no_extra_is_imported_before_it_is_needed():
    code = (
        "import sys; from gonzo.neuroevo.export import *; from gonzo.neuroevo.genome import *; "
        "g = Genome(1, 1, (NodeGene(0),)); to_svg(g), to_dot(g), to_json(g), to_python(g), "
        "to_module(g), to_neat_python_json(g); print(*sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "gonzo.neuroevo.export.onnx" in loaded
    assert not {"onnx", "onnxruntime", "sympy", "neat", "matplotlib"} & set(loaded)
