"""What the READMEs show works: Python blocks run, gonzo commands exist with their flags.

The commands of docs/ are checked here too; its Python runs in test_docs.py, a page at a time.
"""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gonzo.lab.cli import run_command

ROOT = Path(__file__).resolve().parents[1]
READMES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("packages/*/README.md"))]
PAGES = [*READMES, *sorted(ROOT.glob("docs/**/*.md"))]


def blocks(pages: list[Path], *languages: str) -> list:
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        chosen = [block for language, block in fenced if language in languages]
        name = page.relative_to(ROOT).as_posix()
        found += [pytest.param(block, id=f"{name}-{i}") for i, block in enumerate(chosen)]
    return found


def commands() -> list:
    """Every distinct `gonzo` command line of the blocks for a shell, as arguments."""
    found = {}
    for block in blocks(PAGES, "", "bash"):
        for line in block.values[0].splitlines():
            command = re.search(r"(?:^|run )gonzo (.*?)\s*(?:#.*)?$", line)
            if command:
                found[command[1]] = shlex.split(command[1])
    return [pytest.param(call, id=name) for name, call in found.items()]


@pytest.mark.parametrize("block", blocks(READMES, "python"))
def test_python_block_runs(block, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "GONZO_DATA_DIR"}
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", block],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("call", commands())
def test_command_exists_with_its_flags(call, capsys):
    words = [word for word in call if not word.startswith("-")]
    position = 2 if words[0] == "run" else 1
    try:
        code = run_command([*words[:position], "--help"])
    except SystemExit as stopped:
        code = stopped.code
    shown, said = capsys.readouterr()
    assert code == 0, said
    for flag in (word for word in call if word.startswith("--")):
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", shown), f"no {flag}"


def test_the_two_commands_come_first():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^(pip install uv && .*?|uvx? .*?)\s*(?:#.*)?$", text, re.MULTILINE)
    assert found[:2] == ["pip install uv && uv run gonzo reproduce", "pip install uv && uv run nox"]


@pytest.mark.parametrize("part", ["core", "core.nn", "ssm", "lab"])
def test_every_public_name_is_in_the_readme(part):
    package = f"gonzo-{part.partition('.')[0]}"
    text = (ROOT / "packages" / package / "README.md").read_text(encoding="utf-8")
    names = importlib.import_module(f"gonzo.{part}").__all__
    assert [name for name in names if f"`{name}" not in text] == []
