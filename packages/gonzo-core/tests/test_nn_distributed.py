"""Two processes under torchrun train as one does."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gonzo.core.testing import assert_close

SCRIPT = Path(__file__).with_name("distributed_training.py")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def by_torchrun(path):
    # Without an interface to use, gloo looks up the name of the host.
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, *TORCHRUN, str(SCRIPT), str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr


def found(path):
    values = json.loads(path.read_text())
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


@pytest.mark.skipif(sys.platform != "linux", reason="gloo is set up for Linux's loopback here")
def test_two_processes_have_the_loss_and_the_parameters_of_one(tmp_path):
    runpy.run_path(str(SCRIPT))["main"](tmp_path / "alone.json")
    by_torchrun(tmp_path / "together.json")
    alone, together = found(tmp_path / "alone.json"), found(tmp_path / "together.json")
    assert alone["losses"][-1] < alone["losses"][0] - 0.1
    for name in ("losses", "parameters"):
        assert_close(together[name], alone[name], name=name)
