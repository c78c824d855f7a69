"""The networks of a whole population, evaluated at once over genomes × inputs.

    feed-forward   every node after the nodes it reads; a cycle is an error
    recurrent      every node reads the previous tick's values: y_t = f(W y_{t-1} + U x_t + b)
    ctrnn          continuous time: τ dy/dt = -y + f(W y + U x + b), Euler steps of `time_step`

All are one operator of `gonzo.core`: a tick is a network that is one layer deep, with the state
beside the inputs. What one genome's network gives is bit-equal whatever shares its batch.

Source:
    Stanley and Miikkulainen: Evolving Neural Networks through Augmenting Topologies (2002);
    Beer: On the Dynamics of Small Continuous-Time Recurrent Neural Networks (1995).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gonzo.core.ops.population_forward import population_forward
from gonzo.core.ops.population_forward.functions import BOUND

from .cycles import describe_cycle
from .order import Order, evaluation_order
from .population import Population

KINDS = ("feed-forward", "recurrent", "ctrnn")


@dataclass(frozen=True)
class Phenotype:
    """What genomes become: calling it with a population is `networks` with these arguments."""

    kind: str = "feed-forward"
    ticks: int = 10
    time_step: float = 0.1

    def __call__(self, population: Population) -> Networks:
        """The networks of all genomes."""
        return networks(population, self.kind, ticks=self.ticks, time_step=self.time_step)


def networks(
    population: Population,
    kind: str = "feed-forward",
    *,
    ticks: int = 10,
    time_step: float = 0.1,
) -> Networks:
    """Build the networks of all genomes.

    Args:
        population: P genomes.
        kind: "feed-forward", "recurrent" or "ctrnn".
        ticks: how many ticks a call holds its input, where there is a state.
        time_step: of a ctrnn's tick, in the unit of its time constants.

    Raises:
        ValueError: another kind, or a genome with a cycle for "feed-forward".
    """
    if kind not in KINDS:
        raise ValueError(f"networks: expected a kind of {KINDS}, got {kind!r}")
    if ticks < 1 or not time_step > 0:
        raise ValueError(
            f"networks: expected at least 1 tick and a time_step above 0, got {ticks}, {time_step}"
        )
    order = evaluation_order(population, acyclic=kind == "feed-forward")
    if kind == "feed-forward" and bool(order.cyclic.any()):
        row = int(order.cyclic.int().argmax())
        raise ValueError(
            f"networks: genome {row} has the cycle {describe_cycle(population.genome(row))}; "
            'expected none in a feed-forward network: kind="recurrent" evaluates it'
        )
    live = torch.arange(order.edge_gene.shape[1], device=population.device) < order.first[:, -1:]
    weight = population.weight.gather(1, order.edge_gene).masked_fill(~live, 0)
    kept = {"feed-forward": FeedForward, "recurrent": Recurrent, "ctrnn": ContinuousTime}[kind]
    return kept(
        origin=population,
        order=order,
        weight=weight,
        bias=population.bias.gather(1, order.node_gene),
        response=population.response.gather(1, order.node_gene),
        activation=population.activation.gather(1, order.node_gene),
        aggregation=population.aggregation.gather(1, order.node_gene),
        ticks=ticks,
        time_step=time_step,
    )


@dataclass(frozen=True, repr=False)
class Networks:
    """P networks. `networks` makes them.

    Attributes:
        origin: the population they were made from.
        order: how they are evaluated.
        weight: (P, E) of every edge in that order. May require gradients, like the next two.
        bias: (P, N) of every node in that order.
        response: (P, N)
        activation: (P, N)
        aggregation: (P, N)
        ticks: how many ticks a call holds its input, where there is a state.
        time_step: of a ctrnn's tick.
    """

    origin: Population
    order: Order
    weight: Tensor
    bias: Tensor
    response: Tensor
    activation: Tensor
    aggregation: Tensor
    ticks: int
    time_step: float

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.origin.inputs

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.origin.outputs

    def __repr__(self) -> str:
        """Sizes alone; tensors would fill pages."""
        return f"{type(self).__name__}({len(self)} networks, {self.inputs} → {self.outputs})"

    def __len__(self) -> int:
        return len(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate from rest.

        Args:
            x: (S, inputs) for all genomes, or (P, S, inputs).

        Returns:
            (P, S, outputs)

        Raises:
            ValueError: another shape, or inputs that are not finite.
        """
        x = self._checked(x)
        state = self.rest(x.shape[-2])
        y = state
        for _ in range(self.ticks):
            y, state = self._tick(x, state)
        return y

    def rest(self, samples: int) -> Tensor:
        """The state (P, S, N) before the first step: zero."""
        shape = (len(self), samples, self.bias.shape[1])
        return self.bias.new_zeros(shape)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One tick.

        Args:
            x: (S, inputs) for all genomes, or (P, S, inputs).
            state: what `rest` or the step before returned.

        Returns:
            Outputs (P, S, outputs) and the next state. The one given is not changed.
        """
        return self._tick(self._checked(x), state)

    def _tick(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def select(self, rows: Tensor) -> Networks:
        """The networks of some genomes, by positions or a mask (P,)."""
        rows = rows.to(self.weight.device)
        if rows.dtype == torch.bool:
            rows = rows.nonzero()[:, 0]
        return replace(
            self,
            origin=self.origin.select(rows),
            order=Order(*(t.index_select(0, rows) for t in self.order)),
            **{name: getattr(self, name).index_select(0, rows) for name in _BY_GENOME},
        )

    def with_parameters(self, weight: Tensor, bias: Tensor, response: Tensor) -> Networks:
        """The same topologies with other numbers: leaves of a gradient, say."""
        return replace(self, weight=weight, bias=bias, response=response)

    def population(self) -> Population:
        """The genomes, with the networks' weights, biases and responses written back."""
        old, order = self.origin, self.order
        edges = torch.arange(order.edge_gene.shape[1], device=old.device) < order.first[:, -1:]
        nodes = torch.arange(order.node_gene.shape[1], device=old.device) < order.nodes[:, None]
        return old.with_(
            weight=_write(old.weight, order.edge_gene, self.weight, edges),
            bias=_write(old.bias, order.node_gene, self.bias, nodes),
            response=_write(old.response, order.node_gene, self.response, nodes),
        )

    def _evaluate(self, x: Tensor, outputs: Tensor, nodes: Tensor) -> Tensor:
        return population_forward(
            x,
            self.weight,
            self.bias,
            self.response,
            self.order.source,
            self.order.first,
            nodes,
            self.activation,
            self.aggregation,
            outputs,
        )

    def _checked(self, x: Tensor) -> Tensor:
        """The inputs as a tensor like the weights, which lists and arrays become too."""
        if not isinstance(x, Tensor) or x.dtype != self.weight.dtype:
            x = torch.as_tensor(x, dtype=self.weight.dtype, device=self.weight.device)
        if x.ndim not in (2, 3) or x.shape[-1] != self.inputs:
            raise ValueError(
                f"networks: expected inputs of shape (samples, {self.inputs}) or "
                f"({len(self)}, samples, {self.inputs}), got {tuple(x.shape)}"
            )
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return x  # to look at the values would wait for the device, or break the graph
        if not bool(x.isfinite().all()):
            raise ValueError("networks: the inputs hold NaN or infinite values; expected numbers")
        return x


