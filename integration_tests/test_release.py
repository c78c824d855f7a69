"""Nothing is published by mistake: each check of a release finds the slip it is there for."""

import importlib
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]

_PACKAGES = ("gonzo-core", "gonzo-lab", "gonzo-ssm")
_BOTH = {"gonzo-core": [], "gonzo-lab": ["gonzo-core"], "gonzo-ssm": ["gonzo-core"]}


@pytest.fixture(autouse=True)
def _git_of_nobody(monkeypatch):
    """No configuration of this machine, and a name to commit under."""
    for key in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(key, "/dev/null")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "nobody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "nobody@localhost")


@pytest.fixture
def tool(monkeypatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def commit(tree: Path, message: str = "a change") -> None:
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", message)


def pyproject(name: str, version: str = "0.1.0", bounds: str = ">=0.1,<0.2") -> str:
    part = name.removeprefix("gonzo-")
    return f"""
[project]
name = "{name}"
version = "{version}"
readme = "README.md"
license = "Apache-2.0"
license-files = ["LICENSE"]
requires-python = ">=3.11"
description = "A package to be released"
dependencies = {json.dumps([f"{needed}{bounds}" for needed in _BOTH[name]])}

[build-system]
requires = ["uv_build>=0.13,<0.14"]
build-backend = "uv_build"

[tool.uv.build-backend]
module-name = "gonzo.{part}"
source-include = ["CHANGELOG.md", "tests/**"]
"""


@pytest.fixture
def tree(tmp_path) -> Path:
    """A repository of three small packages, each with a fragment that was there before."""
    root = tmp_path / "tree"
    for name in _PACKAGES:
        folder, part = root / "packages" / name, name.removeprefix("gonzo-")
        write(folder / "pyproject.toml", pyproject(name))
        write(folder / "README.md", f"# {name}\n" + "\nA line of the README.\n" * 10)
        write(folder / "CHANGELOG.md", f"# Changelog of {name}\n\n{_MARK}\n")
        write(folder / "changes/+foundation.feature.md", "The beginning.\n")
        write(folder / f"src/gonzo/{part}/__init__.py", "A = 1\n")
        write(folder / f"src/gonzo/{part}/py.typed", "")
        write(folder / f"tests/test_{part}.py", "def test_it(): pass\n")
        shutil.copy(ROOT / "packages" / name / "towncrier.toml", folder)
        shutil.copy(ROOT / "LICENSE", folder)
    write(root / "noxfile.py", "")
    git(root, "init", "--quiet", "--initial-branch", "main")
    commit(root, "the beginning")
    return root


_MARK = "<!-- towncrier release notes start -->"
_SOURCE = "packages/gonzo-ssm/src/gonzo/ssm/__init__.py"


def lacking(tool, root: Path, base: str | None = None) -> list[str]:
    check = tool("check_changes")
    return list(check.problems(root, check.compared(root, base)))


class TestChanges:
    """A change to what is published comes with a sentence about it."""

    def test_an_unchanged_tree_needs_none(self, tool, tree):
        assert lacking(tool, tree) == []

    @pytest.mark.parametrize("committed", [False, True])
    def test_a_change_without_a_fragment_is_found(self, tool, tree, tmp_path, committed):
        clone = tmp_path / "clone"
        git(tmp_path, "clone", "--quiet", str(tree), str(clone))
        assert lacking(tool, clone) == []
        write(clone / _SOURCE, "A = 2\n")
        if committed:
            commit(clone)
        (problem,) = lacking(tool, clone)
        assert problem.startswith(f"{_SOURCE} changed since")
        assert "packages/gonzo-ssm/changes/+<what>.<feature|change|fix>.md" in problem

    def test_a_new_file_is_a_change(self, tool, tree):
        write(tree / "packages/gonzo-ssm/src/gonzo/ssm/new.py", "")
        (problem,) = lacking(tool, tree)
        assert "new.py changed since" in problem

    @pytest.mark.parametrize("name", ["+foundation.feature.md", "+new.fix.md", "17.change.md"])
    def test_a_fragment_added_or_edited_is_enough(self, tool, tree, name):
        write(tree / _SOURCE, "A = 2\n")
        write(tree / "packages/gonzo-ssm/changes" / name, "`A` is 2.\n")
        assert lacking(tool, tree) == []

    def test_a_fragment_of_another_package_is_not(self, tool, tree):
        write(tree / _SOURCE, "A = 2\n")
        write(tree / "packages/gonzo-core/changes/+new.fix.md", "`A` is 2.\n")
        assert len(lacking(tool, tree)) == 1

    def test_a_fragment_taken_away_is_not(self, tool, tree):
        write(tree / _SOURCE, "A = 2\n")
        (tree / "packages/gonzo-ssm/changes/+foundation.feature.md").unlink()
        assert len(lacking(tool, tree)) == 1

    def test_a_release_takes_fragments_away(self, tool, tree):
        folder = tree / "packages/gonzo-ssm"
        write(folder / "pyproject.toml", pyproject("gonzo-ssm", "0.2.0"))
        write(folder / "CHANGELOG.md", f"{_MARK}\n\n## 0.2.0 (2026-01-31)\n\nThe beginning.\n")
        (folder / "changes/+foundation.feature.md").unlink()
        assert lacking(tool, tree) == []

    @pytest.mark.parametrize("name", ["README.md", "tests/test_ssm.py", "benchmarks/bench_s4.py"])
    def test_what_is_not_installed_needs_none(self, tool, tree, name):
        write(tree / "packages/gonzo-ssm" / name, "changed\n")
        assert lacking(tool, tree) == []

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("+new.bugfix.md", "It works.\n", "would not reach the changelog"),
            ("+new.fix.txt", "It works.\n", "would not reach the changelog"),
            ("+new.fix.md", "\n", "is empty"),
        ],
    )
    def test_a_fragment_that_says_nothing_is_found(self, tool, tree, name, text, said):
        write(tree / "packages/gonzo-lab/changes" / name, text)
        (problem,) = lacking(tool, tree)
        assert said in problem

    def test_a_branch_is_compared_with_where_it_began(self, tool, tree):
        git(tree, "switch", "--quiet", "--create", "branch")
        write(tree / "packages/gonzo-ssm/changes/+new.fix.md", "`A` is 2.\n")
        commit(tree)
        write(tree / _SOURCE, "A = 2\n")
        commit(tree)
        git(tree, "switch", "--quiet", "main")
        write(tree / "packages/gonzo-core/src/gonzo/core/__init__.py", "A = 3\n")
        commit(tree, "somebody else's")
        git(tree, "switch", "--quiet", "branch")
        assert lacking(tool, tree) == []
        assert lacking(tool, tree, "main") == []
        assert len(lacking(tool, tree, "HEAD~1")) == 1

    def test_what_changed_since_a_release_left_a_fragment(self, tool, ready):
        write(ready / _SOURCE, "A = 2\n")
        commit(ready, "on the main branch, without an origin and without a fragment")
        (problem,) = lacking(tool, ready)
        assert problem.startswith(f"{_SOURCE} changed since gonzo-ssm-v0.1.0")
        write(ready / "packages/gonzo-ssm/changes/+new.fix.md", "`A` is 2.\n")
        commit(ready)
        assert lacking(tool, ready) == []

    def test_a_shallow_clone_has_what_it_needs(self, tool, tree, tmp_path):
        commit_twice(tree)
        clone = tmp_path / "clone"
        git(tmp_path, "clone", "--quiet", "--depth", "1", tree.as_uri(), str(clone))
        assert lacking(tool, clone) == []
        write(clone / _SOURCE, "A = 4\n")
        assert len(lacking(tool, clone)) == 1

    def test_a_base_out_of_reach_is_an_error(self, tool, tree, tmp_path, capsys):
        commit_twice(tree)
        first = git(tree, "rev-parse", "HEAD~2")
        clone = tmp_path / "clone"
        git(tmp_path, "clone", "--quiet", "--depth", "1", tree.as_uri(), str(clone))
        assert tool("check_changes").main(clone, first) == 1
        assert "fetch-depth: 0" in capsys.readouterr().out

    def test_the_first_push_of_a_branch_names_no_commit(self, tool, tree):
        assert tool("check_changes").main(tree, "0" * 40) == 0

    def test_without_git_there_is_nothing_to_compare(self, tool, tree, capsys):
        shutil.rmtree(tree / ".git")
        assert tool("check_changes").main(tree, None) == 0
        assert "not a git checkout" in capsys.readouterr().out


