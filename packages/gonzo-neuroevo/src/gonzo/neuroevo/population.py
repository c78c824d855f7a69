"""A population of genomes as padded tensors: P genomes, N node columns, C connection columns.

Keys and innovation numbers are int64, whether a connection is enabled is a flag, and what is
padding is said by a mask. Rows are sorted, nodes by key and connections by innovation number, with
the padding last; its keys are the largest int64, so that sorting keeps it there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS

from .genome import ConnectionGene, Genome, NodeGene

PAD = 2**63 - 1

NODE_FIELDS = (
    "node_key",
    "node_mask",
    "bias",
    "response",
    "time_constant",
    "activation",
    "aggregation",
)
CONNECTION_FIELDS = ("innovation", "source", "target", "connection_mask", "enabled", "weight")
KEYS = ("node_key", "innovation", "source", "target")


@dataclass(frozen=True, repr=False)
class Population:
    """P genomes of one number of inputs and outputs.

    Make one with `from_genomes`, or let `NEAT` make it.

    Attributes:
        inputs: number of inputs.
        outputs: number of outputs; their nodes are the first columns.
        node_key: (P, N) int64.
        node_mask: (P, N) bool, False in padding.
        bias: (P, N) floating.
        response: (P, N)
        time_constant: (P, N)
        activation: (P, N) int32 position in `ACTIVATIONS`.
        aggregation: (P, N) int32 position in `AGGREGATIONS`.
        innovation: (P, C) int64.
        source: (P, C) int64 key.
        target: (P, C) int64 key.
        connection_mask: (P, C) bool, False in padding.
        enabled: (P, C) bool.
        weight: (P, C)
    """

    inputs: int
    outputs: int
    node_key: Tensor
    node_mask: Tensor
    bias: Tensor
    response: Tensor
    time_constant: Tensor
    activation: Tensor
    aggregation: Tensor
    innovation: Tensor
    source: Tensor
    target: Tensor
    connection_mask: Tensor
    enabled: Tensor
    weight: Tensor

    def __repr__(self) -> str:
        """Sizes alone; tensors would fill pages."""
        return (
            f"Population({len(self)} genomes, {self.inputs} → {self.outputs}, up to "
            f"{self.node_key.shape[1]} nodes and {self.weight.shape[1]} connections)"
        )

    def __len__(self) -> int:
        return len(self.node_key)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.node_key.device

    @classmethod
    def from_genomes(
        cls,
        genomes: Sequence[Genome],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Population:
        """Pack genomes. A connection without innovation number gets one, by its two ends.

        Raises:
            ValueError: no genomes, or of different numbers of inputs or outputs.
        """
        if not genomes:
            raise ValueError("Population: expected at least one genome, got none")
        inputs, outputs = genomes[0].inputs, genomes[0].outputs
        for i, genome in enumerate(genomes):
            if (genome.inputs, genome.outputs) != (inputs, outputs):
                raise ValueError(
                    f"Population: genome 0 has {inputs} inputs and {outputs} outputs, genome {i} "
                    f"has {genome.inputs} and {genome.outputs}; expected one number of each"
                )
        numbers = _innovations(genomes)
        nodes = [sorted(g.nodes) for g in genomes]
        connections = [
            sorted((c._replace(innovation=numbers(c)) for c in g.connections), key=_innovation)
            for g in genomes
        ]
        columns: dict[str, tuple[list[list], object, torch.dtype]] = {
            "node_key": ([[n.key for n in row] for row in nodes], PAD, torch.int64),
            "node_mask": ([[True for _ in row] for row in nodes], False, torch.bool),
            "bias": ([[n.bias for n in row] for row in nodes], 0.0, dtype),
            "response": ([[n.response for n in row] for row in nodes], 0.0, dtype),
            "time_constant": ([[n.time_constant for n in row] for row in nodes], 0.0, dtype),
            "activation": (
                [[ACTIVATIONS.index(n.activation) for n in row] for row in nodes],
                0,
                torch.int32,
            ),
            "aggregation": (
                [[AGGREGATIONS.index(n.aggregation) for n in row] for row in nodes],
                0,
                torch.int32,
            ),
            "innovation": ([[c.innovation for c in row] for row in connections], PAD, torch.int64),
            "source": ([[c.source for c in row] for row in connections], PAD, torch.int64),
            "target": ([[c.target for c in row] for row in connections], PAD, torch.int64),
            "connection_mask": ([[True for _ in row] for row in connections], False, torch.bool),
            "enabled": ([[c.enabled for c in row] for row in connections], False, torch.bool),
            "weight": ([[c.weight for c in row] for row in connections], 0.0, dtype),
        }
        tensors = {
            name: _padded(rows, fill, kind).to(device)
            for name, (rows, fill, kind) in columns.items()
        }
        return cls(inputs, outputs, **tensors)

    def genome(self, row: int) -> Genome:
        """The genome in one row, as Python values."""
        return self.select(torch.tensor([range(len(self))[row]])).genomes()[0]

    def genomes(self) -> list[Genome]:
        """All genomes as Python values."""
        columns = {name: getattr(self, name).tolist() for name in NODE_FIELDS + CONNECTION_FIELDS}
        return [
            Genome(
                self.inputs,
                self.outputs,
                tuple(
                    NodeGene(key, bias, response, ACTIVATIONS[act], AGGREGATIONS[agg], time)
                    for key, live, bias, response, time, act, agg in zip(
                        *(columns[name][row] for name in NODE_FIELDS), strict=True
                    )
                    if live
                ),
                tuple(
                    ConnectionGene(source, target, weight, enabled, innovation)
                    for innovation, source, target, live, enabled, weight in zip(
                        *(columns[name][row] for name in CONNECTION_FIELDS), strict=True
                    )
                    if live
                ),
            )
            for row in range(len(self))
        ]

    def with_(self, **tensors: Tensor) -> Population:
        """A copy in which some tensors are others."""
        return replace(self, **tensors)

    def map(self, function: Callable[[str, Tensor], Tensor]) -> Population:
        """A copy with ``function(name, tensor)`` in place of every tensor."""
        return self.with_(
            **{n: function(n, getattr(self, n)) for n in NODE_FIELDS + CONNECTION_FIELDS}
        )

    def select(self, rows: Tensor | slice) -> Population:
        """Some genomes, by positions or a mask (P,), in any order and more than once."""
        if isinstance(rows, slice):
            return self.map(lambda _, tensor: tensor[rows])
        rows = rows.to(self.device)
        if rows.dtype == torch.bool:
            rows = rows.nonzero()[:, 0]
        return self.map(lambda _, tensor: tensor.index_select(0, rows))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Population:
        """Move to a device, or give the floating tensors another precision."""
        return self.map(
            lambda _, t: t.to(device=device, dtype=dtype if t.is_floating_point() else None)
        )

    def resize(self, nodes: int, connections: int) -> Population:
        """Widen with padding or cut columns, which must be padding, to N and C."""

        def fit(name: str, tensor: Tensor) -> Tensor:
            width = nodes if name in NODE_FIELDS else connections
            missing = width - tensor.shape[1]
            if missing <= 0:
                return tensor[:, :width]
            fill = PAD if name in KEYS else 0  # F.pad would round it to a float
            return torch.cat([tensor, tensor.new_full((len(tensor), missing), fill)], 1)

        return self.map(fit)

    def crop(self) -> Population:
        """Without the columns that are padding in every genome."""
        if not len(self):
            return self
        nodes = int(self.node_mask.sum(1).max())
        connections = int(self.connection_mask.sum(1).max()) if self.weight.shape[1] else 0
        if (nodes, connections) == (self.node_key.shape[1], self.weight.shape[1]):
            return self
        return self.resize(nodes, connections)

    def replace_rows(self, rows: Tensor, others: Population) -> Population:
        """With `others` in the positions `rows` (K,), widened to the larger of the two."""
        nodes = max(self.node_key.shape[1], others.node_key.shape[1])
        connections = max(self.weight.shape[1], others.weight.shape[1])
        new = others.resize(nodes, connections)
        return self.resize(nodes, connections).map(
            lambda name, old: old.index_copy(0, rows, getattr(new, name))
        )

    def keep(self, nodes: Tensor | None, connections: Tensor | None) -> Population:
        """Without the genes that are False in the masks (P, N) and (P, C); None keeps all."""
        moved: dict[str, Tensor] = {}
        for kept, names in ((nodes, NODE_FIELDS), (connections, CONNECTION_FIELDS)):
            if kept is None:
                continue
            order = kept.logical_not().byte().argsort(dim=1, stable=True)
            live = kept.gather(1, order)
            for name in names:
                fill = PAD if name in KEYS else 0
                moved[name] = getattr(self, name).gather(1, order).masked_fill_(~live, fill)
        return self.with_(**moved)

    @staticmethod
    def cat(parts: Sequence[Population]) -> Population:
        """One population after another, widened to the largest."""
        nodes = max(part.node_key.shape[1] for part in parts)
        connections = max(part.weight.shape[1] for part in parts)
        wide = [part.resize(nodes, connections) for part in parts]
        return wide[0].map(lambda name, _: torch.cat([getattr(part, name) for part in wide]))

    def arrays(self) -> dict[str, NDArray]:
        """The tensors by name, for a file or another process."""
        return {n: getattr(self, n).cpu().numpy() for n in NODE_FIELDS + CONNECTION_FIELDS}

    @classmethod
    def from_arrays(
        cls, inputs: int, outputs: int, arrays: Mapping[str, NDArray | Tensor]
    ) -> Population:
        """The inverse of `arrays`."""
        names = [f.name for f in fields(cls) if f.name not in ("inputs", "outputs")]
        if missing := [name for name in names if name not in arrays]:
            raise ValueError(f"Population: expected the arrays {names}, without {missing}")
        return cls(inputs, outputs, **{name: torch.as_tensor(arrays[name]) for name in names})


def _innovation(gene: ConnectionGene) -> int:
    return gene.innovation


def _innovations(genomes: Sequence[Genome]) -> Callable[[ConnectionGene], int]:
    """The number of a gene: its own, or a new one that all genes with its ends share."""
    genes = [gene for genome in genomes for gene in genome.connections]
    following = 1 + max((gene.innovation for gene in genes), default=-1)
    ends = sorted({(g.source, g.target) for g in genes if g.innovation < 0})
    new = {pair: following + i for i, pair in enumerate(ends)}
    return lambda gene: gene.innovation if gene.innovation >= 0 else new[gene.source, gene.target]


def _padded(rows: list[list], fill: object, dtype: torch.dtype) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor(
        np.array([row + [fill] * (width - len(row)) for row in rows]).reshape(len(rows), width),
        dtype=dtype,
    )
