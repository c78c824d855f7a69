"""Early-bird tickets: what will be kept is known long before training ends.

Claim: the mask that pruning would give stops moving early in training; the ticket drawn there,
trained on, is as accurate as the one drawn from the trained network, and costs a part of it.

A small convolutional network with batch normalisation learns MNIST at 7 × 7 pixels, which is not
easy for it. After every epoch two masks are taken: channels by the size of their scales, of which
70 % of each layer would go, as in the paper; and weights by their size, of which 95 % of every
convolution but the first would go. The ticket of either kind is drawn when the newest mask hardly
differs from the four before. Then tickets are trained, all for the same number of epochs and from
the weights that the network had at the moment of drawing:

    early   drawn when the mask stands still; the search could end there
    late    drawn at the end of the whole training: train, prune, train again
    first   drawn after the first epoch, before the mask stands still
    random  the early one's weights, and as many alive in each layer, but chosen by chance

Cost counts multiply-adds of the forward pass for every image that is learnt from, in the search
with all channels and then with those that are left: what training costs when pruned channels are
taken out of the network. Here they are masked, so that the clock shows less of it.

What differs from the paper: digits instead of photographs, 144 channels, tens of epochs instead
of 160. Scales start at 1, where the authors' start at a half, and in so short a training those of
one layer stay above those of another: a ranking over all layers, the paper's, takes whole layers
away, so each layer is ranked by itself. Tickets of weights are not in the paper.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.batches import Batches
from gonzo.lab.training import require
from gonzo.pruning.channels import batch_norm_scales, channel_weight_masks
from gonzo.pruning.mask_guard import guard_masks
from gonzo.pruning.masks import Masks
from gonzo.pruning.recipes.early_bird_figures import ARMS, draw_distances, draw_tickets
from gonzo.pruning.recipes.early_bird_network import Size, accuracy, network
from gonzo.pruning.recipes.early_bird_search import Drawing, Search
from gonzo.pruning.recipes.labelled_images import Labelled, Splits, digits


@dataclass(frozen=True)
class Config:
    """The network, the search and the training of tickets."""

    subset: bool = False
    """The 12,000 images that ship, instead of all 70,000."""
    images: int = 10_000
    """That are learnt from."""
    size: Size = Size()
    drawing: Drawing = Drawing()
    epochs: int = 24
    """Of the whole training, from whose end the late ticket is drawn."""
    ticket_epochs: int = 6
    """Of the training of every ticket."""
    batch: int = 100
    lr: float = 0.1
    """Of SGD with momentum 0.9; a tenth from the half on, a hundredth from three quarters on."""
    weight_decay: float = 1e-4
    sparsity: float = 1e-4
    """Weight of the sum of |γ| in the search's loss."""
    seeds: int = 3

    def __post_init__(self) -> None:
        require(
            1 <= self.batch <= self.images,
            f"a batch of 1 to images, {self.images}, got {self.batch}",
        )
        require(
            self.epochs >= self.drawing.window,
            f"epochs of at least window, {self.drawing.window}, got {self.epochs}",
        )
        require(self.ticket_epochs >= 1, f"ticket_epochs of at least 1, got {self.ticket_epochs}")
        require(self.lr > 0, f"lr above 0, got {self.lr}")
        require(self.seeds >= 1, f"seeds of at least 1, got {self.seeds}")

    @property
    def steps_per_epoch(self) -> int:
        """Batches; images that do not fill one are left out."""
        return self.images // self.batch

    def cost(self, search_epochs: int, channels: Masks) -> int:
        """Return multiply-adds of forward passes: a search with all channels, then the ticket."""
        alive = [channels.alive_of(name) for name in channels]
        searching = search_epochs * self.size.multiply_adds(self.size.widths)
        training = self.ticket_epochs * self.size.multiply_adds(alive)
        return self.steps_per_epoch * self.batch * (searching + training)


RECIPE = Recipe(
    claim="The channels worth keeping show early in training, and tickets drawn then are as good",
    paper=Paper(
        "You, Li, Xu, Fu, Wang, Chen, Baraniuk, Wang and Lin, Drawing Early-Bird Tickets: Toward "
        "More Efficient Training of Deep Networks, ICLR 2020",
        where="section 3, figures 1 and 2; digits here",
        url="https://arxiv.org/abs/1909.11957",
    ),
    metrics={
        "channels_early": Metric("channels: early-bird ticket, test accuracy", unit="%"),
        "channels_late": Metric("channels: drawn at the end", unit="%"),
        "channels_gap": Metric("channels: early above late", unit="points"),
        "channels_first": Metric("channels: drawn after one epoch", unit="%"),
        "channels_random": Metric("channels: by chance", unit="%"),
        "channels_gain": Metric("channels: early above chance", unit="points"),
        "channels_epoch": Metric("channels: drawn after epoch", digits=1),
        "channels_moved": Metric("channels: early and late mask differ in", unit="%", digits=1),
        "channels_moved_first": Metric("channels: first and late mask", unit="%", digits=1),
        "saved": Metric("multiply-adds saved, early instead of late", unit="%", digits=0),
        "weights_early": Metric("weights: early-bird ticket, test accuracy", unit="%"),
        "weights_late": Metric("weights: drawn at the end", unit="%"),
        "weights_gap": Metric("weights: early above late", unit="points"),
        "weights_first": Metric("weights: drawn after one epoch", unit="%"),
        "weights_random": Metric("weights: by chance", unit="%"),
        "weights_gain": Metric("weights: early above chance", unit="points"),
        "weights_epoch": Metric("weights: drawn after epoch", digits=1),
        "weights_moved": Metric("weights: early and late mask differ in", unit="%", digits=1),
        "weights_moved_first": Metric("weights: first and late mask", unit="%", digits=1),
        "dense": Metric("the whole network, test accuracy", unit="%"),
    },
    presets={
        "quick": Preset(
            Config(subset=True, images=5000, epochs=12, ticket_epochs=3, seeds=1),
            time="30 s",
            targets=[
                Target("channels_gap", ">=", -1.5),
                Target("weights_gap", ">=", -1),
                Target("weights_gain", ">=", 0),
                Target("saved", ">=", 20),
            ],
            reduced=["5,000 digits of 7 × 7 pixels", "144 channels", "12 epochs", "1 seed"],
        ),
        "cpu": Preset(
            Config(),
            time="6 min on one core",
            targets=[
                Target("channels_gap", ">=", -0.5),
                Target("weights_gap", ">=", -0.5),
                Target("weights_gain", ">=", 0.5),
                Target("saved", ">=", 20),
            ],
            reduced=["10,000 digits of 7 × 7 pixels", "144 channels", "24 epochs"],
        ),
    },
    headline=True,
)  # fmt: skip


