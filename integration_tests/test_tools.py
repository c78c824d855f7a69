"""The project's own checks catch what they are for."""

import importlib.util
import shutil
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path):
    """A copy of the tree that may be spoiled."""
    wanted = shutil.ignore_patterns("__pycache__", "shipped", "runs")
    for package in ROOT.glob("packages/*/pyproject.toml"):
        name = package.parent.name
        shutil.copytree(package.parent, tmp_path / "packages" / name, ignore=wanted)
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_the_tree_is_as_it_should_be():
    assert list(tool("check_tree").problems(ROOT)) == []


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("gonzo-ssm/src/gonzo/__init__.py", "", "hides every other package"),
        ("gonzo-ssm/src/gonzo/ssm/utils.py", "", "name the file after what is in it"),
        (
            "gonzo-core/src/gonzo/core/ops/cauchy/reference.py",
            "from .cpu import forward",
            "imports gonzo.core.numba_kernels|imports numba",
        ),
        ("gonzo-new/pyproject.toml", "[project]\nname = 'gonzo-new'", "gonzo-new is missing from"),
        ("gonzo-ssm/LICENSE", "all yours", "differs from that of the repository"),
    ],
    ids=["namespace", "vague name", "reference", "package", "licence"],
)
def test_a_planted_slip_is_found(tree, path, content, said):
    planted = tree / "packages" / path
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(content)
    found = "\n".join(tool("check_tree").problems(tree))
    assert any(part in found for part in said.split("|")), found


def test_a_missing_file_is_found(tree):
    (tree / "packages/gonzo-ssm/src/gonzo/ssm/py.typed").unlink()
    found = list(tool("check_tree").problems(tree))
    assert found == ["packages/gonzo-ssm has no src/gonzo/ssm/py.typed"]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("gonzo/__init__.py", "hides every other package"),
        ("gonzo/ssm/tests/test_s4.py", "does not belong in a wheel"),
        ("gonzo/ssm/kernel.so", "does not belong in a wheel"),
        ("gonzo/core/__init__.py", "is outside gonzo/ssm"),
    ],
)
def test_a_spoiled_wheel_is_found(tmp_path, extra, said):
    metadata = (
        "Metadata-Version: 2.4\nName: gonzo-ssm\nSummary: s\nLicense-Expression: Apache-2.0\n"
    )
    metadata += "Requires-Python: >=3.11\n\n" + "line\n" * 20
    wheel = tmp_path / "gonzo_ssm-0.1.0-py3-none-any.whl"
    names = ["gonzo/ssm/__init__.py", "gonzo/ssm/py.typed", "gonzo_ssm-0.1.0.dist-info/METADATA"]
    names += ["gonzo_ssm-0.1.0.dist-info/licenses/LICENSE"]
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, metadata)
    assert tool("check_wheel").problems(wheel) == []
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(extra, "")
    (problem,) = tool("check_wheel").problems(wheel)[:1]
    assert said in problem


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="needs a virtual environment")
def test_a_missing_package_is_found():
    found = tool("check_alone").problems(["gonzo-core", "gonzo-unheard-of"])
    assert "gonzo.unheard_of is missing" in found
    assert "gonzo.ssm should not be here" in found
