"""Random numbers that depend on a name and a seed, and on nothing that ran before."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager

import torch

__all__ = ["derive_seed", "seeded"]


def derive_seed(seed: int, name: str) -> int:
    """Return a 63-bit seed for ``name``, independent of every other name's and other seed's."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Inside the block torch's global generators start from ``seed``; after it they are as before.

    Args:
        seed: For the CPU and for every GPU in use.
    """
    # A process that has not used its GPUs need not start them for this.
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.random.default_generator.manual_seed(seed)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
