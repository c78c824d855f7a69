"""Why a pruned network is not faster, and what makes it so: latency, size and accuracy.

Claim: zeros make a network neither faster nor smaller; what is left of the weights does, once it is
stored and multiplied in another form, chosen by measurement on the machine that runs it.

A network of three linear layers learns MNIST, and loses its smallest weights level by level, with
more training after each. At every level five ways to run it are timed in turn, in one process, by
CPU time, as factors against the network before anything was pruned:

    zeros         the pruned network as it is, which is all that masks do
    F.linear      its weights as torch's CSR tensors, handed to ``F.linear``
    csr @ x.T     the same weights in the form that torch multiplies best
    dead units    dense layers without the units that pruning left without inputs or outputs
    compiled      `gonzo.pruning.compile_sparse`

Accuracies are shown to say what the speed costs; each level has been trained for longer than the
one before it. The ticket, alive weights and masks as bits, is compared with the dense weights as a
file, and the compiled network with the dense one in memory.

What differs from the paper: MNIST instead of ImageNet; the last layer keeps its weights. Latencies
are those of this machine and of no paper.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.batches import Batches
from gonzo.lab.training import require
from gonzo.pruning.dead_units import remove_dead_units
from gonzo.pruning.form_timing import time_forms
from gonzo.pruning.layer_forms import TorchSparse
from gonzo.pruning.machine_name import machine_name
from gonzo.pruning.magnitude import Magnitude
from gonzo.pruning.mask_guard import guard_masks
from gonzo.pruning.masks import Masks
from gonzo.pruning.recipes.labelled_images import Labelled, digits
from gonzo.pruning.recipes.lenet import LeNet
from gonzo.pruning.selection import prune
from gonzo.pruning.sparse_compiler import compile_sparse
from gonzo.pruning.tickets import Ticket

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WAYS = {
    "zeros": "dense with zeros",
    "linear": "F.linear with CSR",
    "torch": "csr @ x.T",
    "units": "dead units removed",
    "compiled": "compile_sparse",
}
_COLOURS = ("0.6", "#c55a11", "#d9a441", "#2e8b57", "#1f4e79")
_BATCHES = (1, 64)
_PRUNED = ("hidden1.weight", "hidden2.weight")


@dataclass(frozen=True)
class Config:
    """The network, its training and what is measured."""

    hidden: tuple[int, int] = (1024, 1024)
    sparsities: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
    """Part of the weights of the hidden layers that is zero, level after level."""
    reported: float = 0.95
    steps: int = 3000
    """Of the training before anything is pruned."""
    level_steps: int = 1500
    """Of the training after each pruning."""
    batch: int = 60
    learning_rate: float = 1.2e-3
    """Of Adam."""
    subset: bool = False
    """Only the 12,000 images that ship with gonzo-lab."""
    seconds: float = 2.0
    """About how long each level and batch is timed."""

    def __post_init__(self) -> None:
        rising = list(self.sparsities) == sorted(set(self.sparsities))
        inside = all(0 < sparsity < 1 for sparsity in self.sparsities)
        require(
            rising and inside and bool(self.sparsities),
            f"sparsities between 0 and 1 that rise, got {self.sparsities}",
        )
        require(
            self.reported in self.sparsities,
            f"reported out of {self.sparsities}, got {self.reported}",
        )
        require(min(self.hidden) >= 1, f"hidden layers of at least 1 unit, got {self.hidden}")
        require(self.steps >= 0, f"steps of at least 0, got {self.steps}")
        require(self.level_steps >= 0, f"level_steps of at least 0, got {self.level_steps}")
        require(self.batch >= 1, f"batch of at least 1, got {self.batch}")
        require(self.learning_rate > 0, f"learning_rate above 0, got {self.learning_rate}")
        require(self.seconds > 0, f"seconds above 0, got {self.seconds}")


_TARGETS = [
    Target("zeros_64", "<=", 1.2),
    Target("linear_64", "<=", 1.5),
    Target("compiled_64", ">=", 3),
    Target("compiled_1", ">=", 2),
    Target("file", ">=", 8),
    Target("agreement", ">=", 99.9),
]

RECIPE = Recipe(
    claim="Zeros make nothing faster or smaller; another form of what is left does",
    paper=Paper(
        "Han, Pool, Tran and Dally, Learning both Weights and Connections for Efficient Neural "
        "Networks, NIPS 2015",
        where="section 3, prune and train on in turn; latencies are this machine's own",
        url="https://arxiv.org/abs/1506.02626",
    ),
    metrics={
        "zeros_64": Metric("batch 64, with zeros", unit="× dense"),
        "linear_64": Metric("batch 64, F.linear with CSR", unit="× dense"),
        "torch_64": Metric("batch 64, csr @ x.T", unit="× dense"),
        "compiled_64": Metric("batch 64, compile_sparse", unit="× dense"),
        "zeros_1": Metric("batch 1, with zeros", unit="× dense"),
        "linear_1": Metric("batch 1, F.linear with CSR", unit="× dense"),
        "torch_1": Metric("batch 1, csr matrix-vector", unit="× dense"),
        "compiled_1": Metric("batch 1, compile_sparse", unit="× dense"),
        "file": Metric("ticket, times smaller as a file", unit="×", digits=1),
        "memory": Metric("compiled for batch 64, times smaller in memory", unit="×", digits=1),
        "accuracy_dense": Metric("accuracy before pruning", unit="%"),
        "accuracy": Metric("accuracy when pruned", unit="%"),
        "agreement": Metric("same answers, compiled and pruned", unit="%"),
        "sparsest_64": Metric("batch 64, compile_sparse, sparsest level", unit="× dense"),
        "sparsest_1": Metric("batch 1, compile_sparse, sparsest level", unit="× dense"),
        "sparsest_accuracy": Metric("accuracy, sparsest level", unit="%"),
        "sparsest_units": Metric("hidden units removed, sparsest level", unit="%", digits=1),
    },
    presets={
        "quick": Preset(
            Config(
                sparsities=(0.5, 0.9, 0.95, 0.99),
                steps=400,
                level_steps=200,
                subset=True,
                seconds=0.8,
            ),
            time="40 s",
            targets=_TARGETS,
            reduced=["MNIST instead of ImageNet", "10,000 images", "1,200 steps in all"],
        ),
        "cpu": Preset(
            Config(),
            time="5 min on one core",
            targets=[*_TARGETS, Target("accuracy", ">=", 97.5)],
            reduced=["MNIST instead of ImageNet"],
        ),
    },
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Train and prune level by level, and time every way to run what is left."""
    torch.set_num_threads(1)
    data = digits(subset=config.subset, validation=0, seed=run.seed, data_dir=run.data_dir)
    with run.part("network"):
        model = LeNet(config.hidden)
    masks = Masks.full(model, _PRUNED)
    _train(config, run, model, masks, data.train, "dense", config.steps)
    dense = _copy(config, model)
    accuracies = [_accuracy(run, dense, data.test, "accuracy-dense")]
    images, _ = data.test.take(torch.arange(max(_BATCHES)))
    timed: dict[float, dict[str, float]] = {}
    left = Fraction(1)
    for sparsity in config.sparsities:
        wanted = 1 - Fraction(str(sparsity))
        masks = prune(Magnitude().scores(model, masks), masks, 1 - wanted / left)
        left = wanted
        _train(config, run, model, masks, data.train, f"{sparsity}", config.level_steps)
        pruned = _copy(config, model)
        accuracies.append(_accuracy(run, pruned, data.test, f"accuracy-{sparsity}"))
        timed[sparsity] = run.once(
            f"measured-{sparsity}",
            lambda pruned=pruned, masks=masks: _measure(
                config, dense, pruned, masks, images, data.test
            ),
        )
    machine = machine_name(torch.device("cpu"), torch.float32)
    run.figure("latency", _latencies(timed, machine))
    run.figure("accuracy-and-size", _accuracy_and_size(timed, accuracies))
    reported, sparsest = timed[config.reported], timed[config.sparsities[-1]]
    return {
        **reported,
        "accuracy_dense": accuracies[0],
        "accuracy": accuracies[1 + config.sparsities.index(config.reported)],
        "sparsest_64": sparsest["compiled_64"],
        "sparsest_1": sparsest["compiled_1"],
        "sparsest_accuracy": accuracies[-1],
        "sparsest_units": sparsest["units"],
    }


