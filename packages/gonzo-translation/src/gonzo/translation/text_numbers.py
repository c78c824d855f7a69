"""The loop that reads numbers out of lines of text, some ten times as fast as ``float()`` does.

A decimal whose digits make an integer below 2**53, times a power of ten up to 10**22, is one exact
product or quotient of doubles, so that its rounding is that of ``float()`` (Clinger 1990, How to
read floating point numbers accurately, section 4). Any other number is left to the caller.
"""

import numpy as np

from gonzo.core.numba_kernels import kernel

__all__ = ["parse_lines"]

_POWERS = 10.0 ** np.arange(23)


@kernel(allocates=False)
def parse_lines(text, numbers, bounds, good):
    """Read lines of a word and d decimals, separated by spaces or tabs.

    Args:
        text: uint8, lines separated by newlines; the last has none.
        numbers: (lines, d) floating; filled where a line is good.
        bounds: (lines, 3) int64; filled with where a line starts, its first field ends and it ends.
        good: (lines,) bool; filled with whether the line is a word and d plain decimals.
    """
    at, size = 0, len(text)
    for line in range(len(good)):
        bounds[line, 0] = at
        while at < size and text[at] != 32 and text[at] != 9 and text[at] != 10:
            at += 1
        bounds[line, 1] = at
        fine = True
        for column in range(numbers.shape[1]):
            start = at
            while at < size and (text[at] == 32 or text[at] == 9):
                at += 1
            negative = at < size and text[at] == 45
            if at < size and (text[at] == 45 or text[at] == 43):
                at += 1
            digits, exponent, mantissa, point = 0, 0, np.int64(0), False
            while at < size:
                letter = text[at]
                if 48 <= letter <= 57:
                    if mantissa < 900719925474099:
                        mantissa = mantissa * 10 + (letter - 48)
                    else:
                        fine = False
                    digits += 1
                    exponent -= point
                elif letter == 46 and not point:
                    point = True
                else:
                    break
                at += 1
            if at < size and (text[at] == 101 or text[at] == 69):
                at += 1
                down = at < size and text[at] == 45
                if at < size and (text[at] == 45 or text[at] == 43):
                    at += 1
                power, first = 0, at
                while at < size and 48 <= text[at] <= 57 and power < 1000:
                    power = power * 10 + (text[at] - 48)
                    at += 1
                fine = fine and at > first
                exponent += -power if down else power
            ends = at == size or text[at] == 32 or text[at] == 9 or text[at] == 10 or text[at] == 13
            if not fine or not ends or digits == 0 or at == start or abs(exponent) > 22:
                fine = False
                break
            value = np.float64(mantissa)
            if exponent < 0:
                value /= _POWERS[-exponent]
            else:
                value *= _POWERS[exponent]
            numbers[line, column] = -value if negative else value
        while at < size and (text[at] == 32 or text[at] == 9 or text[at] == 13):
            at += 1
        if at < size and text[at] != 10:
            fine = False
            while at < size and text[at] != 10:
                at += 1
        bounds[line, 2] = at
        good[line] = fine
        at += 1
