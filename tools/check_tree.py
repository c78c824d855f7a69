"""Check what no other tool sees: the shape of the tree and of its packages.

python tools/check_tree.py
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_VAGUE = ("utils", "common", "misc", "helpers", "base")
_EACH_PACKAGE = (
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "towncrier.toml",
    "changes",
    "tests",
    "src/gonzo/{part}/__init__.py",
    "src/gonzo/{part}/py.typed",
)


def problems(root: Path) -> Iterator[str]:
    """Yield what is wrong with the tree at `root`, in words."""
    yield from _untracked_by_rule(root)
    for folder in sorted(path.parent for path in root.glob("packages/*/pyproject.toml")):
        yield from _package(root, folder)
    for path in sorted(root.glob("packages/*/src/**/*.py")):
        if path.stem in _VAGUE:
            yield f"{path.relative_to(root)}: name the file after what is in it"
    for path in sorted(root.glob("packages/*/src/gonzo/*/ops/*/reference.py")):
        yield from _reference(root, path)


def _untracked_by_rule(root: Path) -> Iterator[str]:
    """A lock file names the machine's package hosts, so it stays out of the repository."""
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if Path(name).name == "uv.lock" or name.endswith(".pyc"):
            yield f"{name} must not be tracked"


def _package(root: Path, folder: Path) -> Iterator[str]:
    name = folder.name
    part = name.removeprefix("gonzo-").replace("-", "_")
    where = folder.relative_to(root)
    if (folder / "src/gonzo/__init__.py").exists():
        yield f"{where}/src/gonzo/__init__.py hides every other package of the namespace: remove it"
    for needed in _EACH_PACKAGE:
        if not (folder / needed.format(part=part)).exists():
            yield f"{where} has no {needed.format(part=part)}"
    if (folder / "LICENSE").exists() and (
        (folder / "LICENSE").read_bytes() != (root / "LICENSE").read_bytes()
    ):
        yield f"{where}/LICENSE differs from that of the repository"
    config = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    if config["project"]["name"] != name:
        yield f"{where} is the folder of {config['project']['name']}: they must agree"
    workspace = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    depended = {d.partition("[")[0] for d in workspace["project"]["dependencies"]}
    imports = workspace["tool"]["importlinter"]
    layers = " ".join(imports["contracts"][0]["layers"]).split()
    for missing, what in (
        (name not in depended, "project.dependencies"),
        (name not in workspace["tool"]["uv"]["sources"], "tool.uv.sources"),
        (f"gonzo.{part}" not in imports["root_packages"], "tool.importlinter.root_packages"),
        (f"gonzo.{part}" not in layers, "the layers of the first import contract"),
    ):
        if missing:
            yield f"{name} is missing from {what} in the root pyproject.toml"


def _reference(root: Path, path: Path) -> Iterator[str]:
    """A reference judges the other backends: torch, and plain helpers that import torch alone."""
    for module in _imports(path):
        first = module.partition(".")[0]
        if first in {"torch", *sys.stdlib_module_names}:
            continue
        if first == "":
            helper = path.parent / f"{module.removeprefix('.').replace('.', '/')}.py"
        else:
            source = next(parent for parent in path.parents if parent.name == "src")
            helper = source / f"{module.replace('.', '/')}.py"
        if helper.exists():
            yield from _reference(root, helper)
        else:
            yield f"{path.relative_to(root)} imports {module}: a reference imports torch alone"


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


if __name__ == "__main__":
    found = list(problems(ROOT))
    print("\n".join(found) or "the tree is as it should be")
    sys.exit(bool(found))
