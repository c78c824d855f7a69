"""Benchmarks with bars: ours and a peer, in one process, in turn, and an exit code that means it.

A benchmark is a script with a list of rows:

    ROWS = [
        TimeRow(
            "linear_scan forward (8, 4096, 512)",
            setup=inputs,
            ours=linear_scan,
            peer=torch.add,
            peer_name="torch.add of the same sizes",
            bar=times_peer(1.3),
            tests=["tests/test_linear_scan.py"],
        )
    ]

    if __name__ == "__main__":
        raise SystemExit(main(ROWS, package="gonzo-core", script=__file__))
"""

from gonzo.core.bench.memory import peak_memory
from gonzo.core.bench.rows import (
    Bar,
    TimeRow,
    ValueRow,
    at_most,
    faster_than_peer,
    on_device,
    times_peer,
)
from gonzo.core.bench.session import main

__all__ = [
    "Bar",
    "TimeRow",
    "ValueRow",
    "at_most",
    "faster_than_peer",
    "main",
    "on_device",
    "peak_memory",
    "times_peer",
]
