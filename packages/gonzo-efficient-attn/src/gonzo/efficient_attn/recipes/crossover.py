"""From which length on linear attention is faster than softmax attention.

Claim: linear attention costs time in proportion to the length and softmax attention in proportion
to its square, so that each feature map wins from some length on; the fewer features, the earlier.

The peer is torch's exact causal attention, `scaled_dot_product_attention`, with 64 numbers in a
query, key and value of a head. The maps are timed with their projections and features, as a layer
has them between its query and its output: values have 64 numbers, queries and keys 64, or 16 for
the two maps whose features grow with the square. Forward pass, batch 1, one thread, processor time,
in turn.

The crossing is where the two curves of log time over log length meet, drawn straight between the
lengths that were measured; where a map wins at every length, it is the shortest of them, and where
it wins at none, infinite.

What is reduced: the papers measure on GPUs, at training sizes.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gonzo.core.bench.timing import time_in_turn
from gonzo.core.ops.linear_attention import linear_attention
from gonzo.efficient_attn.feature_maps import FeatureMap
from gonzo.efficient_attn.linear_attention import FeatureMapKind, make_feature_map
from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAPS: dict[FeatureMapKind, str] = {
    "elu": "elu + 1",
    "taylor": "Based",
    "rebased": "ReBased",
    "hedgehog": "Hedgehog",
    "performer": "Performer",
}
"""The maps in words."""

_SOFTMAX = "softmax"
_D_VALUE = 64


@dataclass(frozen=True)
class Config:
    """What is timed."""

    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
    n_head: int = 8
    budget: float = 0.5
    """Seconds for each map at each length, beyond nine calls at least."""

    def __post_init__(self) -> None:
        require(
            list(self.lengths) == sorted(set(self.lengths)) and min(self.lengths, default=0) >= 1,
            f"lengths of at least 1 that grow, got {self.lengths}",
        )
        require(self.n_head >= 1, f"n_head of at least 1, got {self.n_head}")
        require(self.budget > 0, f"a budget above 0, got {self.budget}")


RECIPE = Recipe(
    claim="Every feature map is faster than softmax attention from some length on",
    paper=Paper(
        "Katharopoulos, Vyas, Pappas and Fleuret, Transformers are RNNs: Fast Autoregressive "
        "Transformers with Linear Attention, ICML 2020",
        where="its figure of time over length, on a GPU; no number for a CPU",
        url="https://arxiv.org/abs/2006.16236",
    ),
    metrics={
        **{
            f"{kind}_crossing": Metric(f"steps from which {name} is faster", digits=0)
            for kind, name in MAPS.items()
        },
        "speedup": Metric("softmax's time over Based's at the longest", unit="×", digits=1),
    },
    presets={
        "quick": Preset(
            Config(lengths=(256, 512, 1024, 2048, 4096), budget=0.2),
            time="20 s",
            targets=[Target("taylor_crossing", "<=", 1024), Target("speedup", ">=", 3)],
            reduced=["a CPU, 8 heads of 64", "up to 4096 steps"],
        ),
        "cpu": Preset(
            Config(),
            time="5 min on an idle core",
            targets=[
                *(Target(f"{kind}_crossing", "<=", 2048) for kind in ("elu", "rebased")),
                *(Target(f"{kind}_crossing", "<=", 2048) for kind in ("taylor", "hedgehog")),
                Target("performer_crossing", "<=", 8192),
                Target("speedup", ">=", 20),
            ],
            reduced=["a CPU, 8 heads of 64", "up to 32768 steps"],
        ),
    },
    headline=False,
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Time all maps and softmax at each length."""
    seconds: dict[int, dict[str, float]] = {}
    for length in config.lengths:
        with run.part(f"length{length}"):
            seconds[length] = run.once("seconds", lambda: times(config, length, run.device))
    run.figure("crossover", _figure(seconds))
    last = seconds[config.lengths[-1]]
    return {
        **{f"{kind}_crossing": crossing(seconds, kind) for kind in MAPS},
        "speedup": last[_SOFTMAX] / last["taylor"],
        **{
            f"{name}_seconds_{length}": value
            for length, of in seconds.items()
            for name, value in of.items()
        },
    }


@torch.no_grad()
def times(config: Config, length: int, device: torch.device) -> dict[str, float]:
    """Return the median seconds of a forward pass of softmax and of each map."""
    torch.manual_seed(0)

    def heads(d: int) -> Tensor:
        return torch.randn(1, config.n_head, length, d, device=device)

    q, k, v = (heads(_D_VALUE) for _ in range(3))
    softmax = functools.partial(scaled_dot_product_attention, q, k, v, is_causal=True)
    calls: list[Callable[[], object]] = [softmax]
    for kind in MAPS:
        d_key = 16 if kind in ("taylor", "rebased") else _D_VALUE
        feature_map = make_feature_map(kind, config.n_head, d_key, device)
        calls.append(functools.partial(attend, feature_map, heads(d_key), heads(d_key), v))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if device.type == "cuda":
            measure = functools.partial(
                time_in_turn, clock=time.perf_counter, synchronize=torch.cuda.synchronize
            )
        else:
            measure = time_in_turn
        medians = measure(calls, [()], budget=config.budget)
    finally:
        torch.set_num_threads(threads)
    return dict(zip((_SOFTMAX, *MAPS), medians, strict=True))


def attend(feature_map: FeatureMap, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return linear attention with a map, (1, n_head, time, d_value)."""
    q, k = feature_map(q, k)
    return linear_attention(q, k, v, feature_map=feature_map.fused, eps=feature_map.eps)[0]


def crossing(seconds: Mapping[int, Mapping[str, float]], kind: str) -> float:
    """Return the length from which a map is faster, at it and at all longer ones."""
    gaps = {n: math.log(of[kind] / of[_SOFTMAX]) for n, of in seconds.items()}
    lengths = list(gaps)
    if gaps[lengths[-1]] > 0:
        return math.inf
    for shorter, longer in reversed(list(itertools.pairwise(lengths))):
        above, below = gaps[shorter], gaps[longer]
        if above > 0:
            share = above / (above - below)
            return math.exp(math.log(shorter) + share * math.log(longer / shorter))
    return float(lengths[0])


def _figure(seconds: Mapping[int, Mapping[str, float]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    lengths = list(seconds)
    for kind, name in ({_SOFTMAX: _SOFTMAX} | MAPS).items():
        values = [1000 * of[kind] for of in seconds.values()]
        axes.plot(lengths, values, "ko--" if kind == _SOFTMAX else "o-", markersize=4, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, [str(length) for length in lengths], rotation=45)
    axes.set_xlabel("time steps")
    axes.set_ylabel("forward pass (ms)")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
