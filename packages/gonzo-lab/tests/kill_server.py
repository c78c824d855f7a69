"""Run `gonzo` command lines one after another, each in a fork, signalling some of them.

    python kill_server.py '[["SIGKILL", 0.2, ["run", "toy.line"]], ["", 0, ["run", "toy.line"]]]'

Each job names a signal (or none) and the seconds after which the child gets it. A fork per job,
after everything heavy was imported once, so that a dozen starts take seconds. Prints the exit
codes as JSON; that of a child that died of a signal is negative.
"""

import json
import os
import signal
import sys
import time

import torch
import toy_line  # noqa: F401

from gonzo.lab.cli import run_command
from gonzo.lab.commands import run  # noqa: F401
from gonzo.lab.launch import execute  # noqa: F401

# The first optimizer imports a good part of torch. One thread, since no pool survives a fork.
torch.set_num_threads(1)
torch.optim.Adam([torch.zeros(1)])

codes = []
for name, seconds, arguments in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        os._exit(run_command(arguments))
    if name:
        time.sleep(seconds)
        os.kill(child, signal.Signals[name])
    _, status = os.waitpid(child, 0)
    codes.append(os.waitstatus_to_exitcode(status))
print(json.dumps(codes))
