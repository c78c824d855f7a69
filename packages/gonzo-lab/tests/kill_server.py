"""Run `gonzo` command lines one after another, each in a fork, signalling some of them.

    python kill_server.py '[["SIGKILL", 2.5, "runs/a", ["run", …]], ["", 0, "runs/a", ["run", …]]]'

Each job names a signal (or none), how many checkpoints the child may write in its folder before it
gets it, a half meaning half of the time between two, the folder, and the command. Checkpoints and
not seconds, so that a busy machine kills at the same stages. A fork per job, after everything heavy
was imported once, so that a dozen starts take seconds. Prints the exit codes as JSON; that of a
child that died of a signal is negative.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
import toy_line  # noqa: F401

from gonzo.lab.cli import run_command
from gonzo.lab.commands import run  # noqa: F401
from gonzo.lab.launch import execute  # noqa: F401

# The first optimizer imports a good part of torch. One thread, since no pool survives a fork.
torch.set_num_threads(1)
torch.optim.Adam([torch.zeros(1)])


_BETWEEN = 0.02  # seconds between two checkpoints


def written(directory: str) -> list[int]:
    """When each loop's checkpoint was written."""
    found = []
    for path in sorted(Path(directory).glob("loops/*/*.pt")):
        with contextlib.suppress(FileNotFoundError):  # it is being replaced
            found.append(path.stat().st_mtime_ns)
    return found


def ended(child: int) -> bool:
    """Whether the child has ended, which leaves it to be waited for."""
    return bool(os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT))


def wait(child: int, checkpoints: float, directory: str) -> None:
    """Wait until the child has written so many checkpoints, or ended before."""
    last = written(directory)
    for _ in range(int(checkpoints)):
        while (now := written(directory)) == last and not ended(child):
            time.sleep(0.001)
        last = now
    time.sleep(checkpoints % 1 * _BETWEEN)


codes = []
for name, checkpoints, directory, arguments in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        os._exit(run_command(arguments))
    if name:
        wait(child, checkpoints, directory)
        os.kill(child, signal.Signals[name])
    _, status = os.waitpid(child, 0)
    codes.append(os.waitstatus_to_exitcode(status))
print(json.dumps(codes))
