"""Training with the library fasttext, in a process of its own, so that it can be repeated.

The library (0.9.3) fills only the first tenth of its matrix of words and n-grams with random
numbers for each thread, and leaves the rest as memory happened to be: two runs on one thread can
differ, and some end in "Encountered NaN". In a fresh process whose allocator clears memory (glibc's
MALLOC_PERTURB_, see mallopt(3); elsewhere fresh pages are zero) that rest is zero. The words come
first in the matrix, so that up to a ninth as many words as buckets start from random numbers, and
n-grams from zero. Besides, Ctrl-C ends a training that is a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from gonzo.core.require import require

__all__ = ["train_fasttext"]

_MODULE = "fasttext_pybind"
_EXTRA = "gonzo-translation[fasttext]"
_PROGRAM = Path(__file__).with_name("fasttext_process.py")
_CLEARED = {"MALLOC_PERTURB_": "255", "GLIBC_TUNABLES": "glibc.malloc.perturb=255"}


def train_fasttext(
    path: Path, words: list[str], arguments: dict[str, float], folder: Path
) -> np.ndarray:
    """Train a skip-gram model with negative sampling.

    Args:
        path: a file of words separated by spaces, UTF-8.
        words: the words whose vectors are wanted.
        arguments: the library's, by its own names; `maxn` 0 is words alone.
        folder: where to exchange files.

    Returns:
        The vectors of `words`, (words, dim) float32.

    Raises:
        MissingExtraError: The library is not installed.
        RuntimeError: It failed; the message is its own.
    """
    require(_MODULE, extra=_EXTRA)
    if not arguments["maxn"]:
        # Rows that no word uses, so that the words are in the tenth that is filled.
        arguments = {**arguments, "bucket": 10 * (len(words) + 1)}
    order = folder / "order.json"
    order.write_text(json.dumps({"arguments": arguments, "input": str(path), "words": words}))
    answer = folder / "vectors.npy"
    done = subprocess.run(
        [sys.executable, "-P", str(_PROGRAM), str(order), str(answer)],
        env={**os.environ, **_CLEARED},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(
            f"fasttext failed with exit code {done.returncode}: {said[-1] if said else ''}"
        )
    return np.load(answer, allow_pickle=False)
