"""The judge is judged: every tool must fail on the defect that it exists to find."""

import subprocess
import sys
import warnings

import numba
import numpy as np
import pytest
import torch

from gonzo.core.testing import (
    TOLERANCE,
    assert_close,
    compare_backends,
    imports_from,
    poisoned_allocations,
    relative_rms,
)


def test_the_table_is_what_the_design_says():
    assert {
        torch.float64: 1e-10,
        torch.float32: 1e-5,
        torch.float16: 5e-3,
        torch.bfloat16: 1e-2,
    } == TOLERANCE


def test_relative_rms():
    expected = torch.tensor([3.0, 4.0])
    assert relative_rms(expected, expected) == 0
    assert relative_rms(torch.tensor([3.0, 5.0]), expected) == pytest.approx(0.2)
    assert relative_rms(1e9 * torch.tensor([3.0, 5.0]), 1e9 * expected) == pytest.approx(0.2)
    assert relative_rms(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_rms(torch.ones(2), torch.zeros(2)) == float("inf")
    assert relative_rms(torch.zeros(0), torch.zeros(0)) == 0
    assert np.isnan(relative_rms(torch.tensor([float("nan")]), torch.ones(1)))
    assert relative_rms(torch.tensor([1 + 1j]), torch.tensor([1 + 0j])) == pytest.approx(1)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_close_is_the_tolerance_of_the_dtype(dtype):
    expected = torch.ones(100, dtype=torch.float64)
    rounded = (expected * (1 + TOLERANCE[dtype] / 2)).to(dtype)
    assert_close(rounded, expected)
    with pytest.raises(AssertionError, match=r"y: relative RMS error .* > "):
        assert_close((expected * (1 + 3 * TOLERANCE[dtype])).to(dtype), expected, name="y")


@pytest.mark.parametrize(
    ("actual", "expected", "settings", "message"),
    [
        (torch.ones(2), torch.ones(3), {}, r"result: expected shape \(3,\), got \(2,\)"),
        (torch.ones(2).double(), torch.ones(2), {}, "expected dtype torch.float32, got torch.fl"),
        (torch.ones(2), torch.ones(2), {"dtype": torch.float64}, "expected dtype torch.float64"),
        (torch.tensor([float("nan"), 1]), torch.ones(2), {}, "1 of 2 values are not finite"),
        (torch.tensor([float("inf"), 1]), torch.ones(2), {}, "1 of 2 values are not finite"),
    ],
)
def test_not_close(actual, expected, settings, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(actual, expected, **settings)


def test_a_tolerance_of_its_own_needs_a_reason():
    with pytest.raises(ValueError, match="needs a reason"):
        assert_close(torch.ones(1), torch.ones(1), tolerance=1.0)
    assert_close(torch.tensor(1.5), torch.tensor(1.0), tolerance=1.0, because="an example")


ALLOCATIONS = {
    "torch.empty": lambda: torch.empty(3),
    "torch.empty_like": lambda: torch.empty_like(torch.zeros(3)),
    "torch.empty_strided": lambda: torch.empty_strided((3,), (1,)),
    "new_empty": lambda: torch.zeros(1).new_empty(3),
    "complex": lambda: torch.empty(3, dtype=torch.complex64).real,
    "numpy.empty": lambda: torch.from_numpy(np.empty(3)),
    "numpy.empty_like": lambda: torch.from_numpy(np.empty_like(np.zeros(3))),
}


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_poison_fills(allocation):
    with poisoned_allocations():
        assert ALLOCATIONS[allocation]().isnan().all()


def test_poison_fills_integers_and_keeps_what_is_initialised():
    with poisoned_allocations():
        assert np.empty(2, dtype=np.int32).tolist() == [2**31 - 1] * 2
        assert torch.empty(2, dtype=torch.int32).tolist() == [2**31 - 1] * 2
        assert torch.zeros(3).eq(0).all()
        assert (torch.ones(3) + 1).eq(2).all()


def test_kernels_can_be_compiled_in_poisoned_memory():
    @numba.njit
    def total(n):
        return np.empty(n).size

    with poisoned_allocations():
        assert total(3) == 3


def test_the_first_kernel_of_a_process_may_be_compiled_in_poisoned_memory():
    script = """
import numba, numpy as np
from gonzo.core.testing import poisoned_allocations

for _ in range(2):
    with poisoned_allocations():
        assert numba.njit(lambda n: np.empty(n).size)(3) == 3
assert numba.njit(lambda n: np.empty(n).size)(3) == 3
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_poison_leaves_no_trace_after_an_error():
    empty = np.empty
    with pytest.raises(ZeroDivisionError), poisoned_allocations():
        raise ZeroDivisionError
    assert np.empty is empty
    assert not torch.are_deterministic_algorithms_enabled()
    with warnings.catch_warnings(), poisoned_allocations():
        torch.empty(1)


class Scale(torch.autograd.Function):
    """y = a x and the sum of y, with a defect to order."""

    @staticmethod
    def forward(ctx, a, x, defect):
        ctx.save_for_backward(a, x)
        ctx.defect = defect
        y = torch.empty_like(x)
        wanted = slice(None, -1) if defect == "unwritten element" else slice(None)
        torch.mul(a, x[wanted], out=y[wanted])
        return y * 1.001 if defect == "output" else y

    @staticmethod
    def backward(ctx, gradient):
        a, x = ctx.saved_tensors
        of_x = gradient * a * (1.001 if ctx.defect == "gradient of x" else 1)
        of_a = (gradient * x).sum().reshape(a.shape)
        return None if ctx.defect == "no gradient" else of_a, of_x, None


def scale(a, x, *, power, backend):
    y = a * x if backend == "reference" else Scale.apply(a, x, backend)
    return y, (y**power).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backends_that_agree(dtype):
    inputs = {"a": torch.randn(1, dtype=dtype), "x": torch.randn(7, dtype=dtype), "power": 2}
    compare_backends(scale, inputs, backends=["reference", "right", None])


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ("output", "output: output 0: relative RMS error 1.0"),
        ("gradient of x", "gradient of x: gradient of x: relative RMS error"),
        ("unwritten element", "unwritten element: output 0: .* 1 of 7 values are not finite"),
        ("no gradient", "no gradient: expected .* gradient of a.*; got "),
    ],
)
def test_backends_that_do_not(defect, message):
    inputs = {"a": torch.randn(1), "x": torch.randn(7), "power": 1}
    with pytest.raises(AssertionError, match=message):
        compare_backends(scale, inputs, backends=["right", defect])


def test_an_exception_has_its_own_tolerance():
    inputs = {"a": torch.randn(1), "x": torch.randn(7), "power": 1}
    exceptions = {"gradient of x": (1e-2, "the test spoils it on purpose")}
    compare_backends(scale, inputs, backends=["gradient of x"], exceptions=exceptions)


def test_backends_of_an_op_without_gradients():
    def count(x, *, backend):
        return (x > 0).to(x.dtype).sum(0)

    compare_backends(count, {"x": torch.randn(4, 3)}, backends=[None])


def test_folders_with_modules_of_one_name_do_not_meet(tmp_path):
    for name in ("one", "two"):
        package = tmp_path / name / "peers"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "algorithm.py").write_text(f"NAME = {name!r}\n")
        (tmp_path / name / "bench_it.py").write_text("from peers import algorithm\n")
    before = list(sys.path)
    with imports_from(tmp_path / "one"):
        import bench_it

        assert bench_it.algorithm.NAME == "one"
        with imports_from(tmp_path / "two"):
            import bench_it

            assert bench_it.algorithm.NAME == "two"
        import bench_it

        assert bench_it.algorithm.NAME == "one"
    assert not {"peers", "peers.algorithm", "bench_it"} & set(sys.modules)
    assert sys.path == before
