"""A genome as a plain torch module: to train, compile, export and put into larger modules."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from gonzo.core.ops.population_forward.functions import BOUND, activate, aggregate

from ..genome import Genome
from ..phenotypes import KINDS
from .order import check_kind
from .plan import Group, plan

__all__ = ["CTRNNModule", "FeedForwardModule", "RecurrentModule", "to_module"]


def to_module(
    genome: Genome,
    kind: str = "feed-forward",
    *,
    time_step: float = 0.1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> FeedForwardModule | RecurrentModule:
    """Turn a genome into a torch module of its own.

    Its parameters are ``weight`` (E,) and ``bias`` (N,) of the E connections and N nodes that the
    outputs need; responses and time constants are buffers.

    Args:
        genome: the network.
        kind: "feed-forward", "recurrent" or "ctrnn".
        time_step: seconds of a tick of a "ctrnn".
        dtype: of the parameters; a genome has float64's precision, which a later ``.double()`` does
            not bring back.
        device: where the parameters are.

    Raises:
        ValueError: no such kind, or a feed-forward network of a genome with a cycle.
    """
    check_kind(kind, KINDS, "to_module")
    with torch.device(device or torch.get_default_device()):
        if kind == "feed-forward":
            return FeedForwardModule(genome, dtype=dtype)
        if kind == "recurrent":
            return RecurrentModule(genome, dtype=dtype)
        return CTRNNModule(genome, time_step=time_step, dtype=dtype)


class _Nodes(nn.Module):
    """One group of nodes; the numbers belong to the network, this knows which are its own."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.functions = group.aggregation, group.activation
        self.own = slice(group.start, group.stop)
        size = len(group.sources), len(group.sources[0])
        for name in ("sources", "connections"):
            places = torch.tensor(getattr(group, name), dtype=torch.int64).reshape(size)
            self.register_buffer(name, places, persistent=False)
        self.sources: Tensor
        self.connections: Tensor

    def forward(self, values: Tensor, weight: Tensor, bias: Tensor, response: Tensor) -> Tensor:
        """Values of these nodes (…, n) from the row of all values (…, V)."""
        aggregation, activation = self.functions
        terms = values[..., self.sources] * weight[self.connections]  # (…, n, K)
        scaled = response[self.own] * aggregate(aggregation, terms)
        z = bias[self.own] + torch.where(scaled.isnan(), 0.0, scaled)
        return activate(activation, z.clamp(-BOUND, BOUND)).clamp(-BOUND, BOUND)

    def extra_repr(self) -> str:
        aggregation, activation = self.functions
        return f"{len(self.sources)} × {activation}({aggregation} of {self.sources.shape[1]})"


class _Network(nn.Module):
    """What the modules share: parameters, and how they go back into the genome."""

    def __init__(self, genome: Genome, kind: str, *, dtype: torch.dtype) -> None:
        super().__init__()
        planned = plan(genome, kind, "to_module")
        self._genome = genome
        self._ends = [(gene.source, gene.target) for gene in planned.connections]
        self.inputs = genome.inputs
        self.outputs = genome.outputs
        self.keys = tuple(node.key for node in planned.nodes)

        def tensor(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=dtype)

        self.weight = nn.Parameter(tensor([gene.weight for gene in planned.connections]))
        self.bias = nn.Parameter(tensor([node.bias for node in planned.nodes]))
        self.register_buffer("response", tensor([node.response for node in planned.nodes]))
        self.response: Tensor
        self.layers = nn.ModuleList(
            nn.ModuleList(_Nodes(group) for group in layer) for layer in planned.layers
        )
        places = torch.tensor(planned.outputs, dtype=torch.int64)
        self.register_buffer("places", places, persistent=False)
        self.places: Tensor

    def _row(self, x: Tensor) -> Tensor:
        if x.ndim < 1 or x.shape[-1] != self.inputs:
            raise ValueError(
                f"{type(self).__name__}: expected x of shape (…, {self.inputs}), got "
                f"{tuple(x.shape)}"
            )
        return nn.functional.pad(x, (1, 0))

    def _evaluate(self, values: Tensor, layer: nn.Module) -> Tensor:
        parts = [nodes(values, self.weight, self.bias, self.response) for nodes in layer.children()]
        return torch.cat(parts, -1)

    def genome(self) -> Genome:
        """Return the genome with the weights and biases this module has now."""
        weights = dict(zip(self._ends, self.weight.tolist(), strict=True))
        biases = dict(zip(self.keys, self.bias.tolist(), strict=True))
        nodes = [n._replace(bias=biases.get(n.key, n.bias)) for n in self._genome.nodes]
        connections = [
            c._replace(weight=weights.get((c.source, c.target), c.weight))
            for c in self._genome.connections
        ]
        return replace(self._genome, nodes=tuple(nodes), connections=tuple(connections))

    def extra_repr(self) -> str:
        return f"inputs={self.inputs}, outputs={self.outputs}, nodes={len(self.keys)}"