def commit_twice(tree: Path) -> None:
    for number in (2, 3):
        write(tree / _SOURCE, f"A = {number}\n")
        commit(tree)


@pytest.mark.parametrize(
    ("changed", "packages"),
    [
        (["packages/gonzo-core/src/gonzo/core/__init__.py"], _PACKAGES),
        (["packages/gonzo-ssm/README.md"], ("gonzo-ssm",)),
        (["packages/gonzo-lab/pyproject.toml", "docs/index.md"], ("gonzo-lab",)),
        (["noxfile.py"], _PACKAGES),
        (["pyproject.toml"], _PACKAGES),
        (["tools/check_wheel.py"], _PACKAGES),
        ([".ci/run"], _PACKAGES),
        ([".github/workflows/ci.yml"], _PACKAGES),
        (["packages/gonzo-gone/pyproject.toml"], ()),
        (["README.md", "docs/papers/s4.md", "integration_tests/test_tools.py"], ()),
        ([], ()),
    ],
)
def test_affected_packages(tool, tree, changed, packages):
    assert tool("changed_packages").affected(tree, changed) == list(packages)


@pytest.mark.parametrize("base", [None, "", "0" * 40, "no-such-branch"])
def test_every_package_where_there_is_nothing_to_compare_with(tool, base):
    found = json.loads(tool("changed_packages").main(base))
    assert found == sorted(p.parent.name for p in ROOT.glob("packages/*/pyproject.toml"))


