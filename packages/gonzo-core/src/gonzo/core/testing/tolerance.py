"""One table of tolerances, for every op, layer, backend and machine.

The measure is the relative root mean square, √(Σ|a - e|² / Σ|e|²): it does not depend on the scale
of the values, and one near-zero element does not decide it.
"""

import torch
from torch import Tensor

__all__ = ["TOLERANCE", "Exceptions", "assert_close", "relative_rms"]

TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.float16: 5e-3,
    torch.bfloat16: 1e-2,
}
"""The largest relative RMS error of a result of each dtype. It is never loosened."""

Exceptions = dict[str, tuple[float, str]]
"""Named results whose conditioning forbids the table's tolerance: a tolerance and the reason."""


def relative_rms(actual: Tensor, expected: Tensor) -> float:
    """Return √(Σ|actual - expected|² / Σ|expected|²), computed in float64.

    Both zero is 0; a difference from an expected zero is infinite; NaN anywhere is NaN.
    """
    judge = torch.complex128 if expected.is_complex() or actual.is_complex() else torch.float64
    a, e = actual.detach().to("cpu", judge), expected.detach().to("cpu", judge)
    difference = (a - e).abs().square().sum().sqrt().item()
    scale = e.abs().square().sum().sqrt().item()
    if difference == 0:
        return 0.0
    return difference / scale if scale else difference * float("inf")


def assert_close(
    actual: Tensor,
    expected: Tensor,
    *,
    name: str = "result",
    dtype: torch.dtype | None = None,
    tolerance: float | None = None,
    because: str | None = None,
) -> None:
    """Raise AssertionError unless ``actual`` equals ``expected`` to the tolerance of its dtype.

    Args:
        actual: What is tested.
        expected: What it should be, of the same shape, and of the same dtype or a wider one.
        name: What the message calls it.
        dtype: The dtype that ``actual`` must have; by default the one it has.
        tolerance: Replaces the table's value where conditioning forbids it.
        because: Why; required with ``tolerance``.
    """
    if (tolerance is None) != (because is None):
        raise ValueError("assert_close: a tolerance of its own needs a reason (because=…)")
    if dtype is not None and actual.dtype != dtype:
        raise AssertionError(f"{name}: expected dtype {dtype}, got {actual.dtype}")
    if actual.shape != expected.shape:
        raise AssertionError(
            f"{name}: expected shape {tuple(expected.shape)}, got {tuple(actual.shape)}"
        )
    if torch.promote_types(actual.dtype, expected.dtype) != expected.dtype:
        raise AssertionError(f"{name}: expected dtype {expected.dtype}, got {actual.dtype}")
    limit = TOLERANCE[actual.dtype.to_real()] if tolerance is None else tolerance
    error = relative_rms(actual, expected)
    if not error <= limit:  # so that NaN fails
        wrong = int((~torch.isfinite(actual)).sum())
        note = f"; {wrong} of {actual.numel()} values are not finite" if wrong else ""
        raise AssertionError(f"{name}: relative RMS error {error:.2e} > {limit:.0e}{note}")
