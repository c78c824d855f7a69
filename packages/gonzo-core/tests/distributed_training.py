"""Train a small language model for a few steps and write the losses and parameters as JSON.

Run alone, or by torchrun: then each process takes its share of every batch.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gonzo.core.nn import CausalAttention, LanguageModel, ResidualStack


class Loss(nn.Module):
    """DistributedDataParallel looks after what ``forward`` computes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return self.model.loss(tokens)


def main(path):
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [CausalAttention(8, 2), CausalAttention(8, 2, window=3)]
    stack = ResidualStack(layers, feed_forward=12)
    model = LanguageModel(7, stack).double()
    loss_of = Loss(model)
    if world > 1:
        dist.init_process_group("gloo")
        loss_of = DistributedDataParallel(loss_of)
    losses = []
    for step in range(6):
        batch = (torch.arange(4)[:, None] * 5 + step + torch.arange(9)).remainder(7)
        loss = loss_of(batch.chunk(world)[rank])
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.5 * parameter.grad
                parameter.grad = None
        shown = loss.detach() / world
        if world > 1:
            dist.all_reduce(shown)
        losses.append(shown.item())
    if rank == 0:
        parameters = torch.cat([parameter.flatten() for parameter in model.parameters()])
        Path(path).write_text(json.dumps({"losses": losses, "parameters": parameters.tolist()}))
    if world > 1:
        dist.barrier()  # gloo can abort in a process that leaves while the other still talks
        dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
