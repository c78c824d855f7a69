"""Dictionary induction, candidates, rank cut and margins, beside MUSE's build restated.

Target vectors are noisy rotated source vectors in clusters, so that there are hubs and close calls.
"""

import statistics
import time

import torch
from peers import muse

from gonzo.core.bench import ValueRow, at_most, main
from gonzo.translation.induction import induce_lexicon

TESTS = ["tests/test_peers.py", "tests/test_refinement.py"]
WORDS, DIM, RANK = 20_000, 300, 15_000
PEER = "MUSE's build restated, blocks of torch.mm and topk; one run"
LEAST = 1e-6
"""Below this margin float32 may choose either word."""


def vocabularies():
    """Unit vectors of both languages, (20,000, 300) each."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    clusters = normal(300, DIM)[torch.randint(300, (WORDS,), generator=generator)]
    source = torch.nn.functional.normalize(clusters + 1.2 * normal(WORDS, DIM))
    noise = normal(WORDS, DIM) / DIM**0.5
    return source, torch.nn.functional.normalize(source + 0.8 * noise)


def seconds(call, runs):
    """Median CPU seconds."""
    times = []
    for _ in range(runs):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return statistics.median(times)


def ours(direction):
    source, target = vocabularies()
    limits = (RANK, RANK + 1) if direction == "source-to-target" else RANK  # MUSE's cut
    induce_lexicon(source[:50], target[:50], direction=direction)  # compiles
    return seconds(
        lambda: induce_lexicon(source, target, direction=direction, max_rank=limits), runs=3
    )


def peer(direction):
    source, target = vocabularies()
    return seconds(lambda: muse.dictionary(source, target, direction=direction), runs=1)


def differing(direction):
    """How many of MUSE's pairs differ from ours though their margin is 1e-6 or more."""
    source, target = vocabularies()
    swap = direction == "target-to-source"
    sides = (target, source) if swap else (source, target)
    theirs, scores = muse.candidates(*sides)
    sure = theirs[scores[:, 0] - scores[:, 1] >= LEAST]
    limits = (RANK + 1, RANK) if swap else (RANK, RANK + 1)
    found = induce_lexicon(source, target, direction=direction, max_rank=limits)
    mine = {tuple(pair) for pair in (found.flip(1) if swap else found).tolist()}
    return sum(tuple(pair) not in mine for pair in sure.tolist()) + abs(len(mine) - len(theirs))


def time_row(direction, bar):
    return ValueRow(
        what=f"dictionary {direction}, 20k x 20k x 300, k 10, rank 15,000",
        unit="s",
        ours=lambda: ours(direction),
        peer=lambda: peer(direction),
        peer_name=PEER,
        bar=at_most(bar),
        tests=TESTS,
    )


def equal_row(direction):
    return ValueRow(
        what=f"dictionary {direction}, pairs of margin >= 1e-6 that differ from MUSE's",
        ours=lambda: differing(direction),
        bar=at_most(0),
        tests=TESTS,
    )


ROWS = [
    time_row("source-to-target", 5.5),
    time_row("intersection", 7),
    equal_row("source-to-target"),
    equal_row("target-to-source"),
]

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-translation", script=__file__))
