"""`tools/new_package.py` writes a whole package or nothing; `nox -s new_package` runs one."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEW = "gonzo-not-there-yet"
LISTS = ["pyproject.toml", "README.md", "mkdocs.yml", "docs/index.md"]


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import new_package

    return new_package


@pytest.fixture
def tree(tmp_path):
    """What the tool reads and edits of the repository."""
    wanted = [*LISTS, "LICENSE", *(p.relative_to(ROOT) for p in ROOT.glob("docs/*/*.md"))]
    wanted += [p.relative_to(ROOT) for p in ROOT.glob("packages/*/pyproject.toml")]
    for name in wanted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def contents(tree):
    """Every file with its bytes, and every folder."""
    return {path: path.read_bytes() if path.is_file() else None for path in tree.rglob("*")}


def project(package):
    return tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_a_package_is_written_and_listed(tool, tree):
    before = contents(tree)
    files = tool.create(tree, "gonzo-two-words", "Layers that do")
    edited = {path for path, data in contents(tree).items() if before.get(path, data) != data}
    assert edited == {tree / name for name in LISTS}
    assert all(path.is_file() and path not in before for path in files)

    package = tree / "packages/gonzo-two-words"
    assert project(package)["name"] == "gonzo-two-words"
    assert project(package)["description"] == "Layers that do"
    assert (package / "src/gonzo/two_words/py.typed").exists()
    assert not (package / "src/gonzo/__init__.py").exists()
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()

    root = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
    assert "gonzo-two-words" in root["project"]["dependencies"]
    assert root["tool"]["uv"]["sources"]["gonzo-two-words"] == {"workspace": True}
    site = (tree / "mkdocs.yml").read_text(encoding="utf-8")
    for line in (
        "      - gonzo.two_words: api/two-words.md\n",
        "      - two-words: papers/two-words.md\n",
    ):
        assert line in site
    for page, link in (
        ("README.md", "packages/gonzo-two-words/README.md"),
        ("docs/index.md", "api/two-words.md"),
    ):
        row = f"| [gonzo-two-words]({link}) | Layers that do |\n"
        assert row in (tree / page).read_text(encoding="utf-8")


def test_no_template_is_left_open(tool, tree):
    for path in tool.create(tree, NEW):
        text = path.read_text()
        assert "$" not in text
        assert not path.name.endswith(".in")
        if path.suffix == ".py":
            ast.parse(text)
        if path.suffix == ".toml":
            tomllib.loads(text)


def test_the_author_is_told_where_every_mark_is(tool, tree, capsys, monkeypatch):
    written = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(tool.subprocess, "run", lambda *_, **__: written)
    assert tool.main([NEW, "--root", str(tree)]) == 0
    said = capsys.readouterr().out
    marked = 0
    for path in [*tree.glob(f"packages/{NEW}/**/*"), *tree.glob("docs/*/not-there-yet.md")]:
        for number, line in enumerate(path.read_text().splitlines() if path.is_file() else [], 1):
            if tool.MARK in line:
                marked += 1
                assert f"{path.relative_to(tree)}:{number}: " in said
    assert marked > 10
    assert "uv run nox" in said


def test_a_second_package_joins_the_first(tool, tree):
    for name in (NEW, "gonzo-a1-b", *(f"gonzo-filler-{n}" for n in range(9))):
        tool.create(tree, name)
    text = (tree / "pyproject.toml").read_text()
    imports = tomllib.loads(text)["tool"]["importlinter"]
    layers = imports["contracts"][0]["layers"]
    assert layers[0].startswith("gonzo.ssm")
    assert " | gonzo.not_there_yet | gonzo.a1_b | gonzo.filler_0" in layers[0]
    assert layers[-2:] == ["gonzo.lab", "gonzo.core"]
    assert {"gonzo.not_there_yet", "gonzo.a1_b"} < set(imports["root_packages"])
    assert "# The workspace root." in text


def test_it_requires_the_core_of_today(tool, tree):
    path = tree / "packages/gonzo-core/pyproject.toml"
    path.write_text(re.sub(r'^version = ".*"', 'version = "0.3.2"', path.read_text(), flags=re.M))
    tool.create(tree, NEW)
    assert project(tree / "packages" / NEW)["dependencies"][0] == "gonzo-core>=0.3,<0.4"


@pytest.mark.parametrize("name", ["gonzo-aa", "gonzo-core2", "gonzo-zz"])
def test_imports_are_in_order_whatever_the_name(tool, tree, name):
    tool.create(tree, name)
    text = (tree / "packages" / name / "tests/test_laws.py").read_text()
    lines = [line.split()[1] for line in text.splitlines() if line.startswith("from gonzo.")]
    assert lines == sorted(lines)
    assert f"gonzo.{name[6:]}" in lines


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo"], "expected a name of the form gonzo-demo, got 'demo'"),
        (["gonzo-"], "expected a name of the form gonzo-demo"),
        (["gonzo-démo"], "expected a name of the form gonzo-demo"),
        (["gonzo-a/b"], "expected a name of the form gonzo-demo"),
        (["gonzo-Demo"], "as package indexes write it, gonzo-demo, got gonzo-Demo"),
        (["gonzo-two_words"], "as package indexes write it, gonzo-two-words"),
        (["gonzo--demo"], "as package indexes write it, gonzo-demo"),
        (["gonzo-import"], "gonzo.import, which is not valid Python"),
        (["gonzo-3d"], "gonzo.3d, which is not valid Python"),
        (["gonzo-" + "a" * 40], "at most 40 letters, got 46"),
        (["gonzo-core"], "packages/gonzo-core is there already"),
        (["gonzo-s4"], "docs/papers/s4.md is there already"),
        ([NEW, "--summary", ""], "expected a summary in one line"),
        ([NEW, "--summary", "two\nlines"], "expected a summary in one line"),
        ([NEW, "--summary", "One sentence."], "without a full stop at its end"),
        ([NEW, "--summary", 'a "b"'], 'expected a summary without "'),
        ([NEW, "--summary", "a" * 91], "at most 90 letters, got 91"),
    ],
)
def test_wrong_arguments_are_explained_and_nothing_is_written(tool, tree, capsys, arguments, said):
    before = contents(tree)
    assert tool.main([*arguments, "--root", str(tree)]) == 2
    assert said in capsys.readouterr().err
    assert contents(tree) == before


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("pyproject.toml", "root_packages = [", "root_packages = [ # ours\n"),
        ("pyproject.toml", "dependencies = [", "dynamic = ['dependencies']\nother = ["),
        ("README.md", "| [gonzo-core](packages/", "| gonzo-core (packages/"),
        ("docs/index.md", "| [gonzo-core](", "| gonzo-core ("),
        ("mkdocs.yml", "gonzo.core: api/core.md", "Core: api/core.md"),
        ("mkdocs.yml", "papers/", "essays/"),
    ],
)
def test_a_list_that_looks_otherwise_is_an_error(tool, tree, path, old, new):
    text = (tree / path).read_text()
    assert old in text
    (tree / path).write_text(text.replace(old, new))
    before = contents(tree)
    with pytest.raises(ValueError, match=f"{path}: expected"):
        tool.create(tree, NEW)
    assert contents(tree) == before


def test_an_interrupted_write_is_taken_back(tool, tree, monkeypatch):
    before = contents(tree)
    write = Path.write_text

    def interrupted(path, *arguments, **named):
        if path.name == "mkdocs.yml":
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        return write(path, *arguments, **named)

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tool.create(tree, NEW)
    assert contents(tree) == before
