import time

import numpy as np
import pytest

from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.comparison import baselines, compare

BLOCKS = [BasicBlock.from_hex(code) for code in ("4801d8", "488b07", "505b", "4801d84801d84801d8")]
CYCLES = [1.0, 0.5, 1.0, 3.0]


def test_every_predictor_on_the_same_blocks():
    found = compare(
        BLOCKS,
        CYCLES,
        {"right": lambda _: CYCLES, "partial": lambda _: [2.0, np.nan, 9.0, 3.0]},
    )
    right, partial = found.rows
    assert (right.name, right.all.mape, right.all.tau, right.all.count) == ("right", 0.0, 1.0, 4)
    assert found.classes == {"push/pop": 1, "load only": 1, "scalar": 2}
    assert list(right.by_class) == list(found.classes)
    assert (partial.all.missing, partial.without_stack.missing) == (1, 1)
    assert partial.all.mape == pytest.approx((1 + 8 + 0) / 3)
    assert partial.without_stack.mape == pytest.approx(0.5)
    assert partial.by_class["push/pop"].mape == 8.0
    assert partial.by_class["load only"].count == 0
    np.testing.assert_array_equal(partial.cycles, [2.0, np.nan, 9.0, 3.0])


def test_speed_is_end_to_end():
    def slow(blocks):
        time.sleep(0.1)
        return CYCLES

    (row,) = compare(BLOCKS, CYCLES, {"slow": slow}).rows
    assert 5 < row.blocks_per_second < 40


def test_baselines():
    rows = compare(BLOCKS, CYCLES, baselines(CYCLES)).rows
    np.testing.assert_array_equal(rows[0].cycles, [0.25, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(rows[1].cycles, [1.0] * 4)
    assert np.isnan(rows[1].all.tau)


def test_bad_input():
    with pytest.raises(ValueError, match="at least one measured block"):
        compare([], [], {})
    with pytest.raises(ValueError, match=r"cycles of shape \(4,\), got \(3,\)"):
        compare(BLOCKS, CYCLES[:3], {})
    with pytest.raises(ValueError, match="positive"):
        compare(BLOCKS, [0.0, 1, 1, 1], {"right": lambda _: CYCLES})
    with pytest.raises(ValueError, match=r"expected 4 values of odd, got shape \(1,\)"):
        compare(BLOCKS, CYCLES, {"odd": lambda _: [1.0]})