def _train(
    config: Config, run: Run, model: LeNet, masks: Masks, data: Labelled, name: str, steps: int
) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    rows = torch.arange(len(data))
    batches = Batches(rows, batch_size=config.batch, seed=run.seed)
    with guard_masks(model, masks, optimizer):
        for step in run.steps(steps, name=name, model=model, optimizer=optimizer):
            images, labels = data.take(*batches.at(step))
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log(step, loss=loss.detach())


def _copy(config: Config, model: LeNet) -> LeNet:
    # Of a state, so that no hook of the training stays behind.
    copied = LeNet(config.hidden)
    copied.load_state_dict(model.state_dict())
    return copied.requires_grad_(False).eval()


def _accuracy(run: Run, model: nn.Module, data: Labelled, name: str) -> float:
    def right() -> float:
        images, labels = data.take(torch.arange(len(data)))
        return 100 * float((model(images).argmax(1) == labels).double().mean())

    return run.once(name, right)


def _measure(
    config: Config, dense: LeNet, pruned: LeNet, masks: Masks, images: Tensor, test: Labelled
) -> dict[str, float]:
    """Return factors against `dense` in time, for each batch, and in bytes; and what is lost."""
    measured = {}
    every_image, _ = test.take(torch.arange(len(test)))
    for batch in _BATCHES:
        x = images[:batch]
        compiled = compile_sparse(pruned, x, seconds=config.seconds, verbose=False)
        smaller = remove_dead_units(pruned, (x,))
        ways = {
            "dense": dense,
            "zeros": pruned,
            "linear": _Linear(pruned),
            "torch": _with_torch_s_best(pruned),
            "units": smaller.model,
            "compiled": compiled,
        }
        for way, model in ways.items():
            if way != "dense":
                torch.testing.assert_close(model(x), pruned(x), rtol=1e-3, atol=1e-3)
        times = time_forms(
            {way: lambda model=model: model(x) for way, model in ways.items()},
            device=x.device,
            seconds=config.seconds,
            race=False,
        )
        measured |= {f"{way}_{batch}": times["dense"] / times[way] for way in _WAYS}
        measured[f"milliseconds_{batch}"] = 1000 * times["compiled"]
        measured["memory"] = compiled.report.shrinkage
        same = compiled(every_image).argmax(1) == pruned(every_image).argmax(1)
        measured["agreement"] = 100 * float(same.double().mean())
        measured["units"] = 100 * sum(smaller.removed.values()) / sum(config.hidden)
    measured["file"] = _file_size(dense) / _ticket_size(pruned, masks)
    return measured


