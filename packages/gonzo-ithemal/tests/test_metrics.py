import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.metrics import CLASSES, block_class, coverage, errors, kendall_tau

pairs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=2, max_size=60)


@given(pairs)
def test_tau_is_that_of_scipy(points):
    x, y = np.array(points, dtype=float).T
    # scipy has an opinion on constant input that it voices as a warning; ours is nan.
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(kendall_tau(x, y))
    else:
        assert kendall_tau(x, y) == pytest.approx(kendalltau(x, y).statistic, abs=1e-12)


def test_tau_of_many_values_is_that_of_scipy():
    generator = np.random.default_rng(0)
    x = generator.normal(size=20_000)
    y = np.round(x + generator.normal(size=20_000), 1)
    assert kendall_tau(x, y) == pytest.approx(kendalltau(x, y).statistic, abs=1e-12)


def test_tau_counts_order_alone():
    x = [1.0, 2.0, 3.0, 4.0]
    assert kendall_tau(x, [10, 20, 30, 400]) == 1.0
    assert kendall_tau(x, [4, 3, 2, 1]) == -1.0
    assert kendall_tau(x, [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert np.isnan(kendall_tau([], []))


def test_tau_refuses_different_lengths():
    with pytest.raises(ValueError, match=r"one length, got \(2,\) and \(3,\)"):
        kendall_tau([1, 2], [1, 2, 3])


def test_errors_by_hand():
    found = errors([1.0, 2.2, 3.0, np.nan, 8.0], [1.0, 2.0, 4.0, 5.0, 4.0])
    assert (found.count, found.missing) == (4, 1)
    assert found.mape == pytest.approx((0 + 0.1 + 0.25 + 1.0) / 4)
    assert found.median == pytest.approx(0.175)
    assert found.within_10 == pytest.approx(0.25)  # 0.2/2 is a little over 0.10 in binary
    assert found.within_25 == 0.75
    assert found.tau == pytest.approx(5 / np.sqrt(6 * 5))


def test_errors_of_no_prediction_are_nan():
    found = errors([np.nan, np.inf], [1.0, 2.0])
    assert (found.count, found.missing) == (0, 2)
    assert np.isnan(found.mape)
    assert np.isnan(found.tau)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_errors_refuse_what_is_no_measurement(bad):
    with pytest.raises(ValueError, match="expected measured cycles to be positive"):
        errors([1.0], [bad])


def test_errors_refuse_another_number_of_values():
    with pytest.raises(ValueError, match=r"as many predictions as measurements, got \(1,\)"):
        errors([1.0], [1.0, 2.0])


def test_coverage_counts_the_borders():
    assert coverage([1, 1, 1, 1], [2, 2, 2, 2], [1, 2, 0.5, 3]) == 0.5
    with pytest.raises(ValueError, match="at least one measurement"):
        coverage([], [], [])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("4801d8", "scalar"),  # add rax, rbx
        ("488d0408", "scalar"),  # lea touches no memory
        ("0f1f4000", "scalar"),  # nor does a nop that names some
        ("c5f458c2", "vector"),  # vaddps
        ("488b07", "load only"),
        ("f30f1007", "load only"),
        ("488907", "store only"),
        ("488b07488907", "load+store"),
        ("480107", "load+store"),  # add [rdi], rax reads and writes
        ("50", "push/pop"),
        ("488b075b", "push/pop"),
        ("c9", "push/pop"),  # leave
    ],
)
def test_class(code, kind):
    assert block_class(BasicBlock.from_hex(code)) == kind
    assert kind in CLASSES


def test_class_does_not_depend_on_what_was_asked_before():
    register, memory = BasicBlock.from_hex("4889d8"), BasicBlock.from_hex("488918")
    assert [block_class(b) for b in (register, memory, register)] == [
        "scalar",
        "store only",
        "scalar",
    ]