@pytest.fixture
def ready(tree) -> Path:
    """The tree with gonzo-core 0.1.0 released and gonzo-ssm 0.1.0 about to be."""
    for name in ("gonzo-core", "gonzo-ssm"):
        folder = tree / "packages" / name
        text = f"# Changelog\n\n{_MARK}\n\n## 0.1.0 (2026-01-31)\n\n### Added\n\n- The beginning.\n"
        write(folder / "CHANGELOG.md", text + "\n## 0.0.9 (2025-12-24)\n\n- Before.\n")
        (folder / "changes/+foundation.feature.md").unlink()
        write(folder / "changes/.gitkeep", "")
        commit(tree, f"Release {name} 0.1.0")
        git(tree, "tag", f"{name}-v0.1.0")
    return tree


class TestTag:
    """A tag is published when everything agrees with it."""

    def test_all_agrees(self, tool, ready):
        assert list(tool("release_tag").problems(ready, "gonzo-ssm-v0.1.0")) == []

    def test_core_needs_no_core(self, tool, ready):
        git(ready, "checkout", "--quiet", "gonzo-core-v0.1.0")
        assert list(tool("release_tag").problems(ready, "gonzo-core-v0.1.0")) == []

    def test_the_notes_are_the_section(self, tool, ready):
        text = (ready / "packages/gonzo-ssm/CHANGELOG.md").read_text()
        section = tool("release_tag").section(text, "0.1.0")
        assert section == ("2026-01-31", "### Added\n\n- The beginning.")

    @pytest.mark.parametrize(
        "tag", ["v0.1.0", "gonzo-ssm-0.1.0", "gonzo-ssm-v0.1", "gonzo-ssm-v0.1.0.final", "gonzo"]
    )
    def test_a_tag_of_another_form(self, tool, ready, tag):
        (problem, *_) = tool("release_tag").problems(ready, tag)
        assert "expected the form gonzo-ssm-v0.1.0" in problem or "the tag says 0.1" in problem

    def test_an_unknown_package(self, tool, ready):
        (problem,) = tool("release_tag").problems(ready, "gonzo-sms-v0.1.0")
        assert "there are gonzo-core, gonzo-lab, gonzo-ssm" in problem

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("pyproject.toml", pyproject("gonzo-ssm", "0.1.1"), "pyproject.toml says 0.1.1"),
            ("pyproject.toml", pyproject("gonzo-ssm", bounds=">=0.1"), "expected both bounds"),
            ("pyproject.toml", pyproject("gonzo-ssm", bounds="<0.2"), "expected both bounds"),
            (
                "pyproject.toml",
                pyproject("gonzo-ssm", bounds=">=0.1.1,<0.2"),
                "gonzo-core 0.1.1 is not released (released: 0.1.0): release gonzo-core first",
            ),
            ("CHANGELOG.md", "# Changelog\n", "has no section 0.1.0: towncrier build"),
            ("CHANGELOG.md", "## 0.1.0 (soon)\n\n- It.\n", "expected a date such as 2026-01-31"),
            ("CHANGELOG.md", "## 0.1.0 (2026-01-31)\n\n## 0.0.9\n", "says nothing about 0.1.0"),
            ("changes/+late.fix.md", "Late.\n", "not yet in the changelog are changes/+late.fix"),
        ],
        ids=lambda value: value if len(value) < 40 else "",
    )
    def test_what_does_not_agree_is_named(self, tool, ready, name, text, said):
        write(ready / "packages/gonzo-ssm" / name, text)
        commit(ready)
        git(ready, "tag", "--force", "gonzo-ssm-v0.1.0")
        (problem,) = tool("release_tag").problems(ready, "gonzo-ssm-v0.1.0")
        assert said in problem

    def test_uncommitted_changes(self, tool, ready):
        write(ready / _SOURCE, "A = 5\n")
        (problem,) = tool("release_tag").problems(ready, "gonzo-ssm-v0.1.0")
        assert "uncommitted" in problem

    def test_a_tag_elsewhere(self, tool, ready):
        (problem,) = tool("release_tag").problems(ready, "gonzo-core-v0.1.0")
        assert problem.endswith("is checked out")

    def test_before_the_tag_it_is_a_rehearsal(self, tool, ready, capsys):
        git(ready, "tag", "--delete", "gonzo-ssm-v0.1.0")
        assert list(tool("release_tag").problems(ready, "gonzo-ssm-v0.1.0")) == []
        assert "a rehearsal" in capsys.readouterr().err


