"""A training step with pruned weights kept at zero, beside the same step without masks.

LeNet-300-100 (784-300-100-10), batch 60, a fifth of the weights alive in every layer. Two things
slow a step down that have nothing to do with masking, and would hide it:

- torch.sqrt takes 24 times as long for zeros (it is MKL's, which treats them one by one). Adam
  without ``fused=True`` takes it of the second moments, which are zero for pruned weights: the
  step then takes 1.4 times as long. The fused one does not.
- An average of gradients that stopped coming decays into denormals after some 800 steps, at 0.9 a
  step, and a step with those takes up to three times as long, most where nothing is pruned. They
  are flushed to zero here; ``torch.set_flush_denormal(True)`` does that in any training.
"""

import functools

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune as torch_prune

from gonzo.core.bench import TimeRow, main, times_peer
from gonzo.pruning.mask_guard import guard_masks
from gonzo.pruning.masks import Masks

TESTS = ["tests/test_mask_guard.py"]
BATCH, DENSITY, STEPS = 60, 0.2, 25


@functools.cache
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6000, 784, generator=generator)
    return x, (x @ torch.randn(784, 10, generator=generator)).argmax(1)


class Network:
    """LeNet-300-100 with its optimizer, masks by ``how``."""

    def __init__(self, how, *, fused):
        torch.manual_seed(0)
        torch.set_flush_denormal(True)
        self.how = how
        self.model = nn.Sequential(
            nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
        )
        generator = torch.Generator().manual_seed(1)
        self.masks = Masks(
            {
                name: torch.rand(weight.shape, generator=generator) < DENSITY
                for name, weight in self.model.named_parameters()
                if weight.ndim > 1
            }
        )
        if how == "torch.nn.utils.prune":
            for index in (0, 2, 4):
                mask = self.masks[f"{index}.weight"].float()
                torch_prune.custom_from_mask(self.model[index], "weight", mask)
        elif how != "bare":
            self.masks.apply_(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1.2e-3, fused=fused)
        if how == "guard":
            guard_masks(self.model, self.masks, self.optimizer)
        self.products = [
            (self.model.get_parameter(name), mask.float())
            for name, mask in self.masks.items()
            if how == "multiply"
        ]
        self.order = torch.Generator().manual_seed(2)

    def run(self):
        """Many steps: to alternate after a few would time how caches are filled again."""
        for _ in range(STEPS):
            self.step()

    def step(self):
        x, y = data()
        batch = torch.randint(len(x), (BATCH,), generator=self.order)
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(x[batch]), y[batch]).backward()
        for weight, mask in self.products:
            weight.grad.mul_(mask)
        self.optimizer.step()


def row(what, ours, peer, *, fused, bar=None, peer_fused=None):
    def setup():
        return (
            Network(ours, fused=fused),
            Network(peer, fused=fused if peer_fused is None else peer_fused),
        )

    return TimeRow(
        what=f"{STEPS} steps of LeNet-300-100, 20 % alive: {what}",
        tests=TESTS,
        ours=lambda mine, _: mine.run(),
        peer=lambda _, other: other.run(),
        peer_name=peer,
        bar=bar,
        setup=setup,
    )


ROWS = [
    row("guarded beside bare, fused Adam", "guard", "bare", fused=True, bar=times_peer(1.05)),
    row("guarded beside gradients times masks, fused Adam", "guard", "multiply", fused=True),
    row(
        "guarded beside torch's reparametrisation, fused Adam",
        "guard",
        "torch.nn.utils.prune",
        fused=True,
    ),
    row("guarded beside bare, default Adam", "guard", "bare", fused=False),
    row(
        "guarded with fused Adam beside gradients times masks with default Adam",
        "guard",
        "multiply",
        fused=True,
        peer_fused=False,
    ),
]

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-pruning", script=__file__))
