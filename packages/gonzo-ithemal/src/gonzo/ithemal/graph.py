"""GraphThroughput: message passing over the dependences of a block, decoded into bounds.

In the manner of Sýkora, Phothilimthana, Mendis, Yazdanbakhsh: GRANITE, a graph neural network model
for basic block throughput estimation, IISWC 2022: nodes exchange messages along the dependences, in
both directions, and each instruction contributes to a sum. With x_i the state of instruction i,
normalised, and g the mean of its block times the root of the length,

    x_i += W3 gelu(W x_i + W2 g + sum over edges e into i of (a_e * A x_producer + b_e)
                                + sum over edges e out of i of (c_e * B x_consumer + d_e))

where a, b, c, d belong to the kind of the edge. A processor is as slow as the tightest of its
bounds, so each head decodes the states into several:

    sums      s_k = sum over i of softplus(u_k · x_i)            (ports, decoders, retirement …)
    chains    l_k = latency bound with latencies softplus(p_k · x_producer + q_k · x_consumer + r_k)
    log cycles = log (sum over bounds of bound^beta) / beta + MLP(log bounds, W4 g)

Deviation: nodes are instructions; GRANITE has nodes for values and operands too, which here are
edges and tokens. An instruction enters as the sum of its tokens' embeddings, whose names say which
operand they are. GRANITE's decoder is one sum; the chains, which see dependences that go through
the block's repetition however long they are, and the smooth maximum are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.ithemal.bag import owners
from gonzo.ithemal.batch import RELATIONS, Batch
from gonzo.ithemal.chains import latency_bound
from gonzo.ithemal.messages import exchange
from gonzo.ithemal.model import ThroughputModel, check_machines

__all__ = ["GraphThroughput"]

_QUIET = 0.02  # cycles added to every bound: a block without chains has a bound of zero


class GraphThroughput(ThroughputModel):
    """The dependency-graph network.

    Args:
        n_token: size of the vocabulary.
        machines: names of the machines that the measurements come from.
        d_model: size of an instruction's state.
        rounds: how many times messages are passed.
        sums: number of bounds that are sums over instructions.
        chains: number of bounds that are chains of latencies.
    """

    def __init__(
        self,
        n_token: int,
        *,
        machines: Sequence[str] = ("here",),
        d_model: int = 96,
        rounds: int = 3,
        sums: int = 16,
        chains: int = 8,
    ) -> None:
        super().__init__()
        if rounds < 0 or min(sums, chains) < 1:
            raise ValueError(
                "GraphThroughput: expected rounds of at least 0, and sums and chains of at least "
                f"1, got {rounds}, {sums} and {chains}"
            )
        self.machines = check_machines(machines)
        self._sizes = {
            "n_token": n_token,
            "d_model": d_model,
            "rounds": rounds,
            "sums": sums,
            "chains": chains,
        }
        self.embedding = nn.Embedding(n_token, d_model)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.norm_tokens = nn.LayerNorm(d_model)
        self.mix_tokens = nn.Sequential(
            nn.Linear(d_model, 2 * d_model), nn.GELU(), nn.Linear(2 * d_model, d_model)
        )
        self.rounds = nn.ModuleList(_Round(d_model) for _ in range(rounds))
        self.norm = nn.LayerNorm(d_model)
        self.heads = nn.ModuleList(_Head(d_model, sums, chains) for _ in self.machines)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that build a model of this shape."""
        return {**self._sizes, "machines": self.machines}

    def features(self, batch: Batch) -> _States:
        """Return the state of every instruction, and the batch."""
        tokens = self.embedding(batch.tokens)
        distinct = tokens.new_zeros(int(batch.token_sizes[0]), tokens.shape[1])
        distinct = self.norm_tokens(distinct.index_add(0, owners(batch.token_sizes), tokens))
        x = (distinct + self.mix_tokens(distinct))[batch.instruction]
        count = batch.block.bincount(minlength=len(batch.place)).to(x.dtype)
        for round_ in self.rounds:
            x = round_(_States(x, count, batch))
        return _States(self.norm(x), count, batch)


class _States(NamedTuple):
    x: Tensor  # (n, d_model)
    count: Tensor  # (blocks,) instructions
    batch: Batch

    def pooled(self, x: Tensor) -> Tensor:
        """Mean over a block times the root of its length: neither vanishes nor explodes."""
        total = x.new_zeros(len(self.count), x.shape[1]).index_add(0, self.batch.block, x)
        return total / self.count.sqrt()[:, None]


class _Round(nn.Module):
    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.project = nn.Linear(d_model, 3 * d_model)
        self.block = nn.Linear(d_model, d_model, bias=False)
        self.scale = nn.Embedding(2 * len(RELATIONS), d_model)
        self.shift = nn.Embedding(2 * len(RELATIONS), d_model)
        self.out = nn.Linear(d_model, d_model)
        nn.init.ones_(self.scale.weight)
        nn.init.normal_(self.shift.weight, std=0.3)

    def forward(self, states: _States) -> Tensor:
        batch = states.batch
        x = self.norm(states.x)
        projected, common = self.project(x), self.block(states.pooled(x))
        own = exchange(projected, common, self.scale.weight, self.shift.weight, batch)
        return states.x + self.out(F.gelu(own))


class _Head(nn.Module):
    def __init__(self, d_model: int, sums: int, chains: int) -> None:
        super().__init__()
        self.sums = nn.Linear(d_model, sums)
        self.producer = nn.Linear(d_model, chains)
        self.consumer = nn.Linear(d_model, chains, bias=False)
        self.relation = nn.Embedding(len(RELATIONS), chains)
        self.beta = nn.Parameter(torch.tensor(8.0))
        self.block = nn.Linear(d_model, d_model)
        last = nn.Linear(d_model, 3)
        self.mix = nn.Sequential(nn.Linear(d_model + sums + chains, d_model), nn.GELU(), last)
        # Training starts from a processor that issues five instructions a cycle, each of which
        # takes one cycle, and from a correction of nothing.
        nn.init.constant_(self.sums.bias, math.log(math.expm1(0.2)))
        nn.init.constant_(self.producer.bias, math.log(math.expm1(1.0)))
        nn.init.zeros_(self.relation.weight)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, states: _States) -> Tensor:
        x, _, batch = states
        cost = F.softplus(self.sums(x))
        total = x.new_zeros(len(batch.place), cost.shape[1]).index_add(0, batch.block, cost)
        latency = F.softplus(
            self.producer(x)[batch.producer]
            + self.consumer(x)[batch.consumer]
            + self.relation(batch.relation)
        )
        bounds = torch.cat([total, latency_bound(latency, batch)], 1).add(_QUIET).log()
        tightest = torch.logsumexp(self.beta * bounds, 1) / self.beta
        mixed = self.mix(torch.cat([self.block(states.pooled(x)), bounds], 1))
        cycles = torch.exp(tightest + mixed[:, 0])
        return torch.cat([cycles[:, None], mixed[:, 1:]], 1)
