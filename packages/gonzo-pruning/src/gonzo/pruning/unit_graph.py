"""Which units of which layer reach which columns of which other layers, read off a traced graph.

A unit is an output feature of a linear layer or an output channel of a convolution. What a graph
does to units is followed from the layer that makes them to the layers that read them:

    elementwise functions, dropout      each unit for itself; a constant stays one
    batch norm with its own statistics  the same, affine; it is cut together with the layer
    pooling, means over positions       the same; a padded average keeps only the constant 0
    flatten, ``view(n, -1)``            each unit becomes a run of columns
    everything else                     not followed: the units of that layer are left alone
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from .unit_steps import (
    NORMS,
    Step,
    after_flatten,
    after_mean,
    flattens,
    normalise,
    pointwise,
    pooling,
    same,
    shape_of,
)

__all__ = ["Reader", "UnitGraph", "Units", "has_hooks", "positions"]

_POINTWISE_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardsigmoid,
    nn.Hardswish, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
_POINTWISE_FUNCTIONS = frozenset({
    F.relu, F.relu6, F.leaky_relu, F.elu, F.celu, F.selu, F.gelu, F.silu, F.mish, F.sigmoid,
    F.logsigmoid, F.tanh, F.softplus, F.softsign, F.hardtanh, F.hardsigmoid, F.hardswish,
    F.hardshrink, F.softshrink, F.tanhshrink, F.threshold,
    torch.relu, torch.sigmoid, torch.tanh, torch.abs, torch.selu,
})  # fmt: skip
_POINTWISE_METHODS = frozenset({"relu", "sigmoid", "tanh", "abs"})
_IN_PLACE = frozenset({torch.relu_, torch.sigmoid_, torch.tanh_, F.relu_})
_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_DROPOUTS = frozenset({F.dropout, F.dropout1d, F.dropout2d, F.dropout3d})
_CONVOLUTIONS = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
_POOLS: dict[Any, int] = {
    nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3,
    nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3,
    nn.AdaptiveAvgPool1d: 1, nn.AdaptiveAvgPool2d: 2, nn.AdaptiveAvgPool3d: 3,
    nn.AdaptiveMaxPool1d: 1, nn.AdaptiveMaxPool2d: 2, nn.AdaptiveMaxPool3d: 3,
}  # fmt: skip
_POOL_FUNCTIONS: dict[Any, int] = {
    F.max_pool1d: 1, F.max_pool2d: 2, F.max_pool3d: 3,
    F.adaptive_avg_pool1d: 1, F.adaptive_avg_pool2d: 2, F.adaptive_avg_pool3d: 3,
    F.adaptive_max_pool1d: 1, F.adaptive_max_pool2d: 2, F.adaptive_max_pool3d: 3,
}  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A layer that reads units.

    Attributes:
        name: of the layer.
        repeat: columns that each unit has in it, side by side.
        steps: what a constant goes through on the way.
        pads: whether the layer adds zeros around its input, where a constant other than 0 ends.
    """

    name: str
    repeat: int
    steps: tuple[Step, ...]
    pads: bool

    def constants(self, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return what units that are `bias` everywhere are here, and which of them stay constant.

        Args:
            bias: (n,).

        Returns:
            Constants (n,) and bool (n,).
        """
        known = torch.ones_like(bias, dtype=torch.bool)
        for step in self.steps:
            bias, known = step(bias, known)
        return bias, known & bias.isfinite() & ((bias == 0) | (not self.pads))


@dataclass
class Units:
    """The units of one layer and who reads them.

    Attributes:
        name: of the layer that makes them.
        size: how many.
        readers: every layer that reads them.
        norms: batch norms on the way, by name.
        obstacle: why none of them may be removed; empty when they may.
    """

    name: str
    size: int
    readers: list[Reader] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    obstacle: str = ""


class UnitGraph:
    """The units of a model, found by tracing it and running it once.

    Args:
        model: in eval mode.
        example: its arguments.

    Raises:
        Exception: whatever tracing raises on a model whose Python depends on its input.
    """

    def __init__(self, model: nn.Module, example: tuple[Any, ...]) -> None:
        self._modules = dict(model.named_modules(remove_duplicate=False))
        graph = fx.symbolic_trace(model, _left_out(model, example))
        _Shapes(graph).run(*example)
        self._off_limits = dict(_off_limits(model, graph))
        self.units = [
            self._collect(node)
            for node in graph.graph.nodes
            if node.op == "call_module" and positions(self._modules[str(node.target)]) is not None
        ]

    def _collect(self, node: fx.Node) -> Units:
        name = str(node.target)
        layer = self._modules[name]
        units = Units(name, _rows(layer))
        axis = -1 - (positions(layer) or 0)
        if name in self._off_limits:
            units.obstacle = self._off_limits[name]
        elif getattr(layer, "groups", 1) != 1:
            units.obstacle = "it is a convolution in groups"
        else:
            self._follow(units, node, _Place(axis, 1, forked=False), ())
        return units

    def _follow(self, units: Units, node: fx.Node, place: _Place, steps: tuple[Step, ...]) -> None:
        """Walk to all readers of `node`."""
        users = [user for user in node.users if not _reads_batch_size(user)]
        place = place._replace(forked=place.forked or len(users) > 1)
        for user in users:
            met = self._meet(units, node, user, place)
            if met is None:
                units.obstacle = units.obstacle or f"it reaches {_describe(user, self._modules)}"
            elif isinstance(met, str):
                pads = _adds_zeros(self._modules[met])
                units.readers.append(Reader(met, place.repeat, steps, pads))
            else:
                step, axis, repeat = met
                after = place._replace(axis=axis, repeat=repeat)
                self._follow(units, user, after, (*steps, step))

    def _meet(
        self, units: Units, node: fx.Node, user: fx.Node, place: _Place
    ) -> str | tuple[Step, int, int] | None:
        """Return a reader's name, or a step with the axis and repeat after it, or None: unknown."""
        axis, repeat, forked = place
        if not user.args or user.args[0] is not node or list(user.all_input_nodes).count(node) != 1:
            return None
        if user.op == "call_module":
            return self._meet_module(units, node, user, place)
        if forked and _writes_over(user):
            return None
        if flattens(user, node):
            return after_flatten(user, node, axis, repeat)
        target: Any = user.target
        if target in _POINTWISE_FUNCTIONS | _IN_PLACE or target in _POINTWISE_METHODS:
            return pointwise(user), axis, repeat
        if target in _DROPOUTS:
            off = user.kwargs.get("training", user.args[2] if len(user.args) > 2 else True) is False
            return (same, axis, repeat) if off else None
        if target in _POOL_FUNCTIONS:
            plain = not user.kwargs.get("return_indices") and user.kwargs.get("dilation", 1) == 1
            fits = axis == -1 - _POOL_FUNCTIONS[target] and repeat == 1 and len(user.args) <= 4
            return (same, axis, repeat) if plain and fits else None
        if target in (torch.mean, "mean"):
            return after_mean(user, node, axis, repeat)
        return None

    def _meet_module(
        self, units: Units, node: fx.Node, user: fx.Node, place: _Place
    ) -> str | tuple[Step, int, int] | None:
        axis, repeat, forked = place
        name = str(user.target)
        module = self._modules[name]
        kind = type(module)
        if name in self._off_limits or len(user.all_input_nodes) != 1:
            return None
        if isinstance(module, nn.Linear) and positions(module) is not None:
            fits = axis == -1 and module.in_features == units.size * repeat
            return name if fits else None
        if kind in _CONVOLUTIONS:
            fits = axis == -1 - _CONVOLUTIONS[kind] and repeat == 1 and module.groups == 1
            return name if fits else None
        if kind in _IDENTITIES:
            return same, axis, repeat
        if kind in _POINTWISE_MODULES:
            written = forked and getattr(module, "inplace", False)
            return None if written else (pointwise(user, module), axis, repeat)
        if kind in NORMS:
            own = module.running_mean is not None and module.running_var is not None
            if not own or repeat != 1 or axis != 1 - len(shape_of(node)):
                return None
            units.norms.append(name)
            return functools.partial(normalise, module), axis, repeat
        if kind in _POOLS:
            plain = not getattr(module, "return_indices", False)
            plain = plain and getattr(module, "dilation", 1) in (1, (1,), (1, 1), (1, 1, 1))
            if axis != -1 - _POOLS[kind] or repeat != 1 or not plain:
                return None
            return pooling(module), axis, repeat
        if kind is nn.Flatten:
            return after_flatten(user, node, axis, repeat, module)
        return None


class _Place(NamedTuple):
    """Where units are in a tensor.

    Attributes:
        axis: along which they lie, counted from the end.
        repeat: numbers that each has there, side by side.
        forked: whether something else may see the memory: what writes over it is not followed.
    """

    axis: int
    repeat: int
    forked: bool


class _Shapes(fx.Interpreter):
    """Notes the shape of every tensor."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            n.meta["shape"] = value.shape
        return value


def _left_out(model: nn.Module, example: tuple[Any, ...]) -> dict[str, Any]:
    """Arguments that the example leaves at their defaults: tracing would take them for tensors."""
    signature = inspect.signature(model.forward)
    given = signature.bind(*example).arguments
    return {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if name not in given and parameter.default is not parameter.empty
    }


def positions(layer: nn.Module) -> int | None:
    """Return the dimensions behind a layer's channels, 0 for a linear one; None for no such layer.

    Subclasses may compute anything, so that only the classes themselves count.
    """
    return 0 if type(layer) is nn.Linear else _CONVOLUTIONS.get(type(layer))


def has_hooks(module: nn.Module) -> bool:
    """Whether calling a module runs more than its `forward`."""
    names = ("_forward_hooks", "_forward_pre_hooks")
    return any(getattr(module, name) for name in names) or "forward" in vars(module)


def _rows(layer: nn.Module) -> int:
    assert isinstance(layer.weight, Tensor)
    return layer.weight.shape[0]


def _off_limits(model: nn.Module, graph: fx.GraphModule) -> Iterator[tuple[str, str]]:
    """Yield names of modules that must stay as they are, with the reason."""
    owned = model.named_parameters(remove_duplicate=False)
    names = dict(owned) | dict(model.named_buffers(remove_duplicate=False))
    shared = Counter(id(tensor) for tensor in names.values())
    modules = dict(model.named_modules(remove_duplicate=False))
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for name, tensor in names.items():
        owner = name.rpartition(".")[0]
        if shared[id(tensor)] > 1:
            yield owner, "its weights are shared"
        elif name in read:
            yield owner, "its weights are read elsewhere, too"
    called = Counter(
        id(modules[str(node.target)]) for node in graph.graph.nodes if node.op == "call_module"
    )
    for name, module in modules.items():
        has_state = any(True for _ in module.parameters(recurse=False))
        if has_state and called[id(module)] > 1:
            yield name, "it is called more than once"
        if has_hooks(module):
            yield name, "it has hooks"


def _describe(user: fx.Node, modules: dict[str, nn.Module]) -> str:
    if user.op == "output":
        return "the output"
    if user.op == "call_module":
        return f"{user.target} ({type(modules[str(user.target)]).__name__})"
    return str(getattr(user.target, "__name__", user.target))


def _reads_batch_size(user: fx.Node) -> bool:
    """Whether only the first dimension of a tensor's shape is asked for, as in ``x.size(0)``."""
    if user.op == "call_method" and user.target == "size":
        if user.args[1:] == (0,):
            return True
        asks_all = len(user.args) == 1 and not user.kwargs
    else:
        asks_all = user.op == "call_function" and user.args[1:] == ("shape",)
        asks_all = asks_all and user.target is getattr
    return asks_all and all(
        getattr(reader.target, "__name__", "") == "getitem" and reader.args[1] == 0
        for reader in user.users
    )


def _writes_over(user: fx.Node) -> bool:
    """Whether a known function may change its input."""
    changes = user.target in _IN_PLACE or bool(user.kwargs.get("inplace", False))
    return changes or any(argument is True for argument in user.args)


def _adds_zeros(layer: nn.Module) -> bool:
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        return False
    padding = getattr(layer, "padding", 0)
    if padding == "same":
        kernel = layer.kernel_size
        assert isinstance(kernel, tuple)
        return any(size > 1 for size in kernel)
    return padding != "valid" and any(padding if isinstance(padding, tuple) else (padding,))
