"""The loop that reads numbers, against Python's own ``float``."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.translation.text_numbers import parse_lines


def parse(text, lines, columns, dtype=np.float64):
    numbers = np.full((lines, columns), np.nan, dtype)
    bounds = np.full((lines, 3), -1)
    good = np.zeros(lines, np.bool_)
    parse_lines(np.frombuffer(text, np.uint8), numbers, bounds, good)
    return numbers, bounds, good


DECIMALS = st.from_regex(r"[-+]?[0-9]{0,9}\.?[0-9]{0,9}([eE][-+]?[0-9]{1,3})?", fullmatch=True)


@settings(deadline=None)
@given(st.lists(st.one_of(DECIMALS, st.floats().map(repr)), min_size=1, max_size=5))
def test_what_is_read_is_what_float_reads(fields):
    numbers, _, good = parse(f"w {' '.join(fields)}".encode(), 1, len(fields))
    if good[0]:
        expected = np.array([float(field) for field in fields])
        assert numbers[0].tobytes() == expected.tobytes()
    else:
        assert any(hard(field) for field in fields)


def hard(field):
    """Whether a field is no number, or one of more digits or exponent than the loop reads."""
    digits, _, exponent = field.lower().partition("e")
    if not any(letter.isdigit() for letter in digits) or field.lower().endswith(("inf", "nan")):
        return True
    whole = int("".join(letter for letter in digits if letter.isdigit()))
    shift = int(exponent or 0) - len(digits.partition(".")[2])
    return whole >= 900719925474099 or abs(shift) > 22


@pytest.mark.parametrize(
    "field", ["0.12573", "-1.2345679e-05", "3.4028235e+38", "1E5", "-0.0", "7."]
)
def test_what_real_files_hold_is_read_by_the_loop(field):
    numbers, _, good = parse(f"w {field}".encode(), 1, 1, np.float32)
    easy = field != "3.4028235e+38"
    assert good[0] == easy
    if easy:
        assert numbers[0, 0] == np.float32(field)


def test_the_bounds_of_words_and_lines():
    text = b"ab 1 2\n\n 3 4\ncd 5\nef\t6\t7 \r\ng 8 9 10\nh 1 2"
    numbers, bounds, good = parse(text, 7, 2)
    assert good.tolist() == [True, False, True, False, True, False, True]
    assert [text[start:stop] for start, stop, _ in bounds] == [
        b"ab", b"", b"", b"cd", b"ef", b"g", b"h"
    ]  # fmt: skip
    lines = text.split(b"\n")
    assert [text[start:end] for start, _, end in bounds] == lines
    assert numbers[good].tolist() == [[1, 2], [3, 4], [6, 7], [1, 2]]
