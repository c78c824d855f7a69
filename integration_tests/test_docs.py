"""What the documentation shows works: a page's Python runs from top to bottom, as for a reader.

The blocks of a page share a process. A block of text right after one of Python is what that prints.
"""

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.glob("docs/**/*.md"))}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_RUN = """
import contextlib, io, json, sys

names = {"__name__": "__main__"}
for line, code, expected in json.load(sys.stdin):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\\n" * line + code, sys.argv[1], "exec"), names)
    if expected is not None and printed.getvalue() != expected:
        sys.exit(f"line {line}: expected\\n{expected}\\nprinted\\n{printed.getvalue()}")
"""


class Block(NamedTuple):
    line: int
    code: str
    printed: str | None


def blocks(text: str) -> list[Block]:
    fences = list(_FENCE.finditer(text))
    found = []
    for fence, after in zip(fences, [*fences[1:], None], strict=True):
        if fence[1] != "python":
            continue
        follows = after is not None and after[1] == "text"
        adjacent = follows and not text[fence.end() : after.start()].strip()
        line = text[: fence.start()].count("\n") + 1
        found.append(Block(line, fence[2], after[2] if adjacent else None))
    return found


def run(name: str, page: list[Block], folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if key != "GONZO_DATA_DIR"}
    environment["OMP_NUM_THREADS"] = (
        "1"  # threads that wait for one another crawl on a busy machine
    )
    # The ignored warning is about torch's own imports, when it compiles.
    warnings = ["-W", "error", "-W", "ignore:`torch.jit:DeprecationWarning"]
    return subprocess.run(
        [sys.executable, "-I", *warnings, "-c", _RUN, name],
        input=json.dumps(page),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "name", [n for n, path in PAGES.items() if "```python" in path.read_text()]
)
def test_page_runs(name, tmp_path):
    page = blocks(PAGES[name].read_text(encoding="utf-8"))
    assert page
    done = run(name, page, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_page_that_prints_something_else_is_found(tmp_path):
    page = blocks("x\n\n```python\nx = 1\n```\n\n```python\nprint(x)\n```\n\n```text\n2\n```\n")
    assert page == [Block(3, "x = 1\n", None), Block(7, "print(x)\n", "2\n")]
    assert "printed\n1" in run("page", page, tmp_path).stderr


def test_an_error_names_its_line_of_the_page(tmp_path):
    done = run("page", blocks("# x\n\n```python\nx = 1\nx.y\n```\n"), tmp_path)
    assert done.returncode == 1
    assert 'File "page", line 5' in done.stderr


def test_every_public_name_is_on_a_page_of_the_api():
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/api").glob("*.md"))
    shown = re.findall(r"^::: (gonzo[\w.]*)$(?!\n +options: .*members: false)", text, re.MULTILINE)
    objects = [pkgutil.resolve_name(name) for name in shown]
    parts = [path.parent.name for path in ROOT.glob("packages/*/src/gonzo/*/py.typed")]
    missing = []
    for part in (*parts, "core.nn", "core.testing", "core.bench"):
        package = importlib.import_module(f"gonzo.{part}")
        if package not in objects:  # a page may show a package whole, or its names one by one
            names = {name: getattr(package, name) for name in package.__all__}
            missing += [n for n, value in names.items() if all(value is not o for o in objects)]
    assert missing == []


def test_every_op_has_a_page_with_its_derivation():
    ops = ROOT / "packages/gonzo-core/src/gonzo/core/ops"
    for readme in ops.glob("*/README.md"):
        page = (ROOT / f"docs/ops/{readme.parent.name}.md").read_text(encoding="utf-8")
        assert f'--8<-- "{readme.relative_to(ROOT).as_posix()}"' in page


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    for name in ("generated_blocks", "table_cells", "docs_tables"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("docs_tables"), importlib.import_module("generated_blocks")


def planted(tmp_path: Path, docstring: str) -> Path:
    source = tmp_path / "gonzo-new/src/gonzo/new"
    source.mkdir(parents=True)
    (source / "idea.py").write_text(f'"""An idea.\n\n{docstring}\n"""\n')
    return tmp_path / "gonzo-new"


def test_a_deviation_that_no_page_lists_is_found(tools, tmp_path, monkeypatch):
    tables, _ = tools
    assert tables.unlisted_deviations() == []
    package = planted(tmp_path, "Deviation: P* is not P_n,\nsee `a_b`.")
    monkeypatch.setattr(tables, "PACKAGES", [*tables.PACKAGES, package])
    assert tables.unlisted_deviations() == ["gonzo.new.idea"]


def test_a_deviation_becomes_one_line_of_markdown(tools, tmp_path, monkeypatch):
    tables, generated = tools
    package = planted(tmp_path, "Deviation: P* is not P_n,\nsee `a_b`.\n\nMore.")
    monkeypatch.setattr(tables, "PACKAGES", [package])
    text = "<!-- generated: deviations gonzo.new.idea -->\nold\n<!-- end -->\n"
    page = ROOT / "docs/papers/new.md"
    written = generated.filled(page, text, tables.WRITERS).splitlines()
    assert written[1:] == [r"- `gonzo.new.idea`: P\* is not P\_n, see `a_b`.", "<!-- end -->"]


def test_metrics_stand_beside_the_papers(tools, monkeypatch):
    tables, generated = tools
    run = {"metrics": {"accuracy": 98.8}}  # the wheels know of no checkout that holds results
    monkeypatch.setattr(tables, "recorded", lambda _, preset: run if preset == "cpu" else None)
    text = "<!-- generated: metrics ssm.sequential-mnist ssm.lssl -->\n<!-- end -->\n"
    written = generated.filled(ROOT / "docs/papers/new.md", text, tables.WRITERS).splitlines()
    assert written[1].count("ours, ") == 3  # quick, cpu, paper
    cells = [cell.strip() for cell in written[3].split("|")]
    assert cells[1:4] == ["`ssm.sequential-mnist`", "test accuracy", "99.63 %"]
    assert cells[4:7] == ["not measured", "98.80 %", "not measured"]
    assert written[4].startswith("| `ssm.lssl` | LSSL's time over S4's | 30 × | ")


def test_a_deviation_in_passing_is_refused(tools, tmp_path, monkeypatch):
    tables, _ = tools
    monkeypatch.setattr(tables, "PACKAGES", [planted(tmp_path, "As they do. Deviation: none.")])
    with pytest.raises(ValueError, match="as a paragraph of a docstring"):
        tables.unlisted_deviations()


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("deviations gonzo.ssm.s9", "no docstring of gonzo.ssm.s9"),
        ("sizes S9", "expected one of .*S4, S4D, HiPPO"),
        ("metrics ssm.s9", "expected one of .*ssm.listops"),
        ("size S4", "expected one of sizes, "),
    ],
)
def test_a_slip_in_a_block_says_what_exists(tools, block, said):
    tables, generated = tools
    with pytest.raises(ValueError, match=said):
        generated.filled(
            ROOT / "docs/papers/s4.md",
            f"<!-- generated: {block} -->\n<!-- end -->\n",
            tables.WRITERS,
        )
