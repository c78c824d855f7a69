"""What the outputs of one genome need, and in which order it can be computed."""

from __future__ import annotations

from dataclasses import replace

from ..cycles import describe_cycle
from ..genome import ConnectionGene, Genome, NodeGene
from ..phenotypes import KINDS

__all__ = ["check_kind", "incoming", "layers", "needed"]


def check_kind(kind: str, allowed: tuple[str, ...], what: str) -> None:
    """Refuse a kind of network that ``what`` cannot write.

    Raises:
        ValueError: the kind is none, or not one of ``allowed``.
    """
    if kind not in KINDS:
        raise ValueError(f"{what}: expected a kind of {list(KINDS)}, got {kind!r}")
    if kind not in allowed:
        raise ValueError(
            f"{what}: writes {' and '.join(allowed)} networks, got {kind!r}; to_module and to_onnx "
            "write every kind"
        )


def needed(genome: Genome) -> set[int]:
    """Return the keys of the outputs and of all nodes that reach one over enabled connections."""
    sources: dict[int, list[int]] = {}
    for gene in genome.connections:
        if gene.enabled:
            sources.setdefault(gene.target, []).append(gene.source)
    found = set(range(genome.outputs))
    open_ = list(found)
    while open_:
        for source in sources.get(open_.pop(), ()):
            if source >= 0 and source not in found:
                found.add(source)
                open_.append(source)
    return found


def incoming(genome: Genome) -> dict[int, list[ConnectionGene]]:
    """Return the enabled connections into each needed node, in the order of a population's columns.

    That order is by innovation number; those without one follow, by their two ends.
    """
    links: dict[int, list[ConnectionGene]] = {key: [] for key in needed(genome)}
    marked = [gene for gene in genome.connections if gene.innovation >= 0]
    others = [gene for gene in genome.connections if gene.innovation < 0]
    for gene in sorted(marked, key=lambda gene: gene.innovation) + sorted(others):
        if gene.enabled and gene.target in links:
            links[gene.target].append(gene)
    return links


def layers(genome: Genome, what: str) -> list[list[NodeGene]]:
    """Return the needed nodes in layers, each reading only inputs and earlier layers.

    A node's layer is the length of the longest path to it; within a layer, nodes are by key.

    Raises:
        ValueError: enabled connections that an output needs form a cycle; the message, which opens
            with ``what``, names its nodes.
    """
    links = incoming(genome)
    waits = {key: {g.source for g in into if g.source >= 0} for key, into in links.items()}
    readers: dict[int, list[int]] = {}
    for key, sources in waits.items():
        for source in sources:
            readers.setdefault(source, []).append(key)
    genes = {node.key: node for node in genome.nodes}
    ready = sorted(key for key, sources in waits.items() if not sources)
    ordered: list[list[NodeGene]] = []
    while ready:
        ordered.append([genes[key] for key in ready])
        following: set[int] = set()
        for key in ready:
            del waits[key]
            for reader in readers.get(key, ()):
                waits[reader].discard(key)
                if not waits[reader]:
                    following.add(reader)
        ready = sorted(following)
    if waits:
        # Elsewhere there may be other cycles, which do not matter.
        stuck = tuple(gene for key in waits for gene in links[key])
        cycle = describe_cycle(replace(genome, connections=stuck))
        raise ValueError(
            f"{what}: a feed-forward network has no cycle, and this genome has {cycle}; disable "
            "one of these connections, or ask for a recurrent network where a kind can be chosen"
        )
    return ordered
