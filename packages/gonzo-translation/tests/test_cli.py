import re
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest

pytest.importorskip("tyro")
pytest.importorskip("gonzo.lab")
pytest.importorskip("matplotlib")

from gonzo.translation import aligning, cli
from gonzo.translation.commands import align as align_command

N, D, ALIKE = 300, 20, 30


@pytest.fixture
def run(capsys):
    def called(*arguments, code=0):
        got = cli.run_command(list(map(str, arguments)))
        said = capsys.readouterr()
        assert got == code, said.err
        return said

    return called


def one_line(text):
    assert text.count("\n") == 1, text
    assert text.startswith("gonzo-translation: ")
    return text


def test_help_lists_the_commands(run):
    said = run("--help").out
    for name in cli.COMMANDS:
        assert f"  {name} " in said
    assert run(code=2).out == said


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command_explains_every_option(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.run_command([name, "--help"])
    said = capsys.readouterr().out
    assert f"gonzo-translation {name}" in said
    explained = re.sub(r"[│\n]| +", " ", said)
    explained = re.sub(r" +", " ", explained)
    for option in re.findall(r"(--[a-z-]+) (?:\[?[{A-Z])", explained):
        after = explained.split(f" {option} ", 1)[1]
        assert not re.match(r"\S* \((default|required)", after), option


def test_help_imports_no_torch():
    code = (
        "import sys, gonzo.translation.cli as c; c.run_command(['--help'])\n"
        "for name in c.COMMANDS:\n"
        " try: c.run_command([name, '--help'])\n"
        " except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_methods_are_those_of_the_library():
    kind = get_type_hints(align_command.Options)["method"]
    assert get_args(kind) == get_args(aligning.Method)
    assert align_command.NEEDS_LEXICON == aligning.NEEDS_LEXICON


def test_without_the_extra(run, monkeypatch):
    monkeypatch.setattr(cli, "_installed", lambda name: name != "rich")
    assert 'pip install "gonzo-translation[cli]"' in one_line(run("align", code=2).err)


def test_unknown_words_of_the_command_line(run):
    assert "Did you mean 'align'?" in one_line(run("algin", code=2).err)
    said = one_line(run("dictionary", "x", "--mutaul", code=2).err)
    assert "Did you mean '--mutual'?" in said
    said = one_line(run("align", "--method", "magic", code=2).err)
    assert "'magic'" in said
    assert "'semi-supervised'" in said
