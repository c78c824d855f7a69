"""The `gonzo` command: what it prints, what it refuses, and its exit codes."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Gonzo = Callable[..., tuple[int, str, str]]

ROOMS = ("no command 'rnu'. Did you mean 'run'?", "list, run, reproduce, report, doctor")


@pytest.mark.parametrize(
    ("line", "complaints"),
    [
        ("rnu", ROOMS),
        ("run toy.lime", ("no recipe 'toy.lime'. Did you mean 'toy.line'?", "toy.broken")),
        ("run --preset quick", ("expected a recipe before --preset",)),
        (
            "run toy.line --preset qick",
            ("no preset 'qick'. Did you mean 'quick'?", "quick, strict, paper"),
        ),
        (
            "run toy.line --model.widht 3",
            ("does not know --model.widht. Did you mean '--model.width'?", "--steps", "--seed"),
        ),
        ("run toy.line extra", ("does not know extra",)),
        ("run toy.line --steps many", ("Error parsing --steps", "invalid literal", "'many'")),
        ("run toy.line --data-dir absent", ("--data-dir: absent is not a folder",)),
        ("run toy.line --threads -1", ("--threads: expected 0 or more, got -1",)),
        ("run toy.missing", ("No module named 'surely_not_installed'", "'toy-recipes[recipes]'")),
        ("run toy.line --device warp", ("--device: 'warp'",)),
        ("run toy.line --record", ("no checkout to record to",)),
        ("reproduce tony", ("No installed package 'tony'", "Did you mean 'toy'?")),
        ("reproduce toy --preset qick", ("no preset 'qick'",)),
        ("list --al", ("does not know --al",)),
    ],
)
def test_mistakes_are_explained(gonzo: Gonzo, line: str, complaints: tuple[str, ...]) -> None:
    code, out, err = gonzo(*line.split())
    assert code == 2
    assert out == ""
    assert err.splitlines()[-1].startswith("gonzo: ")
    assert "Traceback" not in err
    for complaint in complaints:
        assert complaint in err
    assert not Path("runs").exists() or not list(Path("runs").glob("toy*"))


def test_help(gonzo: Gonzo) -> None:
    code, out, _ = gonzo("--help")
    assert code == 0
    assert all(command in out for command in ("list", "run", "reproduce", "report", "doctor"))
    assert gonzo()[0] == 2
    assert "toy.line" in gonzo("run", "--help")[1]
    code, out, _ = gonzo("run", "toy.line", "--preset", "paper", "--help")
    assert code == 0
    assert re.search(r"--steps INT.*400", out)
    assert "--model.width" in out


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys, gonzo.lab.cli as c; c.run_command(['--help']); c.run_command(['run']);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_run_writes_a_result_with_provenance(gonzo: Gonzo) -> None:
    code, out, err = gonzo("run", "toy.line", "--threads", "1")
    assert code == 0
    assert "steep/train: 40/40" in err
    assert "worst test error" in out
    assert "paper: 0.0123" in out
    assert "direction shown (target error <= 5)" in out
    result = json.loads(Path("runs/toy.line.quick/result.json").read_text())
    assert result["config"] == {"model": {"width": 8}, "steps": 40, "pause": 0.0}
    assert result["verdict"] == "direction shown"
    assert result["reduced"] == ["40 steps instead of 400"]
    assert result["changed"] == {}
    assert (result["seed"], result["threads"]) == (0, 1)
    assert {"python", "torch", "gonzo-core", "gonzo-lab"} <= result["versions"].keys()
    assert result["wall_seconds"] > 0
    assert result["device"]
    assert str(Path.cwd()) not in json.dumps(result)

    code, again, err = gonzo("run", "toy.line")
    assert code == 0
    assert err == ""
    assert "Finished before in runs/toy.line.quick; --fresh starts over." in again
    assert gonzo("run", "toy.line", "--fresh")[2].count("40/40") == 2


def test_changed_fields_get_a_directory_of_their_own(gonzo: Gonzo) -> None:
    assert gonzo("run", "toy.line", "--model.width", "3", "--steps=5", "--seed", "4")[0] == 0
    (directory,) = Path("runs").iterdir()
    assert re.fullmatch(r"toy\.line\.quick-[0-9a-f]{8}", directory.name)
    result = json.loads((directory / "result.json").read_text())
    assert result["changed"] == {"model.width": 3, "steps": 5}
    code, _, err = gonzo("run", "toy.line", "--run-dir", str(directory))
    assert code == 2
    assert "model.width is 3 there and 8 here; steps is 5 there and 40 here" in err
    assert "seed is 4 there and 0 here" in err


@pytest.mark.parametrize("content", ["{", "[]", '{"verdict": "reproduced"}'])
def test_a_damaged_result_is_reported_and_left(gonzo: Gonzo, content: str) -> None:
    gonzo("run", "toy.line")
    path = Path("runs/toy.line.quick/result.json")
    path.write_text(content)
    code, _, err = gonzo("run", "toy.line")
    assert code == 2
    assert f"{path} is damaged" in err
    assert "--fresh" in err
    assert path.read_text() == content
    assert "failed" in gonzo("list")[1]


def test_a_defect_shows_its_traceback(gonzo: Gonzo) -> None:
    code, _, err = gonzo("run", "toy.broken")
    assert code == 1
    assert "RuntimeError: the experiment exploded" in err


def test_list_shows_how_far_everything_is(gonzo: Gonzo) -> None:
    gonzo("run", "toy.line")
    code, out, _ = gonzo("list")
    assert code == 0
    assert re.search(r"quick +1 s +direction shown +\d\.\d{4} / 97.5 % +paper 0.0123 / 98.7 %", out)
    assert re.search(r"paper +1 min +not run", out)
    assert "toy.missing cannot be loaded" in out


def test_reproduce_compares_and_ends_with_the_report(gonzo: Gonzo) -> None:
    code, out, err = gonzo("reproduce", "toy")
    assert "[1/1] toy.line A small network learns a line" in err
    titles = [cell.strip() for cell in out.splitlines()[1].strip("┃").split("┃")]
    assert titles == ["recipe", "claim", "paper", "ours", "verdict", "time"]
    assert "0.0123 / 98.7 %" in out
    assert out.splitlines()[-1] == "Report: runs/report.html"
    assert Path("runs/report.html").exists()
    # toy.missing cannot be loaded, which must not pass for success.
    assert code == 1
    assert "toy.missing cannot be loaded" in out
    assert "40/40" not in gonzo("reproduce", "toy")[2]


def test_reproduce_names_what_missed_or_failed(gonzo: Gonzo) -> None:
    code, out, _ = gonzo("reproduce", "toy", "--preset", "strict")
    assert code == 1
    assert "not reached" in out
    assert "toy.line did not reach its target error <= 0: " in out
    code, out, err = gonzo("reproduce", "toy", "--all")
    assert code == 1
    assert "toy.broken failed: RuntimeError: the experiment exploded" in out
    assert "direction shown" in out
    assert "Traceback" in err


def test_doctor(gonzo: Gonzo, tmp_path: Path) -> None:
    code, out, _ = gonzo("doctor")
    assert code == 0
    for word in ("gonzo-core", "gonzo-lab", "cpu", "cuda", "linear_scan", "12,000 images"):
        assert word in out
    assert "surely_not_installed" in out
    assert "not a folder" in gonzo("doctor", "--data-dir", "absent")[1]


def test_record_copies_a_finished_preset(gonzo: Gonzo, tmp_path: Path) -> None:
    # The toy recipes as an editable checkout: src/ under a folder with a pyproject.toml.
    package = tmp_path / "packages" / "gonzo-toy"
    (package / "src").mkdir(parents=True)
    (package / "pyproject.toml").write_text('[project]\nname = "gonzo-toy"\n')
    source = Path(__file__).parent / "toy" / "toy_line.py"
    (package / "src" / "toy_line_here.py").write_text(source.read_text())
    information = package / "src" / "here-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: here\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[gonzo.recipes]\nhere.line = toy_line_here\n")
    sys.path.insert(0, str(package / "src"))
    try:
        code, out, _ = gonzo("run", "here.line", "--record")
        assert code == 0
        recorded = package / "results" / "line.quick.json"
        assert f"Recorded in {recorded}" in out
        assert recorded.read_bytes() == Path("runs/here.line.quick/result.json").read_bytes()
        assert "(recorded)" in gonzo("list", "--runs-dir", "elsewhere")[1]
        code, _, err = gonzo("run", "here.line", "--record", "--steps", "3")
        assert code == 2
        assert "without changed fields or seed" in err
    finally:
        sys.path.remove(str(package / "src"))
        sys.modules.pop("toy_line_here", None)
