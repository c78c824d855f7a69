"""The curves and pictures of a run, as pieces of a page."""

import base64
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

from gonzo.lab.directory import IMAGES
from gonzo.lab.metrics import Curves
from gonzo.lab.report.chart import COLOURS, Series, line_chart


def charts(curves: dict[str, Curves]) -> str:
    """Return a line chart for every metric, with a line for every loop that logged it.

    Args:
        curves: loop -> metric -> (step, value) pairs.
    """
    names = _loop_names(list(curves))
    # Lines that differ only in a number at the end are repetitions: one colour for all.
    groups = list(dict.fromkeys(_group(name) for name in names.values()))
    metrics = list(dict.fromkeys(metric for logged in curves.values() for metric in logged))
    drawn = []
    for metric in metrics:
        lines = [
            Series(names[loop], groups.index(_group(names[loop])) % COLOURS, logged[metric])
            for loop, logged in curves.items()
            if metric in logged
        ]
        drawn.append(line_chart(metric, lines))
    return "".join(drawn)


def _is_wide(svg: bytes) -> bool:
    """Whether a drawing is twice as wide as high, and so wants the whole width of the page."""
    size = re.search(rb'<svg[^>]*? width="([\d.]+)pt" height="([\d.]+)pt"', svg[:2000])
    return size is not None and float(size[1]) >= 2 * float(size[2])


def _loop_names(loops: list[str]) -> dict[str, str]:
    # "hippo/train" and "random/train" read better as "hippo" and "random".
    ends = {loop.rpartition("/")[2] for loop in loops}
    if len(ends) == 1 and all("/" in loop for loop in loops):
        return {loop: loop.rpartition("/")[0] for loop in loops}
    return {loop: loop for loop in loops}


def _group(name: str) -> str:
    return re.sub(r"[-_.]?(seed)?[-_]?\d+$", "", name)


def figures(paths: Iterable[Path]) -> str:
    """Return pictures as part of the page, so that it needs no other file."""
    images = []
    for path in paths:
        data = path.read_bytes()
        content = base64.b64encode(data).decode()
        source = f"data:{IMAGES[path.suffix[1:]]};base64,{content}"
        # As an image, so that the ids inside one figure cannot meet those of another.
        images.append(
            f'<figure class="drawn{" wide" * _is_wide(data)}">'
            f"<figcaption>{escape(path.stem)}</figcaption>"
            f'<img alt="{escape(path.stem)}" src="{source}"></figure>'
        )
    return "".join(images)
