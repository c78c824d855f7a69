"""A picture of an explained block: instructions, what each contributes, who waits for whom."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gonzo.ithemal.dependencies import Edge, dependencies
from gonzo.ithemal.explanation import Explanation

__all__ = ["draw", "text"]

_COLOURS = {"register": "#1f4e79", "address": "#2e8b57", "memory": "#c55a11", "flags": "#8c8c8c"}
_BAR = 16
_LEFT = -0.09


def text(explanation: Explanation) -> str:
    """Return the picture in plain letters, one line an instruction.

    After the arrow stand the numbers of the instructions that this one waits for; `'` marks those
    of the previous repetition.
    """
    lines = explanation.block.text()
    waits: dict[int, list[str]] = {}
    for producer, consumer, carried in _pairs(dependencies(explanation.block)):
        waits.setdefault(consumer, []).append(f"{producer + 1}{chr(39) if carried else ''}")
    widest = max(map(len, lines))
    scale = max(1e-9, *abs(explanation.contributions))
    rows = [
        f"{explanation.cycles:.2f} cycles per repetition, 90 % interval "
        f"{explanation.low:.2f} to {explanation.high:.2f}"
    ]
    for number, (line, cycles) in enumerate(zip(lines, explanation.contributions, strict=True)):
        bar = ("█" if cycles >= 0 else "░") * round(_BAR * abs(cycles) / scale)
        arrow = f"← {' '.join(waits[number])}" if number in waits else ""
        rows.append(f"{number + 1:3} {line:{widest}} {cycles:+7.2f} {bar:{_BAR}} {arrow}".rstrip())
    return "\n".join(rows)


def draw(explanation: Explanation, path: str | Path) -> Path:
    """Write the picture to a file, of the kind that its suffix names: .svg, .png or .pdf.

    On the left, arrows from each instruction to those that wait for it, dashed where they wait in
    the next repetition; on the right, what each contributes.

    Raises:
        ValueError: the suffix is another.
        MissingExtraError: matplotlib is not installed.
    """
    path = Path(path)
    kind = path.suffix[1:].lower()
    if kind not in ("svg", "png", "pdf"):
        raise ValueError(f"expected a picture to be .svg, .png or .pdf, got {path.name!r}")
    from gonzo.core import require

    matplotlib = require("matplotlib", extra="gonzo-ithemal[plot]")
    figures = require("matplotlib.figure", extra="gonzo-ithemal[plot]")
    # The same block gives the same bytes: no random names and no date in them.
    with matplotlib.rc_context({"svg.hashsalt": "gonzo", "svg.fonttype": "none"}):
        figure = _figure(figures, explanation)
        dates = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(path, format=kind, bbox_inches="tight", metadata=dates[kind])
    return path


def _figure(figures: Any, explanation: Explanation) -> Any:
    lines = explanation.block.text()
    count = len(lines)
    figure = figures.Figure(figsize=(8.0, 0.9 + 0.28 * count))
    arrows, bars = figure.subplots(
        1, 2, sharey=True, gridspec_kw={"width_ratios": [5, 3], "wspace": 0.02}
    )
    for number, line in enumerate(lines):
        arrows.text(0.0, number, line, family="monospace", fontsize=9, va="center")
        arrows.text(-0.02, number, str(number + 1), fontsize=7, va="center", ha="right", c="grey")
    _arrows(arrows, dependencies(explanation.block))
    arrows.set(xlim=(-0.4, 1.0), ylim=(count - 0.4, -0.6))
    arrows.axis("off")
    colours = ["#c55a11" if cycles >= 0 else "#8c8c8c" for cycles in explanation.contributions]
    bars.barh(range(count), explanation.contributions, color=colours, height=0.6)
    bars.axvline(0, c="black", lw=0.6)
    bars.tick_params(left=False, labelleft=False, labelsize=8)
    bars.set_xlabel("cycles that go when the instruction does", fontsize=8)
    for side in ("left", "top", "right"):
        bars.spines[side].set_visible(False)
    figure.suptitle(
        f"{explanation.cycles:.2f} cycles per repetition "
        f"({explanation.low:.2f} to {explanation.high:.2f})",
        fontsize=10,
    )
    return figure


def _arrows(axes: Any, edges: Iterable[Edge]) -> None:
    kinds = {(e.producer, e.consumer, e.carried): e.kind for e in reversed(list(edges))}
    lanes: list[list[tuple[int, int]]] = []
    for producer, consumer, carried in sorted(kinds, key=lambda pair: abs(pair[0] - pair[1])):
        low, high = sorted((producer, consumer))
        # The innermost lane in which it crosses no other one.
        lane = next(
            (k for k, taken in enumerate(lanes) if all(high < a or b < low for a, b in taken)),
            len(lanes),
        )
        lanes[lane : lane + 1] = [[*(lanes[lane] if lane < len(lanes) else []), (low, high)]]
        left, start, end = _LEFT - 0.05 * (lane + 1), producer + 0.12, consumer - 0.12
        colour = _COLOURS[kinds[producer, consumer, carried]]
        style = (0, (3, 2)) if carried else "solid"
        path = [_LEFT, left, left, _LEFT], [start, start, end, end]
        axes.plot(*path, c=colour, ls=style, lw=0.9, clip_on=False)
        axes.plot([_LEFT], [end], c=colour, marker=">", ms=3.5, clip_on=False)


def _pairs(edges: Iterable[Edge]) -> list[tuple[int, int, bool]]:
    found = {(e.producer, e.consumer, e.carried) for e in edges}
    return sorted(found, key=lambda pair: (pair[2], pair[0], pair[1]))