_BY_GENOME = ("weight", "bias", "response", "activation", "aggregation")


class FeedForward(Networks):
    """Networks without cycles; their state is empty."""

    def __call__(self, x: Tensor) -> Tensor:
        """See `Networks`."""
        return self._evaluate(self._checked(x), self.order.outputs, self.order.nodes)

    def rest(self, samples: int) -> Tensor:
        """An empty state (P, S, 0)."""
        return self.bias.new_empty(len(self), samples, 0)

    def _tick(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self._evaluate(x, self.order.outputs, self.order.nodes), state


class Recurrent(Networks):
    """Networks in discrete time, in which every node reads the previous tick."""

    def _tick(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self._next_values(x, state)
        return state[..., : self.outputs], state

    def _next_values(self, x: Tensor, state: Tensor) -> Tensor:
        if x.ndim == 2:
            x = x.expand(len(self), -1, -1)
        # A node's slot comes after the inputs, and so does the state.
        width = state.shape[2]
        every = torch.arange(width, dtype=torch.int32, device=state.device)
        nodes = torch.full_like(self.order.nodes, width)  # padding too: it stays 0
        return self._evaluate(torch.cat([x, state], 2), every.expand(len(self), -1), nodes)


class ContinuousTime(Recurrent):
    """Networks in continuous time, by Euler's method."""

    def _tick(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        tau = self.origin.time_constant.gather(1, self.order.node_gene)
        rate = self.time_step / tau.where(tau > 0, 1)  # padding has none
        state = state + rate[:, None] * (self._next_values(x, state) - state)
        state = state.clamp(-BOUND, BOUND)  # steps of more than twice τ diverge
        return state[..., : self.outputs], state


def _write(old: Tensor, column: Tensor, value: Tensor, live: Tensor) -> Tensor:
    """`old` (P, C) with `value` (P, E) at `column` (P, E) where `live`."""
    row = torch.arange(len(old), device=old.device)[:, None].expand_as(column)
    new = old.clone()
    new[row[live], column[live]] = value.detach()[live]
    return new
