"""Find a cycle in a genome, for a message that names it."""

from __future__ import annotations

from .genome import Genome


def find_cycle(genome: Genome) -> list[int] | None:
    """Keys of nodes along a cycle of enabled connections, the first one again at the end."""
    reads: dict[int, list[int]] = {node.key: [] for node in genome.nodes}
    for gene in genome.connections:
        if gene.enabled and gene.source >= 0:
            reads[gene.target].append(gene.source)
    left: set[int] = set()
    for start in reads:
        path: list[int] = []
        stack = [(start, iter(reads[start]))] if start not in left else []
        path.extend(key for key, _ in stack)
        while stack:
            key, sources = stack[-1]
            following = next((s for s in sources if s not in left), None)
            if following is None:
                left.add(key)
                stack.pop()
                path.pop()
            elif following in path:
                # The walk goes against the connections, so it is told backwards.
                return [following, *reversed(path[path.index(following) + 1 :]), following]
            else:
                path.append(following)
                stack.append((following, iter(reads[following])))
    return None


def describe_cycle(genome: Genome) -> str:
    """The cycle as ``3 → 5 → 3``."""
    return " → ".join(map(str, find_cycle(genome) or []))
