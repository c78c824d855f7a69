"""A genome in Graphviz's language, for those who draw with it."""

from __future__ import annotations

from collections.abc import Mapping

from ..genome import Genome
from .labels import check_labels

__all__ = ["to_dot"]


def to_dot(genome: Genome, names: Mapping[int, str] | None = None) -> str:
    """Write the genome as a DOT digraph; disabled connections are dashed.

    Args:
        genome: the network, recurrent or not.
        names: what to call inputs and nodes, by key; any text, which is escaped.

    Raises:
        TypeError: a name is no string.
        ValueError: a name for a key that is not there, or of over 80 letters.
    """
    labels = check_labels(genome, names, "to_dot")
    inputs = [-i for i in range(1, genome.inputs + 1)]
    lines = ["digraph genome {", "  rankdir=LR;", '  node [fontname="sans-serif"];']
    lines += [f"  {_id(key)} [shape=box, label={_quoted(labels[key])}];" for key in inputs]
    for node in genome.nodes:
        parts = [labels[node.key]] if node.key in labels else []
        parts.append(node.activation)
        if node.aggregation != "sum":
            parts.append(node.aggregation)
        shape = "doublecircle" if node.key < genome.outputs else "ellipse"
        lines.append(f"  {_id(node.key)} [shape={shape}, label={_quoted(*parts)}];")
    strongest = max((abs(gene.weight) for gene in genome.connections), default=0.0) or 1.0
    for gene in genome.connections:
        colour = "#2166ac" if gene.weight >= 0 else "#c2452d"
        width = 0.5 + 3 * abs(gene.weight) / strongest
        style = "solid" if gene.enabled else "dashed"
        lines.append(
            f"  {_id(gene.source)} -> {_id(gene.target)} "
            f'[color="{colour}", penwidth={width:.2f}, style={style}, '
            f'tooltip="weight {gene.weight:.4g}"];'
        )
    outputs = list(range(genome.outputs))
    for rank, keys in (("source", inputs), ("sink", outputs)):
        if keys:
            lines.append(f"  {{rank={rank}; {'; '.join(map(_id, keys))}}}")
    return "\n".join([*lines, "}"]) + "\n"


def _id(key: int) -> str:
    return f"x{-key}" if key < 0 else f"n{key}"


def _quoted(*lines: str) -> str:
    """A quoted string of several lines, in which nothing of the lines has a meaning."""
    escaped = [line.replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    return '"' + "\\n".join(escaped) + '"'