def main(config: Config, run: Run) -> dict[str, float]:
    """Search, draw and train tickets, seed by seed."""
    torch.set_num_threads(1)
    splits = digits(subset=config.subset, validation=0, seed=run.seed, data_dir=run.data_dir)
    require(
        config.images <= len(splits.train),
        f"images of at most {len(splits.train)}, got {config.images}",
    )
    splits = dataclasses.replace(splits, train=splits.train.part(torch.arange(config.images)))
    found: list[dict[str, float]] = []
    for seed in range(config.seeds):
        with run.part(f"seed-{seed}"):
            values, search = _seed(config, run, splits, 1000 * run.seed + seed)
        found.append(values)
        if seed == 0:
            run.figure("mask-distances", draw_distances(search))
    run.figure("tickets", draw_tickets(found))
    means = {name: statistics.fmean(values[name] for values in found) for name in found[0]}
    arms = [f"{kind}_{arm}" for kind in ("channels", "weights") for arm in ARMS]
    each = {f"{arm}_{seed}": values[arm] for seed, values in enumerate(found) for arm in arms}
    return {**means, **each}


def _seed(config: Config, run: Run, splits: Splits, seed: int) -> tuple[dict[str, float], Search]:
    model = network(config.size)
    search = Search(config.drawing, model, config.epochs)
    _train(config, run, model, splits.train, seed, search=search)
    values = {"dense": run.once("dense", lambda: accuracy(model, splits.test))}
    for kind in search.watchers:
        masks = search.drawn(kind, seed)
        for arm in ARMS:
            with run.part(f"{kind}-{arm}"):
                start = search.start(kind, arm)
                values[f"{kind}_{arm}"] = _ticket(config, run, splits, start, masks[arm], seed)
        values |= {
            f"{kind}_gap": values[f"{kind}_early"] - values[f"{kind}_late"],
            f"{kind}_gain": values[f"{kind}_early"] - values[f"{kind}_random"],
            f"{kind}_epoch": search.drawn_at(kind),
            f"{kind}_moved": 100 * masks["early"].distance(masks["late"]),
            f"{kind}_moved_first": 100 * masks["first"].distance(masks["late"]),
        }
        if kind == "channels":
            early = config.cost(search.drawn_at(kind), masks["early"])
            late = config.cost(config.epochs, masks["late"])
            values["saved"] = 100 * (1 - early / late)
    return values, search


def _ticket(
    config: Config,
    run: Run,
    splits: Splits,
    start: Mapping[str, Tensor],
    masks: Masks,
    seed: int,
) -> float:
    model = network(config.size)
    model.load_state_dict(start)
    if set(masks) == set(batch_norm_scales(model)):
        masks = channel_weight_masks(model, masks, splits.train.take(torch.arange(2))[0])
    _train(config, run, model, splits.train, seed, masks=masks)
    return run.once("accuracy", lambda: accuracy(model, splits.test))


def _train(
    config: Config,
    run: Run,
    model: nn.Module,
    train: Labelled,
    seed: int,
    *,
    search: Search | None = None,
    masks: Masks | None = None,
) -> None:
    """Train in place: the whole network, which is searched, or a ticket."""
    epochs = config.epochs if masks is None else config.ticket_epochs
    total = epochs * config.steps_per_epoch
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=0.9, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [total // 2, 3 * total // 4])
    scales = [model.get_parameter(name) for name in batch_norm_scales(model)]
    order = Batches(torch.arange(len(train)), batch_size=config.batch, seed=seed)
    stateful = {"model": model, "optimizer": optimizer, "schedule": schedule}
    if search is not None:
        stateful["search"] = search
    guard = nullcontext() if masks is None else guard_masks(model, masks, optimizer)
    with guard:
        for step in run.steps(total, name="search" if search else "ticket", **stateful):
            model.train()
            images, labels = train.take(order.indices(step))
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            if search is not None:
                for scale in scales:
                    assert scale.grad is not None
                    scale.grad.add_(scale.detach().sign(), alpha=config.sparsity)
            optimizer.step()
            schedule.step()
            run.log(step, loss=loss.detach())
            epoch, rest = divmod(step + 1, config.steps_per_epoch)
            if search is not None and rest == 0:
                search.end_epoch(epoch)
