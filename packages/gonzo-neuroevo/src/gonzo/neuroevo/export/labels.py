"""What inputs and nodes are called in a picture: any text of a user's, to be escaped."""

from __future__ import annotations

from collections.abc import Mapping

from ..genome import Genome

__all__ = ["check_labels"]

_LONGEST = 80


def check_labels(genome: Genome, names: Mapping[int, str] | None, what: str) -> dict[int, str]:
    """Return names by key; unnamed inputs are x1, x2, … and unnamed outputs y1, y2, ….

    Control characters, which no picture can hold, become blanks.

    Raises:
        TypeError: a name is no string.
        ValueError: a name for a key that is not there, or of over 80 letters.
    """
    labels = {-i: f"x{i}" for i in range(1, genome.inputs + 1)}
    labels |= {key: f"y{key + 1}" for key in range(genome.outputs)}
    known = set(labels) | {node.key for node in genome.nodes}
    for key, name in (names or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"{what}: expected a name for key {key}, got {type(name).__name__}")
        if key not in known:
            raise ValueError(
                f"{what}: there is no node {key} to call {name[:_LONGEST]!r}; inputs are "
                f"-1 … -{genome.inputs}, outputs 0 … {genome.outputs - 1}"
            )
        if len(name) > _LONGEST:
            raise ValueError(
                f"{what}: the name of {key} has {len(name)} letters, at most {_LONGEST}"
            )
        labels[key] = "".join(c if c.isprintable() else " " for c in name)
    return labels
