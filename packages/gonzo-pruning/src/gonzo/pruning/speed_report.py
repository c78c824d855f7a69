"""What `compile_sparse` found: layer by layer what runs now, why, how fast and how large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["LayerSpeed", "SpeedReport"]


@dataclass(frozen=True)
class LayerSpeed:
    """One layer before and after.

    Attributes:
        name: in the model.
        kind: "Linear" or "Conv2d" and so on.
        shape: of its weight, before.
        shape_after: without dead units.
        density: part of the weights, of those before, that are not zero.
        rows: that its matrix meets at the example: batch, times positions.
        form: what runs now; "dense" where that is as it was.
        why: in words.
        seconds_before: of the dense layer on its real input.
        seconds_after: of the form.
        bytes_before: of weights and biases.
        bytes_after: with the indices of a sparse form.
        tried: form -> times as fast as dense.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    shape_after: tuple[int, ...]
    density: float
    rows: int
    form: str
    why: str
    seconds_before: float
    seconds_after: float
    bytes_before: int
    bytes_after: int
    tried: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SpeedReport:
    """What was done to a model; ``print`` shows it as a table.

    Attributes:
        layers: every linear layer and convolution that ran, in the model's order.
        removed: layer -> how many dead units it lost.
        remarks: what else there is to know, such as why units could not be removed.
        verdict: what the result is, in one sentence.
        seconds_before: of the whole dense model on the example.
        seconds_after: of the result.
        bytes_before: of all parameters and buffers.
        bytes_after: the same of the result.
        machine: processor or GPU, threads and dtype.
    """

    layers: Sequence[LayerSpeed]
    removed: Mapping[str, int]
    remarks: Sequence[str]
    verdict: str
    seconds_before: float
    seconds_after: float
    bytes_before: int
    bytes_after: int
    machine: str

    @property
    def speedup(self) -> float:
        """How many times as fast the result is as the dense model."""
        return self.seconds_before / self.seconds_after

    @property
    def shrinkage(self) -> float:
        """How many times as few bytes the result stores."""
        return self.bytes_before / max(1, self.bytes_after)

    def __str__(self) -> str:
        """Return a table of the layers, the totals and the remarks."""
        head = ("layer", "weight", "alive", "latency", "stored", "what runs now")
        rows = [head]
        for layer in self.layers:
            shape = _shape(layer.shape)
            if layer.shape_after != layer.shape:
                shape += f" -> {_shape(layer.shape_after)}"
            rows.append(
                (
                    layer.name or "(the model)",
                    shape,
                    f"{layer.density:.1%}",
                    _change(_time(layer.seconds_before), _time(layer.seconds_after)),
                    _change(_size(layer.bytes_before), _size(layer.bytes_after)),
                    layer.why,
                )
            )
        total = (
            "whole model", "", "",
            _change(_time(self.seconds_before), _time(self.seconds_after)),
            _change(_size(self.bytes_before), _size(self.bytes_after)),
            f"{self.speedup:.2f} × as fast, {self.shrinkage:.2f} × smaller",
        )  # fmt: skip
        rows.append(total)
        widths = [max(len(row[i]) for row in rows) for i in range(len(head) - 1)]
        lines = ["  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows]
        rule = "─" * max(map(len, lines))
        lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        if self.removed:
            units = ", ".join(f"{count} of {name}" for name, count in self.removed.items())
            lines.append(f"Dead units removed: {units}.")
        measured = "Layers timed from cold caches, the whole warm, on"
        return "\n".join([*lines, *self.remarks, f"{self.verdict} {measured} {self.machine}."])


def _shape(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"


def _time(seconds: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def _size(count: int) -> str:
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B"
