"""How many tokens a second a language model generates, after contexts of growing length."""

from __future__ import annotations

import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gonzo.core.nn import LanguageModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure


@torch.inference_mode()
def tokens_per_second(model: LanguageModel, prompt: Tensor, *, tokens: int, repeats: int) -> float:
    """Return the median speed of greedy generation, batch 1, on one thread.

    The prompt is read by one `scan`, which is not timed. Then `tokens` steps are, again and again
    from the same state: in processor time on the CPU, so that other processes count little.

    Args:
        model: in any mode; it is put into evaluation mode.
        prompt: (time,) int64.
        tokens: steps of one measurement.
        repeats: measurements.
    """
    if prompt.device.type == "cpu":
        now = time.process_time
    else:
        now = partial(_synchronised, prompt.device)
    model.eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        logits, state = model.scan(prompt[None], model.init_state(1, device=prompt.device))
        token = logits[:, -1].argmax(-1)
        _generate(model, token, state, 4)  # kernels compile on their first call
        seconds = []
        for _ in range(repeats):
            began = now()
            _generate(model, token, state, tokens)
            seconds.append(now() - began)
    finally:
        torch.set_num_threads(threads)
    return tokens / median(seconds)


def _generate(model: LanguageModel, token: Tensor, state: object, tokens: int) -> None:
    for _ in range(tokens):
        logits, state = model.step(token, state)
        token = logits.argmax(-1)


def _synchronised(device: torch.device) -> float:
    torch.accelerator.synchronize(device)
    return time.perf_counter()


def draw(speeds: Mapping[str, Mapping[int, float]], colours: Mapping[str, str]) -> Figure:
    """Return curves of the speed over the length of the context, both logarithmic.

    Args:
        speeds: by model, then by length of context.
        colours: by model.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    figure = Figure(figsize=(5.5, 3.5))
    axes = figure.add_subplot()
    for name, curve in speeds.items():
        axes.plot(list(curve), list(curve.values()), "o-", color=colours[name], label=name)
    contexts = sorted({context for curve in speeds.values() for context in curve})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(contexts, [str(context) for context in contexts])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("characters before the first that is generated")
    axes.set_ylabel("characters per second")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