class TestOldestCore:
    """The oldest core is the code of its tag."""

    def test_nothing_is_released_yet(self, tool, tree):
        floor = tool("release_floor")
        assert floor.oldest_tag(tree, floor.requirement_on_core(tree, "gonzo-ssm")) is None

    def test_core_has_none(self, tool, tree):
        assert tool("release_floor").requirement_on_core(tree, "gonzo-core") is None

    @pytest.mark.parametrize(
        ("bounds", "oldest"),
        [
            (">=0.1,<0.2", "0.1.0"),
            (">=0.1.1,<0.2", "0.1.2"),
            (">=0.1.10,<0.2", "0.1.10"),
            (">=0.2,<0.3", None),
        ],
    )
    def test_the_lowest_release_in_the_bounds(self, tool, ready, bounds, oldest):
        for tag in ("core-v0.1.10", "core-v0.1.2", "core-v0.0.9", "core-v0.2.0rc1", "lab-v0.2.0"):
            git(ready, "tag", f"gonzo-{tag}")
        write(ready / "packages/gonzo-ssm/pyproject.toml", pyproject("gonzo-ssm", bounds=bounds))
        floor = tool("release_floor")
        tag = floor.oldest_tag(ready, floor.requirement_on_core(ready, "gonzo-ssm"))
        assert tag == (oldest and f"gonzo-core-v{oldest}")

    def test_it_is_built_from_the_tag(self, tool, ready, tmp_path):
        write(ready / "packages/gonzo-core/src/gonzo/core/__init__.py", "A = 'of the tree'\n")
        commit(ready)
        wheel = tool("release_floor").build(ready, "gonzo-core-v0.1.0", tmp_path / "out")
        assert wheel.name == "gonzo_core-0.1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel) as archive:
            assert archive.read("gonzo/core/__init__.py") == b"A = 1\n"


def refused(tool, tree: Path) -> str:
    check = tool("release_check")
    return "\n".join(check.check(tree, "gonzo-ssm", tree / "build"))


