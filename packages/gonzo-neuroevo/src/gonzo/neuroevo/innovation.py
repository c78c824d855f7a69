"""Historical markings: new keys and innovation numbers, one for each new structure of a generation.

Two genomes that make the same change in the same generation get the same numbers, so that their
genes line up when they meet.

Source:
    Stanley and Miikkulainen (2002), section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .population import Population

_HALF = 2**31


class Innovations:
    """The counters of a run.

    Args:
        next_node: key of the next new node.
        next_innovation: number of the next new connection.
    """

    def __init__(self, next_node: int, next_innovation: int) -> None:
        self.next_node = next_node
        self.next_innovation = next_innovation

    @classmethod
    def after(cls, population: Population) -> Innovations:
        """Counters beyond every key and number in a population."""
        nodes = population.node_key[population.node_mask]
        connections = population.innovation[population.connection_mask]
        last = int(connections.max()) if len(connections) else -1
        return cls(int(nodes.max()) + 1, last + 1)

    def split(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split connections, given by the keys of their ends (K,), in one generation.

        Returns:
            Keys of the new nodes, and innovation numbers of the connections into and out of them,
            (K,) each; the same for the same connection.
        """
        kind, count = self._kinds(source, target)
        node = self.next_node + kind
        into = self.next_innovation + 2 * kind
        self.next_node += count
        self.next_innovation += 2 * count
        return node, into, into + 1

    def connect(self, source: Tensor, target: Tensor) -> Tensor:
        """Innovation numbers (K,) of new connections, the same for the same ends."""
        kind, count = self._kinds(source, target)
        number = self.next_innovation + kind
        self.next_innovation += count
        return number

    def _kinds(self, source: Tensor, target: Tensor) -> tuple[Tensor, int]:
        """0, 1, … for every different pair (K,), and how many there are."""
        if self.next_node >= _HALF:
            raise OverflowError(f"NEAT: more than {_HALF} nodes were invented in one run")
        pairs = source * (2 * _HALF) + target  # both are between -2^31 and 2^31
        unique, kind = torch.unique(pairs, return_inverse=True)
        return kind, len(unique)

    def state_dict(self) -> dict[str, int]:
        """The counters."""
        return {"next_node": self.next_node, "next_innovation": self.next_innovation}