class _Linear(nn.Module):
    """What one tries first: CSR weights in the place of dense ones."""

    def __init__(self, model: LeNet) -> None:
        super().__init__()
        layers = (model.hidden1, model.hidden2)
        self.hidden = [(TorchSparse(m.weight, m.bias).matrix(wide=True), m.bias) for m in layers]
        self.output = model.output

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        for weight, bias in self.hidden:
            x = F.linear(x, weight, bias).relu()
        return self.output(x)


def _with_torch_s_best(model: LeNet) -> nn.Module:
    hidden = [TorchSparse(layer.weight, layer.bias) for layer in (model.hidden1, model.hidden2)]
    return nn.Sequential(nn.Flatten(), hidden[0], nn.ReLU(), hidden[1], nn.ReLU(), model.output)


def _file_size(model: nn.Module) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(model.state_dict(), path)
        return path.stat().st_size


def _ticket_size(model: nn.Module, masks: Masks) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ticket.safetensors"
        Ticket(model.state_dict(), masks).save(path)
        return path.stat().st_size


def _latencies(timed: Mapping[float, Mapping[str, float]], machine: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4))
    panels = figure.subplots(1, len(_BATCHES), sharey=True)
    for axes, batch in zip(panels, _BATCHES, strict=True):
        for (way, label), colour in zip(_WAYS.items(), _COLOURS, strict=True):
            heights = [factors[f"{way}_{batch}"] for factors in timed.values()]
            axes.plot(range(len(timed)), heights, "o-", ms=4, color=colour, label=label)
        axes.axhline(1, color="0.3", lw=0.8, ls=":")
        axes.set_yscale("log")
        ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
        low, high = axes.get_ylim()
        shown = [tick for tick in ticks if low <= tick <= high]
        axes.set_yticks(shown, [f"{tick:g} ×" for tick in shown])
        axes.minorticks_off()
        axes.set_xticks(range(len(timed)), [f"{sparsity:.0%}" for sparsity in timed])
        axes.set(xlabel="weights that are zero", title=f"batch {batch}")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("times as fast as dense")
    panels[0].legend(fontsize="small")
    figure.suptitle(machine, fontsize="small")
    figure.tight_layout()
    return figure


def _accuracy_and_size(
    timed: Mapping[float, Mapping[str, float]], accuracies: Sequence[float]
) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.5))
    left, right = figure.subplots(1, 2)
    labels = ["0%", *(f"{sparsity:.0%}" for sparsity in timed)]
    left.plot(range(len(labels)), accuracies, "o-", ms=4, color=_COLOURS[-1])
    left.set_xticks(range(len(labels)), labels)
    left.set(xlabel="weights that are zero", ylabel="test accuracy, %")
    for name, label, colour in (
        ("file", "ticket as a file", _COLOURS[3]),
        ("memory", "compiled, in memory", _COLOURS[4]),
    ):
        heights = [factors[name] for factors in timed.values()]
        right.plot(range(len(timed)), heights, "o-", ms=4, color=colour, label=label)
    right.set_xticks(range(len(timed)), labels[1:])
    right.set(xlabel="weights that are zero", ylabel="times smaller than dense")
    right.legend(fontsize="small")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure
