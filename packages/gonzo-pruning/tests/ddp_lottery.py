"""Run a small lottery experiment, alone or as one of two processes.

Each process takes its share of every batch.
"""

import sys

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gonzo.pruning.controls import Controls
from gonzo.pruning.lottery import LotteryRun

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(1)).double()
Y = (X[:, 0] > 0).long()


def build():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)).double()


def make_train(as_view, interrupt):
    rank, world = (dist.get_rank(), 2) if dist.is_initialized() else (0, 1)
    left = [interrupt]

    def train(model, training):
        inner = dict(model.named_parameters())
        wrapped = model
        if world > 1:
            wrapped = DistributedDataParallel(model, gradient_as_bucket_view=as_view)
        optimizer = training.optimizer(torch.optim.SGD(model.parameters(), 0.2, momentum=0.9))
        for step in training.steps(9):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            batch = torch.randint(40, (8,), generator=training.generator)
            mine = batch.chunk(world)[rank]
            optimizer.zero_grad()
            F.cross_entropy(wrapped(X[mine]), Y[mine]).backward()
            for name, alive in training.masks.items():
                assert not inner[name].grad[~alive].any(), "a pruned weight has a gradient"
            optimizer.step()
            if step % 3 == 2:
                with torch.no_grad():
                    training.record(validation_loss=F.cross_entropy(model(X), Y))

    return train


def find(folder, as_view=False, interrupt=0):
    run = LotteryRun(
        build,
        make_train(as_view, interrupt),
        folder,
        rounds=2,
        rewind_to=2,
        optimizer_state="rewound",
        checkpoint_every=4,
        controls=Controls(reinit=1, random_mask=1, one_shot=True, rounds=[2]),
    )
    try:
        return run.run()
    except KeyboardInterrupt:
        return run.run()


def check_agreement(folder, result):
    """Both processes were told the same, and a refusal of rank 0 reaches both."""
    seen = torch.tensor([trial.at_end["validation_loss"] for trial in result.trials])
    both = [torch.zeros_like(seen), torch.zeros_like(seen)]
    dist.all_gather(both, seen)
    assert torch.equal(both[0], both[1]), "the processes were told different results"
    with pytest.raises((ValueError, RuntimeError), match="seed is 0 there and 5 here"):
        LotteryRun(build, make_train(False, 0), folder, rounds=2, seed=5).run()


def main(folder, rank):
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    check_agreement(f"{folder}/two", find(f"{folder}/two"))
    # Gradients as views of what is averaged; and interrupted in the middle of a training.
    find(f"{folder}/views", as_view=True, interrupt=25)
    dist.barrier()  # gloo can abort in a process that leaves while the other still talks
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