class TestReleaseCheck:
    """What is published is the tree's, the same every time it is built, and nothing else."""

    def test_what_is_published(self, tool, tree, capsys):
        assert refused(tool, tree) == ""
        assert {path.name for path in (tree / "build").iterdir()} == {
            "gonzo_ssm-0.1.0-py3-none-any.whl",
            "gonzo_ssm-0.1.0.tar.gz",
        }
        assert len(re.findall(r"sha256 [0-9a-f]{64}", capsys.readouterr().out)) == 2

    def test_without_git_it_is_the_same(self, tool, tree, capsys):
        refused(tool, tree)
        sums = capsys.readouterr().out
        shutil.rmtree(tree / ".git")
        assert refused(tool, tree) == ""
        assert capsys.readouterr().out == sums

    def test_what_git_ignores_is_not_published(self, tool, tree):
        write(tree / ".gitignore", "secret.py\n")
        write(tree / "packages/gonzo-ssm/src/gonzo/ssm/secret.py", "KEY = 1\n")
        assert refused(tool, tree) == ""

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("src/gonzo/__init__.py", "", "is not allowed in parent directory"),
            ("src/gonzo/ssm/kernel.so", "", "kernel.so does not belong in a wheel"),
            ("src/gonzo/ssm/py.typed", None, "without gonzo/ssm/py.typed"),
            ("LICENSE", None, "`LICENSE` did not match any files"),
            (
                "pyproject.toml",
                pyproject("gonzo-ssm").replace('"tests/**"', '"tests/test_x.py"'),
                "gonzo_ssm-0.1.0.tar.gz lacks tests/test_ssm.py",
            ),
            (
                "pyproject.toml",
                pyproject("gonzo-ssm").replace('"tests/**"', '"tests/**", "changes/**"'),
                "gonzo_ssm-0.1.0.tar.gz holds changes/+foundation.feature.md",
            ),
            (
                "pyproject.toml",
                pyproject("gonzo-ssm").replace(
                    "description =", 'urls.Home = "http://localhost"\ndescription ='
                ),
                "expected Home to begin with https://",
            ),
            (
                "pyproject.toml",
                pyproject("gonzo-ssm", bounds=" @ file:///core.whl"),
                "names a file or a URL",
            ),
            ("README.md", "# S\n\n[core](../core)\n" + "\nMore.\n" * 10, "links to ../core"),
        ],
    )
    def test_a_planted_slip_is_found(self, tool, tree, name, text, said):
        path = tree / "packages/gonzo-ssm" / name
        path.unlink() if text is None else write(path, text)
        found = refused(tool, tree)
        assert said in found

    def test_a_build_that_differs_is_found(self, tool, tmp_path):
        for folder, text in (("first", "a"), ("again", "b")):
            write(tmp_path / folder / "gonzo_ssm-0.1.0.tar.gz", text)
        write(tmp_path / "again/gonzo_ssm-0.1.0-py3-none-any.whl", "")
        differences = tool("release_check").differences
        wheel, sdist = differences(tmp_path / "first", tmp_path / "again")
        assert "sha256 (not built), then" in wheel
        assert sdist.startswith("gonzo_ssm-0.1.0.tar.gz is not the same when it is built again")

    def test_a_file_that_differs_is_found(self, tool, tree):
        check = tool("release_check")
        refused(tool, tree)
        write(tree / _SOURCE, "A = 6\n")
        source = tree / "packages/gonzo-ssm"
        (wheel,) = (tree / "build").glob("*.whl")
        project = {"license-files": ["LICENSE"]}
        assert list(check.in_wheel(wheel, source, project)) == [
            f"{wheel.name}: gonzo/ssm/__init__.py is not the file of the tree"
        ]


WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))


def sessions() -> set[str]:
    text = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    return set(re.findall(r"^@nox\.session.*?^def (\w+)\(", text, re.MULTILINE | re.DOTALL))


def called(workflow: Path) -> set[str]:
    """The sessions that a workflow runs, those of its matrix included."""
    text = workflow.read_text(encoding="utf-8")
    commands = re.findall(r"nox -s (.*?)(?: --|$)", text, re.MULTILINE)
    listed = re.findall(r"session: \[(.*)\]", text)
    return set(re.findall(r"(?<![$\w(])\w+", " ".join([*commands, *listed])))


def test_there_are_workflows():
    assert {path.stem for path in WORKFLOWS} == {"ci", "docs", "gpu", "release"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_sessions_that_there_are(workflow):
    assert called(workflow)
    assert called(workflow) <= sessions()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit(workflow):
    used = re.findall(r"uses: (.*)", workflow.read_text(encoding="utf-8"))
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_a_plain_run_of_nox_is_covered_by_ci():
    (default,) = re.findall(
        r"nox\.options\.sessions = \[(.*?)\]", (ROOT / "noxfile.py").read_text(), re.DOTALL
    )
    assert set(re.findall(r'"(\w+)"', default)) <= called(ROOT / ".github/workflows/ci.yml")
