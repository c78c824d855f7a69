"""Ithemal: two LSTMs, one over the tokens of an instruction and one over the instructions.

Mendis, Renda, Amarasinghe, Carbin: Ithemal, accurate, portable and fast basic block throughput
estimation using deep neural networks, ICML 2019:

    e_i = last state of LSTM_token(embedding of the tokens of instruction i)
    h = last state of LSTM_instruction(e_1 … e_n)
    cycles = w · h + b

Every distinct instruction of a batch goes through the first LSTM once, however often it occurs,
and the second one runs over all blocks of the batch together, packed.

Deviation: two more outputs give an interval; with `positive` (the default) the cycles are the
exponential of the last layer, so that relative errors are errors of its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gonzo.ithemal.batch import Batch
from gonzo.ithemal.model import Estimate, ThroughputModel, check_machines

__all__ = ["Ithemal"]


class Ithemal(ThroughputModel):
    """The hierarchical LSTM.

    Args:
        n_token: size of the vocabulary.
        machines: names of the machines that the measurements come from.
        d_token: size of a token's embedding.
        d_instruction: size of the token LSTM's state.
        d_model: size of the instruction LSTM's state.
        positive: the output is exp(w · h + b); the paper's is w · h + b.
    """

    def __init__(
        self,
        n_token: int,
        *,
        machines: Sequence[str] = ("here",),
        d_token: int = 256,
        d_instruction: int = 256,
        d_model: int = 256,
        positive: bool = True,
    ) -> None:
        super().__init__()
        self.machines = check_machines(machines)
        self._sizes = {
            "n_token": n_token,
            "d_token": d_token,
            "d_instruction": d_instruction,
            "d_model": d_model,
            "positive": positive,
        }
        self.embedding = nn.Embedding(n_token, d_token)
        self.token_lstm = nn.LSTM(d_token, d_instruction)
        self.instruction_lstm = nn.LSTM(d_instruction, d_model)
        self.heads = nn.ModuleList(_Head(d_model, positive) for _ in self.machines)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that build a model of this shape."""
        return {**self._sizes, "machines": self.machines}

    def features(self, batch: Batch) -> Tensor:
        """Return the last state of each block, (blocks, d_model), the longest block first."""
        tokens = PackedSequence(self.embedding(batch.tokens), batch.token_sizes)
        instructions = self.token_lstm(tokens)[1][0][-1]
        blocks = PackedSequence(instructions[batch.instruction], batch.sizes)
        return self.instruction_lstm(blocks)[1][0][-1]

    def forward_one(self, instructions: Sequence[Sequence[int]], machine: int = 0) -> Estimate:
        """Predict a single block as the paper writes it, instruction by instruction.

        Slow; `forward` gives the same numbers.

        Args:
            instructions: the token numbers of each instruction.
            machine: an index into `machines`.

        Returns:
            Three tensors of shape (1,).
        """
        device = self.embedding.weight.device
        states = [
            self.token_lstm(self.embedding(torch.tensor(tokens, device=device)))[1][0][-1]
            for tokens in instructions
        ]
        last = self.instruction_lstm(torch.stack(states))[1][0][-1]
        return self.estimate(self.heads[machine](last[None]))


class _Head(nn.Module):
    def __init__(self, d_model: int, positive: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, 3)
        self.positive = positive

    def forward(self, features: Tensor) -> Tensor:
        raw = self.linear(features)
        return torch.cat([raw[:, :1].exp(), raw[:, 1:]], 1) if self.positive else raw
