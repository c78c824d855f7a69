"""Whatever moment a run is killed at, starting it again ends with the same numbers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gonzo.lab import Run

TESTS = Path(__file__).parent

# Checkpoints after which a run is killed: fewer in all than it writes on an idle machine.
MOMENTS = [1.3, 0.5, 1.0, 2.2, 0.0, 1.7, 0.9, 1.1, 2.5, 0.3]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


def command(directory: str, pause: float = 0.004) -> list[str]:
    line = f"run toy.line --steps 600 --threads 1 --pause {pause} --run-dir {directory}"
    return [*line.split(), "--checkpoint-seconds", "0.02"]


def numbers(directory: Path) -> tuple[dict[str, float], dict[str, str]]:
    metrics = json.loads((directory / "result.json").read_text())["metrics"]
    logged = {p.parent.name: p.read_text() for p in (directory / "metrics").rglob("*.jsonl")}
    assert len(logged) == 2
    return metrics, logged


def test_ten_kills_and_a_ctrl_c_change_nothing(tmp_path: Path) -> None:
    jobs = [
        *(["SIGKILL", moment, "killed", command("killed")] for moment in MOMENTS),
        ["", 0, "killed", command("killed")],
        ["SIGINT", 1, "stopped", command("stopped")],
        ["", 0, "stopped", command("stopped")],
        ["", 0, "whole", command("whole", pause=0)],
        ["", 0, "held", command("held")],
    ]
    with Run(tmp_path / "held"):
        server = subprocess.run(
            [sys.executable, str(TESTS / "kill_server.py"), json.dumps(jobs)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(TESTS / "toy")},
            capture_output=True,
            text=True,
            timeout=240,
        )
    codes = json.loads(server.stdout.splitlines()[-1])
    kills = codes[: len(MOMENTS)]  # 0 where a slow machine finished the run before
    assert set(kills) <= {-signal.SIGKILL, 0}, server.stderr
    assert kills.count(-signal.SIGKILL) >= 3, server.stderr
    assert codes[len(MOMENTS) :] == [0, 130, 0, 0, 2], server.stderr
    assert "Traceback" not in server.stderr
    assert server.stderr.count("| continues") >= 2
    assert "of 'steep/train'. To continue: gonzo run toy.line --steps 600" in server.stderr
    assert "held is in use by another process" in server.stderr
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    assert numbers(tmp_path / "stopped") == numbers(tmp_path / "whole")
    assert not list(tmp_path.rglob("*.tmp"))
