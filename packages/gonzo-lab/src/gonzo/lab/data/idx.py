"""IDX, the format of the MNIST files: a magic number, big-endian sizes, then the bytes."""

import math
import struct

import numpy as np

_UNSIGNED_BYTES = 0x08


def parse_idx(content: bytes) -> np.ndarray:
    """Return the uint8 array in the bytes of an IDX file; it owns its memory.

    Raises:
        ValueError: not an IDX file of unsigned bytes, or not as long as it says.
    """
    if len(content) < 4:
        raise ValueError(f"IDX: expected at least 4 bytes, got {len(content)}")
    zero, kind, dimensions = struct.unpack(">HBB", content[:4])
    if zero != 0 or kind != _UNSIGNED_BYTES:
        raise ValueError(f"IDX: expected unsigned bytes, got a file that starts {content[:4]!r}")
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise ValueError(f"IDX: the file ends within its header ({len(content)} bytes)")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise ValueError(f"IDX: expected {math.prod(shape)} values, got {len(content) - header}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def format_idx(array: np.ndarray) -> bytes:
    """Return the bytes of an IDX file that holds a uint8 array."""
    header = struct.pack(f">HBB{array.ndim}I", 0, _UNSIGNED_BYTES, array.ndim, *array.shape)
    return header + np.ascontiguousarray(array, np.uint8).tobytes()
