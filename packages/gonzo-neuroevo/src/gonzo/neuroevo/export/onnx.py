"""A genome as an ONNX model, for onnxruntime and everything else that reads ONNX."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gonzo.core import require
from gonzo.core.ops.population_forward.functions import (
    BOUND,
    LEAK,
    LIMIT,
    SELU_ALPHA,
    SELU_SCALE,
    SMALLEST,
)

from ..genome import Genome
from ..phenotypes import KINDS
from .order import check_kind
from .plan import Group, Plan, plan
from .whole_file import write_whole

__all__ = ["OPSET", "to_onnx"]

OPSET = 18
IR_VERSION = 8
"""The oldest container that allows the opset, so that old runtimes read the file."""


def to_onnx(
    genome: Genome,
    path: str | os.PathLike[str],
    kind: str = "feed-forward",
    *,
    time_step: float = 0.1,
) -> Path:
    """Write the network as an ONNX model in float32.

    The input is ``x`` (batch, inputs) and the output ``y`` (batch, outputs), for any batch. A model
    of another kind is one tick; it also has the input ``state`` and the output ``next_state``
    (batch, N), zeros at rest.

    Args:
        genome: the network.
        path: of the file, written whole or not at all.
        kind: "feed-forward", "recurrent" or "ctrnn".
        time_step: seconds of a tick of a "ctrnn".

    Returns:
        The path.

    Raises:
        ValueError: no such kind, a feed-forward network of a genome with a cycle, or a number that
            float32 does not hold.
        FileNotFoundError: the folder does not exist.
        MissingExtraError: onnx is not installed.
    """
    check_kind(kind, KINDS, "to_onnx")
    if not 0 < time_step < float("inf"):
        raise ValueError(f"to_onnx: expected a time_step above 0, got {time_step}")
    planned = plan(genome, kind, "to_onnx")
    onnx = require("onnx", extra="gonzo-neuroevo[onnx]")
    graph = _Graph(onnx)
    if kind == "feed-forward":
        _feed_forward(graph, planned)
    else:
        _tick(graph, planned, time_step if kind == "ctrnn" else None)
    width = {"x": genome.inputs, "y": genome.outputs}
    width |= dict.fromkeys(("state", "next_state"), len(planned.nodes))
    state = [] if kind == "feed-forward" else ["state"]
    model = graph.model(
        ["x", *state], ["y", *(f"next_{name}" for name in state)], width, f"{kind} network"
    )
    onnx.checker.check_model(model, full_check=True)
    return write_whole(path, model.SerializeToString())


def _feed_forward(graph: _Graph, planned: Plan) -> None:
    row = graph.op("Concat", graph.zeros_like_rows("x"), "x", axis=1)
    for layer in planned.layers:
        parts = [_group(graph, row, group, planned) for group in layer]
        row = graph.op("Concat", row, *parts, axis=1)
    places = np.array(planned.outputs, np.int64) + 1 + planned.inputs
    graph.op("Gather", row, graph.constant(places), axis=1, name="y")


def _tick(graph: _Graph, planned: Plan, time_step: float | None) -> None:
    row = graph.op("Concat", graph.zeros_like_rows("x"), "x", "state", axis=1)
    parts = [_group(graph, row, group, planned) for group in planned.layers[0]]
    value = graph.op("Concat", *parts, axis=1)
    if time_step is None:
        graph.op("Identity", value, name="next_state")
    else:
        rate = graph.numbers([time_step / node.time_constant for node in planned.nodes])
        change = graph.op("Mul", graph.op("Sub", value, "state"), rate)
        graph.op("Add", "state", change, name="next_state")
    places = graph.constant(np.array(planned.outputs, np.int64))
    graph.op("Gather", "next_state", places, axis=1, name="y")


def _group(graph: _Graph, row: str, group: Group, planned: Plan) -> str:
    """Values (batch, n) of the nodes of a group."""
    nodes = planned.nodes[group.start : group.stop]
    size = len(nodes), len(group.sources[0])
    bias = graph.numbers([node.bias for node in nodes])
    response = graph.numbers([node.response for node in nodes])
    if size[1]:
        sources = graph.constant(np.array(group.sources, np.int64))
        weights = [[planned.connections[i].weight for i in row] for row in group.connections]
        read = graph.op("Gather", row, sources, axis=1)  # (batch, n, K)
        terms = graph.op("Mul", read, graph.numbers(weights))
        scaled = graph.op("Mul", _aggregate(graph, group.aggregation, terms, size[1]), response)
        unknown = graph.op("IsNaN", scaled)
        scaled = graph.op("Where", unknown, graph.number(0.0), scaled)
    else:
        nothing = response if group.aggregation == "product" else graph.numbers([0.0] * len(nodes))
        zeros = graph.zeros_like_rows("x")
        scaled = graph.op("Add", zeros, nothing)
    z = graph.clip(graph.op("Add", scaled, bias), -BOUND, BOUND)
    return graph.clip(_activate(graph, group.activation, z), -BOUND, BOUND)


def _aggregate(graph: _Graph, name: str, terms: str, count: int) -> str:
    last = graph.constant(np.array([2], np.int64))
    if name == "maxabs":
        place = graph.op("ArgMax", graph.op("Abs", terms), axis=2, keepdims=1)
        return graph.op("Squeeze", graph.op("GatherElements", terms, place, axis=2), last)
    if name == "median":
        every = graph.constant(np.array([count], np.int64))
        ordered, _ = graph.ops("TopK", 2, terms, every, axis=2, largest=0, sorted=1)
        middle = graph.constant(np.array(sorted({(count - 1) // 2, count // 2}), np.int64))
        return graph.op("ReduceMean", graph.op("Gather", ordered, middle, axis=2), last, keepdims=0)
    reduce = {
        "sum": "ReduceSum",
        "product": "ReduceProd",
        "max": "ReduceMax",
        "min": "ReduceMin",
        "mean": "ReduceMean",
    }[name]
    return graph.op(reduce, terms, last, keepdims=0)


_SLOPES = {
    "neat_sigmoid": ("sigmoid", 4.9),
    "steep_sigmoid": ("sigmoid", 5.0),
    "steep_tanh": ("tanh", 2.5),
    "steep_sin": ("sin", 5.0),
}
_SINGLE = {"sigmoid": "Sigmoid", "tanh": "Tanh", "sin": "Sin", "exp": "Exp"}


def _activate(graph: _Graph, name: str, z: str) -> str:
    op, number = graph.op, graph.number
    name, slope = _SLOPES.get(name, (name, 1.0))
    if name in _SINGLE:
        z = z if slope == 1.0 else op("Mul", z, number(slope))
        return op(_SINGLE[name], graph.clip(z, -LIMIT, LIMIT))
    match name:
        case "identity":
            return z
        case "relu":
            return op("Relu", z)
        case "abs":
            return op("Abs", z)
        case "clamped":
            return graph.clip(z, -1.0, 1.0)
        case "square":
            return op("Mul", z, z)
        case "cube":
            return op("Mul", op("Mul", z, z), z)
        case "gauss":
            return op("Exp", op("Neg", op("Mul", z, z)))
        case "steep_gauss":
            return op("Exp", op("Mul", op("Mul", z, z), number(-5.0)))
        case "softplus":
            return op("Softplus", graph.clip(z, -LIMIT, LIMIT))
        case "steep_softplus":
            steep = graph.clip(op("Mul", z, number(5.0)), -LIMIT, LIMIT)
            return op("Mul", op("Softplus", steep), number(0.2))
        case "log":
            return op("Log", op("Max", z, number(SMALLEST)))
        case "hat":
            return op("Relu", op("Sub", number(1.0), op("Abs", z)))
        case "inv":
            zero = op("Equal", z, number(0.0))
            safe = op("Where", zero, number(1.0), z)
            return op("Where", zero, number(0.0), op("Reciprocal", safe))
        case "elu":
            return op("Elu", z, alpha=1.0)
        case "lelu":
            return op("LeakyRelu", z, alpha=LEAK)
        case "selu":
            return op("Selu", z, alpha=SELU_ALPHA, gamma=SELU_SCALE)
    raise AssertionError(f"no ONNX for the activation {name}")


class _Graph:
    """Collects the operators and constants of one model."""

    def __init__(self, onnx: ModuleType) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[tuple, Any] = {}

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add an operator with one output, and return the output's name."""
        output = name or f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add an operator with several outputs."""
        outputs = [f"v{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def constant(self, array: np.ndarray) -> str:
        """Add an array once, and return its name."""
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self.constants:
            name = f"c{len(self.constants)}"
            self.constants[key] = self.onnx.numpy_helper.from_array(array, name)
        return self.constants[key].name

    def numbers(self, values: Any) -> str:
        """Add float32 numbers."""
        with np.errstate(over="ignore"):
            array = np.array(values, np.float32)
        if not np.isfinite(array).all():
            raise ValueError(
                f"to_onnx: float32 holds numbers up to 3.4e38, the genome has "
                f"{np.abs(np.array(values)).max():.3g}"
            )
        return self.constant(array)

    def number(self, value: float) -> str:
        """Add one float32 number."""
        return self.constant(np.array(value, np.float32))

    def clip(self, z: str, low: float, high: float) -> str:
        """Add bounds."""
        return self.op("Clip", z, self.number(low), self.number(high))

    def zeros_like_rows(self, name: str) -> str:
        """Add a column (batch, 1) of zeros, as many as ``name`` has rows."""
        first = self.constant(np.array([0], np.int64))
        one = self.constant(np.array([1], np.int64))
        rows = self.op("Gather", self.op("Shape", name), first, axis=0)
        return self.op("Expand", self.number(0.0), self.op("Concat", rows, one, axis=0))

    def model(self, inputs: list[str], outputs: list[str], width: dict[str, int], name: str) -> Any:
        """Return the finished model."""
        helper, kinds = self.onnx.helper, self.onnx.TensorProto

        def value(name: str) -> Any:
            return helper.make_tensor_value_info(name, kinds.FLOAT, ["batch", width[name]])

        graph = helper.make_graph(
            self.nodes,
            name,
            [value(name) for name in inputs],
            [value(name) for name in outputs],
            list(self.constants.values()),
        )
        return helper.make_model(
            graph,
            producer_name="gonzo-neuroevo",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
