"""The `gonzo` command with the recipes of every package, as separate processes."""

import json

import pytest

from gonzo.lab.cli import run_command

TINY = ["--training.steps", "3", "--training.batch", "4", "--model.d-model", "4"]
TINY += ["--model.d-state", "4", "--threads", "1"]


def test_list_shows_every_recipe(gonzo):
    done = gonzo("list")
    assert done.returncode == 0, done.stderr
    for recipe in ("ssm.sequential-mnist", "ssm.hippo-ablation"):
        assert recipe in done.stdout
    assert "quick" in done.stdout
    assert "cpu" in done.stdout


def test_doctor_names_packages_and_kernels(gonzo):
    done = gonzo("doctor")
    assert done.returncode == 0, done.stderr
    for name in ("gonzo-core", "gonzo-lab", "gonzo-ssm", "linear_scan", "cauchy", "mnist"):
        assert name in done.stdout
    assert "problem" not in done.stdout


def test_a_small_run_finishes_and_is_reported(gonzo, tmp_path):
    done = gonzo("run", "ssm.sequential-mnist", *TINY, "--run-dir", "runs/tiny")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "runs/tiny/result.json").read_text())
    assert result["recipe"] == "ssm.sequential-mnist"
    assert result["changed"]["training.steps"] == 3
    assert 0 <= result["metrics"]["accuracy"] <= 100
    assert "99.63" in done.stdout

    again = gonzo("run", "ssm.sequential-mnist", *TINY, "--run-dir", "runs/tiny")
    assert again.returncode == 0, again.stderr
    assert "Finished before" in again.stdout

    report = gonzo("report")
    assert report.returncode == 0, report.stderr
    page = report.stdout.split("Report: ")[1].strip()
    assert "<html" in (tmp_path / page).read_text().lower()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "ssm.sequential-mnits"], "ssm.sequential-mnist"),
        (["run", "ssm.sequential-mnist", "--preset", "qick"], "quick"),
        (["run", "ssm.sequential-mnist", "--model.d-modle", "8"], "--model.d-model"),
        (["reproduce", "smm"], "ssm"),
        (["rnu"], "run"),
    ],
    ids=["recipe", "preset", "field", "package", "command"],
)
def test_what_does_not_exist_says_what_does(arguments, said, capsys):
    assert run_command(arguments) == 2
    assert said in capsys.readouterr().err


def test_the_exit_code_reaches_the_shell(gonzo):
    done = gonzo("run", "ssm.no-such-recipe")
    assert done.returncode == 2
    assert "ssm.hippo-ablation" in done.stderr
    assert "Traceback" not in done.stderr
