"""Transform lengths at which FFTs are fast."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=1024)
def fast_size(at_least: int) -> int:
    """The smallest 2^a 3^b 5^c that is not below `at_least` and has enough factors of two.

    A transform of 1620 = 4·405 takes longer than one of 1728 = 64·27, by half, so sizes are
    multiples of a power of two: 64 from 1024 up, about a sixteenth below, and even in any case.
    """
    unit = min(64, max(2, 1 << (at_least // 16).bit_length() >> 1))
    best = 2 << max(0, at_least - 1).bit_length()
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            size = unit * threes
            while size < at_least:
                size *= 2
            best = min(best, size)
            threes *= 3
        fives *= 5
    return best
