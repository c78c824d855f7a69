"""Pictures of an episode as one file: an animated GIF."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from gonzo.core import require


def write_gif(
    frames: NDArray[np.uint8], *, seconds: float = 0.05, width: int = 240, most: int = 150
) -> bytes:
    """Encode frames as a GIF that repeats.

    Args:
        frames: (frames, height, width, 3), as `GymnasiumProblem.record` returns them.
        seconds: between frames.
        width: of the result in pixels; the height keeps the proportions.
        most: frames at most; of more, every second, third … is kept.

    Returns:
        The contents of a file.

    Raises:
        ValueError: no frames.
        MissingExtraError: Pillow is not installed.
    """
    if not len(frames):
        raise ValueError("write_gif: expected at least one frame, got none")
    image = require("PIL.Image", extra="gonzo-neuroevo[plot]")
    step = -(-len(frames) // most)
    height = round(frames.shape[1] * width / frames.shape[2])
    # One palette for all frames, of colours that the first one has: small, and without flicker.
    first = image.fromarray(frames[0]).resize((width, height)).quantize(64)
    pictures = [
        image.fromarray(frame).resize((width, height)).quantize(palette=first, dither=0)
        for frame in frames[::step]
    ]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 * seconds * step),
        loop=0,
    )
    return buffer.getvalue()
