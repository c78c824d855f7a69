"""The loop that sets pruned weights to zero on a CPU, called once a gradient and step.

It takes addresses: to make arrays of a small gradient takes longer than to mask it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.extending import intrinsic

from gonzo.core.numba_kernels import kernel, run_rows

__all__ = ["clearing"]

# Below this many elements a second thread costs more than it saves.
_SHARE = 1 << 20


def clearing(count: int, width: int) -> Callable[[int, int, int, int, int], None] | None:
    """Return what sets pruned numbers to 0, or None where there is no such loop.

    All their bits become 0, where a product with 0 would leave NaN and -0.0.

    Args:
        count: How many numbers there are.
        width: Of a number, in bytes.

    Returns:
        A function of: 0, the count, the address of the numbers, dense; the address of as many
        bytes, 1 where a number is pruned; the width.
    """
    if width not in (2, 4, 8):
        return None
    return _clear if count < _SHARE else _shared


def _shared(start: int, stop: int, address: int, pruned: int, width: int) -> None:
    run_rows(stop - start, _clear, address, pruned, width)


def _pointer_to(element: types.Type) -> Any:
    @intrinsic
    def pointer(_: Any, address: Any) -> Any:
        signature = types.CPointer(element)(types.int64)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return signature, generate

    return pointer


_bytes, _two = _pointer_to(types.uint8), _pointer_to(types.int16)
_four, _eight = _pointer_to(types.int32), _pointer_to(types.int64)


@kernel(allocates=False)
def _clear(start: int, stop: int, address: int, pruned: int, width: int) -> None:
    mask = _bytes(pruned + start)
    count = stop - start
    # A loop for each width, each from 0 and by itself, so that it is vectorised.
    if width == 4:
        four = _four(address + 4 * start)
        for i in range(count):
            four[i] = 0 if mask[i] else four[i]
    elif width == 2:
        two = _two(address + 2 * start)
        for i in range(count):
            two[i] = 0 if mask[i] else two[i]
    else:
        eight = _eight(address + 8 * start)
        for i in range(count):
            eight[i] = 0 if mask[i] else eight[i]
