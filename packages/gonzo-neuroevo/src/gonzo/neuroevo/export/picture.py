"""A genome as a picture: SVG that any browser shows, without Graphviz.

Inputs stand left and outputs right. A connection's colour is its sign and its width its magnitude;
those that lead back are arcs, disabled ones are dashed. Pointing at anything shows its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ..genome import ConnectionGene, Genome, NodeGene
from .labels import check_labels
from .layout import Layout, place

__all__ = ["to_svg"]

_POSITIVE, _NEGATIVE = "#2166ac", "#c2452d"
_FILL = {"input": "#eceff1", "hidden": "#ffffff", "output": "#fff3d6"}
_HEIGHT = 28.0
_BETWEEN = 96.0
_LETTER = 6.3
_MARGIN = 24.0


def to_svg(genome: Genome, names: Mapping[int, str] | None = None) -> str:
    """Draw a genome, recurrent or not.

    Args:
        genome: the network.
        names: what to call inputs and nodes, by key; by default inputs are x1, x2, … and outputs
            y1, y2, …. Any text; it is escaped.

    Raises:
        TypeError: a name is no string.
        ValueError: a name for a key that is not there, or of over 80 letters.
    """
    labels = check_labels(genome, names, "to_svg")
    layout = place(genome)
    return _Drawing(genome, labels, layout).svg()


class _Drawing:
    """One picture in the making."""

    def __init__(self, genome: Genome, labels: dict[int, str], layout: Layout) -> None:
        self.genome = genome
        self.labels = labels
        self.layout = layout
        self.genes = {node.key: node for node in genome.nodes}
        self.layer = {key: i for i, layer in enumerate(layout.layers) for key in layer}
        self.middle: list[float] = []
        self.half: list[float] = []
        x = 0.0
        for layer in layout.layers:
            half = max((self._width(key) for key in layer), default=40.0) / 2
            self.middle.append(x + half)
            self.half.append(half)
            x += 2 * half + _BETWEEN
        self.right = x - _BETWEEN
        self.strongest = max((abs(g.weight) for g in genome.connections), default=0.0) or 1.0
        self.top = self.bottom = self.side = 0.0  # how far arcs reach

    def svg(self) -> str:
        edges = [self._edge(g) for g in sorted(self.genome.connections, key=_strength)]
        nodes = [self._node(key) for layer in self.layout.layers for key in layer]
        tail = max(
            (_LETTER * len(self.labels.get(key, "")) for key in range(self.genome.outputs)),
            default=0.0,
        )
        low = max([*self.layout.height.values(), self.bottom]) + _HEIGHT / 2
        spots = [y for bends in self.layout.bends.values() for y in bends]
        high = min([self.top, *spots, 0.0]) - _HEIGHT / 2
        low = max([low, *spots])
        left, top = -_MARGIN, high - _MARGIN
        width = max(self.right + tail + 8, self.side) + 2 * _MARGIN
        height = low - high + 2 * _MARGIN
        size, enabled = self.genome.size
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
                f'height="{height:.0f}" viewBox="{left:.1f} {top:.1f} {width:.1f} {height:.1f}" '
                'font-family="system-ui, sans-serif" font-size="11" role="img">',
                f"<title>Network of {size} nodes and {enabled} connections</title>",
                f"<defs>{_arrow('positive', _POSITIVE)}{_arrow('negative', _NEGATIVE)}</defs>",
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
                'fill="#ffffff"/>',
                '<g fill="none" stroke-linecap="round">',
                *edges,
                "</g>",
                '<g text-anchor="middle">',
                *nodes,
                "</g>",
                "</svg>\n",
            ]
        )

    def _text(self, key: int) -> str:
        if key < 0:
            return self.labels[key]
        gene = self.genes[key]
        return gene.activation + ("" if gene.aggregation == "sum" else f" · {gene.aggregation}")

    def _width(self, key: int) -> float:
        return max(40.0, _LETTER * len(self._text(key)) + 18)

    def _spot(self, key: int) -> tuple[float, float]:
        return self.middle[self.layer[key]], self.layout.height[key]

    def _node(self, key: int) -> str:
        x, y = self._spot(key)
        half = self._width(key) / 2
        kind = "input" if key < 0 else "output" if key < self.genome.outputs else "hidden"
        corner = 4 if kind == "input" else _HEIGHT / 2
        name = self.labels.get(key)
        beside = ""
        if name is not None and kind == "output":
            beside = (
                f'<text x="{x + half + 8:.1f}" y="{y + 4:.1f}" text-anchor="start" '
                f'font-weight="600">{escape(name)}</text>'
            )
        elif name is not None and kind == "hidden":
            beside = (
                f'<text x="{x:.1f}" y="{y - _HEIGHT / 2 - 4:.1f}" font-size="9">'
                f"{escape(name)}</text>"
            )
        title = f"input {name} ({key})" if key < 0 else _describe(self.genes[key], name)
        return (
            f'<g class="node {kind}"><title>{escape(title)}</title>'
            f'<rect x="{x - half:.1f}" y="{y - _HEIGHT / 2:.1f}" width="{2 * half:.1f}" '
            f'height="{_HEIGHT:.0f}" rx="{corner:.0f}" fill="{_FILL[kind]}" stroke="#455a64"/>'
            f'<text x="{x:.1f}" y="{y + 4:.1f}">{escape(self._text(key))}</text>{beside}</g>'
        )

    def _edge(self, gene: ConnectionGene) -> str:
        sign = "positive" if gene.weight >= 0 else "negative"
        colour = _POSITIVE if gene.weight >= 0 else _NEGATIVE
        width = 0.8 + 3.0 * abs(gene.weight) / self.strongest
        style = ' stroke-dasharray="3 5" opacity="0.45"' if not gene.enabled else ' opacity="0.8"'
        marking = "" if gene.innovation < 0 else f", innovation {gene.innovation}"
        state = "" if gene.enabled else ", disabled"
        title = (
            f"{self._called(gene.source)} → {self._called(gene.target)}: "
            f"weight {gene.weight:.4g}{marking}{state}"
        )
        return (
            f'<path d="{self._path(gene)}" stroke="{colour}" stroke-width="{width:.2f}"{style} '
            f'marker-end="url(#{sign})"><title>{escape(title)}</title></path>'
        )

    def _called(self, key: int) -> str:
        return self.labels.get(key, f"node {key}")

    def _path(self, gene: ConnectionGene) -> str:
        """The curve of a connection."""
        (x0, y0), (x1, y1) = self._spot(gene.source), self._spot(gene.target)
        bends = self.layout.bends.get((gene.source, gene.target))
        if bends is None:
            return self._back(gene, x0, y0, x1, y1)
        first, last = self.layer[gene.source], self.layer[gene.target]
        x, y = x0 + self._width(gene.source) / 2, y0
        # A narrow node's curve starts beyond the widest node of its layer, clear of the others.
        curve = [f"M {x:.1f} {y:.1f}", f"H {self.middle[first] + self.half[first]:.1f}"]
        x = self.middle[first] + self.half[first]
        for layer, height in enumerate(bends, first + 1):
            left = self.middle[layer] - self.half[layer]
            middle = (x + left) / 2
            curve.append(
                f"C {middle:.1f} {y:.1f} {middle:.1f} {height:.1f} {left:.1f} {height:.1f}"
            )
            x, y = self.middle[layer] + self.half[layer], height
            curve.append(f"H {x:.1f}")
        left = self.middle[last] - self.half[last] - 8
        middle = (x + left) / 2
        curve.append(f"C {middle:.1f} {y:.1f} {middle:.1f} {y1:.1f} {left:.1f} {y1:.1f}")
        curve.append(f"H {x1 - self._width(gene.target) / 2 - 3:.1f}")
        return " ".join(curve)

    def _back(self, gene: ConnectionGene, x0: float, y0: float, x1: float, y1: float) -> str:
        """An arc over the nodes, for what leads to the same or an earlier layer."""
        if gene.source == gene.target:
            top = y0 - _HEIGHT / 2
            self.top = min(self.top, top - 22)
            return (
                f"M {x0 + 9:.1f} {top:.1f} C {x0 + 24:.1f} {top - 28:.1f} {x0 - 24:.1f} "
                f"{top - 28:.1f} {x0 - 9:.1f} {top - 3:.1f}"
            )
        if x0 == x1:
            side = self.middle[self.layer[gene.source]] + self.half[self.layer[gene.source]]
            reach = side + 26 + 0.12 * abs(y1 - y0)
            self.side = max(self.side, reach)
            start = x0 + self._width(gene.source) / 2
            end = x1 + self._width(gene.target) / 2 + 3
            return (
                f"M {start:.1f} {y0:.1f} C {reach:.1f} {y0:.1f} {reach:.1f} {y1:.1f} "
                f"{end:.1f} {y1:.1f}"
            )
        lift = 34 + 0.16 * abs(x1 - x0)
        below = y0 + y1 > max(self.layout.height.values())
        turn = 1 if below else -1
        start, end = y0 + turn * _HEIGHT / 2, y1 + turn * (_HEIGHT / 2 + 3)
        level = (max(start, end) if below else min(start, end)) + turn * lift
        # A cubic goes three quarters of the way to its control points.
        reach = (start + end) / 8 + 0.75 * level
        self.top, self.bottom = min(self.top, reach), max(self.bottom, reach)
        return (
            f"M {x0:.1f} {start:.1f} C {x0:.1f} {level:.1f} {x1:.1f} {level:.1f} {x1:.1f} {end:.1f}"
        )


def _strength(gene: ConnectionGene) -> tuple[bool, float]:
    return gene.enabled, abs(gene.weight)


def _describe(gene: NodeGene, name: str | None) -> str:
    called = f"node {gene.key}" if name is None else f"{name} (node {gene.key})"
    return (
        f"{called}: {gene.activation}({gene.bias:.4g} + {gene.response:.4g} · {gene.aggregation}), "
        f"time constant {gene.time_constant:.4g}"
    )


def _arrow(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" '
        'markerHeight="7" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path d="M0 0.5 L8 4 L0 7.5 z" fill="{colour}"/></marker>'
    )
