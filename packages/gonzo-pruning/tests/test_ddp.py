"""Two processes find the tickets that one finds, and one of them writes."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gonzo.core.testing import assert_close
from gonzo.pruning.lottery_result import LotteryResult

SCRIPT = Path(__file__).with_name("ddp_lottery.py")


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def two_processes(folder):
    # Without an interface to use, gloo looks up the name of the host.
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0], "\n".join(said)


@pytest.mark.skipif(sys.platform != "linux", reason="gloo is set up for Linux's loopback here")
def test_two_processes_find_what_one_finds(tmp_path):
    runpy.run_path(str(SCRIPT))["find"](tmp_path / "alone")
    two_processes(tmp_path)
    alone = LotteryResult.read(tmp_path / "alone")
    for name in ("two", "views"):
        found = LotteryResult.read(tmp_path / name)
        assert [trial.name for trial in found.trials] == [trial.name for trial in alone.trials]
        for number in (1, 2):
            assert found.masks(number) == alone.masks(number)
        for ours, expected in zip(found.trials, alone.trials, strict=True):
            values = torch.tensor([entry["validation_loss"] for entry in ours.history])
            judge = torch.tensor([entry["validation_loss"] for entry in expected.history])
            assert_close(values, judge, name=ours.name)
    assert content(tmp_path / "two") == content(tmp_path / "views")