class FeedForwardModule(_Network):
    """A feed-forward network; make one with `to_module`.

    Attributes:
        weight: (E,) of the connections.
        bias: (N,) of the nodes, in the order of ``keys``.
        response: (N,) a buffer.
        keys: the N nodes' keys, in the order of computation.
    """

    def __init__(self, genome: Genome, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(genome, "feed-forward", dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate ``x`` (…, inputs) to (…, outputs)."""
        row = self._row(x)
        for layer in self.layers:
            row = torch.cat([row, self._evaluate(row, layer)], -1)
        return row[..., 1 + self.inputs + self.places]


class RecurrentModule(_Network):
    """A recurrent network, one tick a call; make one with `to_module`.

    Every node reads this tick's inputs and the previous tick's nodes.

    Attributes:
        weight: (E,) of the connections.
        bias: (N,) of the nodes, in the order of ``keys``.
        response: (N,) a buffer.
        keys: the N nodes' keys; the state has their order.
    """

    def __init__(self, genome: Genome, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(genome, "recurrent", dtype=dtype)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tick once.

        Args:
            x: (…, inputs).
            state: (…, N) of the previous tick; None is rest, all zeros.

        Returns:
            The outputs (…, outputs), and the state (…, N) for the next tick.
        """
        if state is None:
            state = self.bias.new_zeros(*x.shape[:-1], len(self.keys))
        elif state.shape != (*x.shape[:-1], len(self.keys)):
            raise ValueError(
                f"{type(self).__name__}: expected a state of shape "
                f"{(*x.shape[:-1], len(self.keys))}, got {tuple(state.shape)}"
            )
        row = torch.cat([self._row(x), state], -1)
        state = self._advance(state, self._evaluate(row, self.layers[0]))
        return state[..., self.places], state

    def _advance(self, state: Tensor, value: Tensor) -> Tensor:
        return value


class CTRNNModule(RecurrentModule):
    """A continuous-time recurrent network, one Euler step a call; make one with `to_module`.

    ``y ← y + Δt/τ · (-y + activation(bias + response · aggregate))``.

    Attributes:
        time_step: Δt, in seconds.
        time_constant: (N,) τ, a buffer.
    """

    def __init__(
        self, genome: Genome, *, time_step: float = 0.1, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(genome, dtype=dtype)
        if not 0 < time_step < float("inf"):
            raise ValueError(f"CTRNNModule: expected a time_step above 0, got {time_step}")
        self.time_step = time_step
        taus = {node.key: node.time_constant for node in genome.nodes}
        constant = torch.tensor([taus[key] for key in self.keys], dtype=dtype)
        self.register_buffer("time_constant", constant)
        self.time_constant: Tensor

    def _advance(self, state: Tensor, value: Tensor) -> Tensor:
        return state + self.time_step / self.time_constant * (value - state)
