"""Which weights go: exactness against a float64 sort, 100 million weights globally, and memory."""

import statistics
import time
from fractions import Fraction

import torch
from peers import selection as peers
from torch import nn
from torch.nn.utils import prune as torch_prune

from gonzo.core.bench import TimeRow, ValueRow, at_most, faster_than_peer, main, peak_memory
from gonzo.pruning.masks import Masks
from gonzo.pruning.selection import prune_by_magnitude

TESTS = ["tests/test_selection.py", "tests/test_selection_peers.py"]
MANY, LAYERS, RATE = 100_000_000, 8, 0.2
KTH = "torch.kthvalue of the concatenation, ties not counted"


def normal(total=MANY, layers=LAYERS):
    generator = torch.Generator().manual_seed(0)
    return {f"{i}": torch.randn(total // layers, generator=generator) for i in range(layers)}


def fresh():
    weights = normal()
    return weights, Masks({n: torch.ones(w.shape, dtype=torch.bool) for n, w in weights.items()})


def half_pruned():
    weights = normal()
    generator = torch.Generator().manual_seed(1)
    return weights, Masks(
        {n: torch.rand(len(w), generator=generator) < 0.5 for n, w in weights.items()}
    )


def ours(weights, masks):
    return prune_by_magnitude(weights, masks, RATE, scope="global")


def kth(weights, masks):
    return peers.kth_value(weights, masks, RATE)


def equal_first(weights, masks):
    """The arguments, once ours and kthvalue's differ in nothing but weights equal to the pivot."""
    found, theirs = ours(weights, masks), kth(weights, masks)
    assert found.alive == masks.alive - masks.alive // 5
    differing = [weights[name][found[name] ^ theirs[name]].abs() for name in masks]
    assert len(torch.cat(differing).unique()) <= 1
    return weights, masks


# Exactness


def rounds(select, scope):
    """How many weights, over three rounds of 20 %, are not as the sort in float64 has them."""
    weights = {name: (w * 1000).round() / 1000 for name, w in normal(4_000_000, 4).items()}
    masks = Masks({name: torch.ones(w.shape, dtype=torch.bool) for name, w in weights.items()})
    wrong = 0
    for _ in range(3):
        names = [[name] for name in weights] if scope == "layer" else [list(weights)]
        judged = {}
        for group in names:
            judged |= stable_sort({name: weights[name] for name in group}, masks)
        found = select(weights, masks, scope)
        wrong += sum(int((found[name] ^ judged[name]).sum()) for name in masks)
        masks = Masks(judged)
    return wrong


def stable_sort(weights, masks):
    """The rule as it is said: sort all alive weights in float64, and the first floor(n / 5) go."""
    alive = torch.cat([masks[name] for name in weights])
    places = alive.nonzero().flatten()
    order = torch.cat([w.double().abs() for w in weights.values()])[places].sort(stable=True)
    alive[places[order.indices[: int(Fraction(1, 5) * len(places))]]] = False
    return dict(zip(weights, alive.split([len(w) for w in weights.values()]), strict=True))


def exact_row(scope):
    def theirs(weights, masks, scope):
        groups = [[name] for name in weights] if scope == "layer" else [list(weights)]
        found = {}
        for group in groups:
            found |= peers.lottery_ticket_hypothesis({n: weights[n] for n in group}, masks, RATE)
        return found

    return ValueRow(
        what=f"4 M weights, {scope}, 3 rounds of 20 %: differing from a float64 stable sort",
        ours=lambda: rounds(lambda w, m, s: prune_by_magnitude(w, m, RATE, scope=s), scope),
        peer=lambda: rounds(theirs, scope),
        peer_name="the rule of google-research/lottery-ticket-hypothesis, restated",
        bar=at_most(0),
        tests=TESTS,
    )


# Time


def time_row(what, setup):
    return TimeRow(
        what=f"100 M weights of 8 layers, global, 20 %, {what}",
        setup=lambda: equal_first(*setup()),
        ours=ours,
        peer=kth,
        peer_name=KTH,
        bar=at_most(1),
        tests=TESTS,
    )


def seconds(call, runs):
    """Median CPU seconds."""
    times = []
    for _ in range(runs):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return statistics.median(times)


def torch_global():
    """CPU seconds of torch.nn.utils.prune on the same weights, in one run."""
    layers = []
    for weight in normal().values():
        layer = nn.Module()
        layer.weight = nn.Parameter(weight)
        layers.append((layer, "weight"))
    began = time.process_time()
    torch_prune.global_unstructured(layers, torch_prune.L1Unstructured, amount=RATE)
    return time.process_time() - began


def lenet():
    generator = torch.Generator().manual_seed(0)
    shapes = {"fc1": (300, 784), "fc2": (100, 300), "output": (10, 100)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return weights, Masks({n: torch.ones(w.shape, dtype=torch.bool) for n, w in weights.items()})


# Memory


def times_the_weights(call):
    """Weights, masks and all that the call allocates, over the bytes of the weights."""
    return (4 * MANY + MANY + peak_memory(call, setup=fresh)) / (4 * MANY)


ROWS = [
    exact_row("layer"),
    exact_row("global"),
    time_row("everything alive", fresh),
    time_row("half of them pruned", half_pruned),
    ValueRow(
        what="100 M weights of 8 layers, global, 20 %, everything alive, one run",
        unit="s",
        setup=fresh,
        ours=lambda weights, masks: seconds(lambda: ours(weights, masks), 3),
        peer=lambda weights, masks: torch_global(),
        peer_name=f"torch.nn.utils.prune.global_unstructured, torch {torch.__version__}",
        bar=faster_than_peer(3),
        tests=TESTS,
    ),
    TimeRow(
        what="LeNet-300-100, layer by layer, 20 %",
        setup=lenet,
        ours=lambda weights, masks: prune_by_magnitude(weights, masks, RATE),
        peer=lambda weights, masks: [
            peers.kth_value({name: weights[name]}, masks, RATE) for name in weights
        ],
        peer_name="torch.kthvalue of each layer, ties not counted",
        tests=TESTS,
    ),
    ValueRow(
        what="100 M weights, global: weights, masks and peak of the call, over the weights' bytes",
        unit="×",
        ours=lambda: times_the_weights(ours),
        peer=lambda: times_the_weights(kth),
        peer_name=KTH,
        bar=at_most(2),
        tests=TESTS,
    ),
]

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-pruning", script=__file__))
