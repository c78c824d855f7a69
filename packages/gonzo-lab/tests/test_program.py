import sys
import types
from dataclasses import dataclass

import pytest

from gonzo.lab.directory import RunDirectory
from gonzo.lab.program import Program
from gonzo.lab.report.run_page import write_run_page
from gonzo.lab.terminal import print_table, remark


@dataclass(frozen=True)
class Options:
    error: str = ""


ERRORS = {
    "value": (ValueError("no such colour"), 2, "toy: no such colour\n"),
    "file": (FileNotFoundError(2, "No such file or directory", "a.txt"), 2, "toy: a.txt: No such"),
    "stop": (KeyboardInterrupt(), 130, "Interrupted. To continue: toy paint-it --error stop\n"),
    "after": (KeyboardInterrupt("Stopped after step 3"), 130, "Stopped after step 3. To cont"),
    "defect": (ZeroDivisionError(), 1, "Traceback"),
}


@pytest.fixture
def program(monkeypatch):
    def command(options):
        if options.error:
            raise ERRORS[options.error][0]
        return 0

    module = types.ModuleType("toy_commands.paint_it", "Paint.")
    module.Options, module.command = Options, command
    monkeypatch.setitem(sys.modules, "toy_commands", types.ModuleType("toy_commands"))
    monkeypatch.setitem(sys.modules, "toy_commands.paint_it", module)
    return Program("toy", "a toy", {"paint-it": "in a colour"}, "toy_commands")


def test_commands_and_help(program, capsys):
    assert program.run(["paint-it"]) == 0
    assert program.run(["--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("toy: a toy\n")
    assert "  paint-it in a colour\n" in said
    assert program.run([]) == 2
    assert capsys.readouterr().out == said


def test_an_unknown_command(program, capsys):
    assert program.run(["pain-it"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("toy: there is no command 'pain-it'. Did you mean 'paint-it'?")


@pytest.mark.parametrize("name", ERRORS)
def test_errors(program, capsys, name):
    _, code, sentence = ERRORS[name]
    assert program.run(["paint-it", "--error", name]) == code
    assert capsys.readouterr().err.startswith(sentence)


def test_what_commands_print(capsys):
    print_table(("what", "[n]"), [("[bold]a", "1"), ("b", "23")])
    remark("[b] is no markup")
    said = capsys.readouterr()
    assert [line.rstrip() for line in said.out.splitlines()] == [
        "what     [n]",
        "[bold]a    1",
        "b         23",
    ]
    assert said.err == "[b] is no markup\n"


def test_page_of_a_run(tmp_path):
    RunDirectory(tmp_path, {}, {}).release()
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "a.jsonl").write_text(
        '{"step": 0, "loss": 2}\n{"step": 1, "loss": 1}\n'
    )
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "b.svg").write_text("<svg/>")
    (tmp_path / "figures" / "c.svg").write_text('<svg x="1" width="20.5pt" height="10pt"/>')
    path = write_run_page(
        tmp_path, "A < B", "lead", {"numbers": [("x", "y"), ("1", "<2>")]}, warning="worthless"
    )
    page = path.read_text()
    assert "A &lt; B" in page
    assert "<th>x<th>y" in page
    assert "<td>&lt;2&gt;" in page
    assert '<p class="problem">worthless</p>' in page
    assert "data:image/svg+xml;base64," in page
    assert '<figure class="drawn"><figcaption>b<' in page
    assert '<figure class="drawn wide"><figcaption>c<' in page
    assert 'aria-label="loss by step"' in page
