"""Make a pruned model fast and small: every layer in the fastest exact form on this machine.

Zeros alone make nothing faster: a dense product multiplies them like any other number. What is
left of the weights pays only in another form, and which form depends on the sizes, on how many
weights are left, on the batch and on the machine. So that is measured, layer by layer and then for
the model as a whole, and where nothing is faster than the dense layer, that stays.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .compiler_input import (
    TOLERANCE,
    check_example,
    check_forms,
    check_model,
    check_numbers,
    check_outputs,
    first_line,
)
from .dead_units import Shrunk, remove_dead_units
from .form_timing import time_forms
from .frozen_copy import frozen_copy, stored_bytes, tensors_in
from .layer_choice import Layers, Rules, choose_form
from .layer_forms import FORMS, MatrixForm
from .machine_name import machine_name
from .masks import Masks
from .output_error import output_error
from .speed_report import LayerSpeed, SpeedReport

__all__ = ["CompiledSparse", "compile_sparse"]

_DEEPER = 10  # roundings of several layers add up
_NOISE = 1.02  # a whole model's time is known to about two percent
_NO_REPORT = SpeedReport((), {}, (), "", 0.0, 0.0, 0, 0, "")
_ALL, _UNITS = "the chosen forms", "dead units removed alone"


class CompiledSparse(nn.Module):
    """A model for inference, made by `compile_sparse`, which computes what the dense model does.

    It can be copied. To move or to save it, or for another dtype, save the ticket, or the model
    with its masks, and compile again where it is loaded: forms are chosen for a machine. Its
    `state_dict` is that of the chosen forms, and loads into no other model.

    Attributes:
        model: with its layers exchanged.
        report: what was chosen and why, as a `SpeedReport`.
    """

    def __init__(self, model: nn.Module, report: SpeedReport) -> None:
        super().__init__()
        self.model = model
        self.report = report
        self.training = False
        self._device = next((value.device.type for value in self._tensors()), "cpu")

    def forward(self, *arguments: Any) -> Any:
        """Return what the model returns, up to rounding, in its own precision.

        Without gradients, which sparse forms do not have. The memory order of an output may differ.
        """
        if torch.is_autocast_enabled(self._device):
            with torch.autocast(self._device, enabled=False):
                return self.forward(*arguments)
        if not torch.is_grad_enabled():
            return self.model(*arguments)
        # What a context manager costs shows beside a small sparse product.
        torch.set_grad_enabled(False)
        try:
            return self.model(*arguments)
        finally:
            torch.set_grad_enabled(True)

    def _tensors(self) -> Iterator[Tensor]:
        yield from self.parameters()
        yield from self.buffers()

    def train(self, mode: bool = True) -> CompiledSparse:
        """Refuse to train.

        Raises:
            ValueError: always when `mode` is True.
        """
        if mode:
            raise ValueError(
                "CompiledSparse is for inference alone; train the model that it was made from and "
                "compile that again"
            )
        return self

    def __str__(self) -> str:
        """Return the report."""
        return str(self.report)


def compile_sparse(
    model: nn.Module,
    example_input: Tensor | tuple[Any, ...],
    *,
    masks: Masks | None = None,
    forms: Sequence[str] = FORMS,
    min_gain: float = 1.05,
    tolerance: float | None = None,
    seconds: float = 3.0,
    verbose: bool = True,
) -> CompiledSparse:
    """Return a copy of a pruned model whose layers are in the fastest exact form on this machine.

    First, units without inputs or without outputs are removed through the graph (see
    `gonzo.pruning.dead_units`). Then every linear layer, and every convolution over one or two
    dimensions, is timed in all `forms` that fit its zeros, on the input that it gets for
    `example_input`, with as many threads as torch is set to. The fastest replaces it if it is
    `min_gain` times as fast as the dense layer. In the end the whole is timed against the dense
    model; if it is not faster, the result is the dense model, and the report says so.

    The result computes the same for any batch, and is chosen for that of the example: pass the
    batch that will be served, and compile twice where there are two.

    Args:
        model: with pruned weights at zero; not changed. Masks of ``torch.nn.utils.prune`` and
            parametrisations are applied to the copy for good. It is used in eval mode.
        example_input: a tensor, or a tuple of the arguments, on the model's device.
        masks: taken as pruned besides what is zero, by parameter name.
        forms: which to try, of "csr", "sparse_linear", "bsr", "compact", "2:4" and "direct".
        min_gain: how many times as fast as dense a form has to be.
        tolerance: relative RMS error of a form against the dense layer from which on it is not
            used; by default 1e-5 in float32, 1e-10 in float64, 5e-3 and 1e-2 in float16 and
            bfloat16. The whole model may have ten times that.
        seconds: about how long to measure, besides seven runs of everything.
        verbose: print the report.

    Returns:
        The compiled model, with a `report`.

    Raises:
        ValueError: a model without linear layers and convolutions; an unknown form; an example on
            another device or of another dtype than the weights, or on which the model does not run;
            masks of another model; outputs that are not finite, or differ from call to call; a
            number out of its bounds.
        TypeError: no model, one that cannot be copied, is compiled, or returns no tensor; masks
            that are no `Masks`.
    """
    check_model(model, masks)
    wanted = check_forms(forms)
    check_numbers(min_gain, seconds, tolerance)
    arguments = example_input if isinstance(example_input, tuple) else (example_input,)
    weight = check_example(model, arguments)
    if tolerance is None:
        tolerance = TOLERANCE[weight.dtype]
    dense = frozen_copy(model)
    if masks is not None:
        masks.check(dense)
        masks.apply_(dense)
    with torch.no_grad():
        expected = check_outputs(model, dense, arguments)
        shrunk = _checked(
            remove_dead_units(dense, arguments), dense, arguments, expected, tolerance
        )
        layers = Layers(dense, shrunk.model, arguments)
        rules = Rules(wanted, min_gain, tolerance, seconds / (len(layers.names) + 1))
        compiled = copy.deepcopy(shrunk.model)
        found = []
        for name in layers.names:
            speed, form = choose_form(layers, name, rules)
            found.append(speed)
            if form is not None:
                compiled = _exchange(compiled, name, form)
        exchanged = any(layer.form != "dense" for layer in found)
        candidates = {_ALL: _runnable(compiled, arguments)} if exchanged else {}
        if shrunk.removed:
            candidates[_UNITS] = shrunk.model
        best = _judge(dense, candidates, arguments, expected, rules)
    report = _report(dense, shrunk, found, best, weight)
    if verbose:
        print(report)
    return CompiledSparse(best.model, report)


def _runnable(model: nn.Module, arguments: tuple[Any, ...]) -> nn.Module:
    """The model, its layers' results contiguous where its own code takes no others."""
    try:
        model(*arguments)
    except Exception:  # whatever it is, `_judge` meets it again and says so
        for module in model.modules():
            if isinstance(module, MatrixForm):
                module.in_order = True
    return model


def _checked(
    shrunk: Shrunk, dense: nn.Module, arguments: tuple[Any, ...], expected: Any, tolerance: float
) -> Shrunk:
    """The model without dead units, or with them where tracing saw another program than runs."""
    if not shrunk.removed:
        return shrunk
    try:
        wrong = output_error(shrunk.model(*arguments), expected)
        problem = f"the output would be wrong by {wrong:.1e}, relative RMS"
    except Exception as error:  # the model's own code meets layers of other sizes
        wrong, problem = math.inf, f"without them the model does not run: {first_line(error)}"
    if wrong <= _DEEPER * tolerance:
        return shrunk
    return Shrunk(copy.deepcopy(dense), {}, {}, problem)


def _exchange(model: nn.Module, name: str, form: nn.Module) -> nn.Module:
    """Put a layer's new form wherever the layer is, and return the model."""
    if not name:
        return form
    old = model.get_submodule(name)
    for module in list(model.modules()):
        for child, value in list(module._modules.items()):
            if value is old:
                setattr(module, child, form)
    return model


@dataclass(frozen=True)
class _Best:
    """The whole model that won, "" for the dense one, and the times; what failed, with reasons."""

    what: str
    model: nn.Module
    seconds_before: float
    seconds_after: float
    failures: dict[str, str]


def _judge(
    dense: nn.Module,
    candidates: dict[str, nn.Module],
    arguments: tuple[Any, ...],
    expected: Any,
    rules: Rules,
) -> _Best:
    """Time whole models in turn; one that is wrong or not faster than the dense one is out."""
    failures = {}
    calls = {"": functools.partial(dense, *arguments)}
    for what, model in candidates.items():
        call = functools.partial(CompiledSparse(model, _NO_REPORT), *arguments)
        try:
            wrong = output_error(call(), expected)
        except Exception as error:  # the model's own code meets layers of another kind
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            failures[what] = f"the model does not run with it: {reason}"
            continue
        if wrong > _DEEPER * rules.tolerance:
            failures[what] = f"the output would be wrong by {wrong:.1e}, relative RMS"
        else:
            calls[what] = call
    device = next(tensors_in(arguments)).device
    times = time_forms(calls, device=device, seconds=rules.seconds, race=False)
    best, fastest = "", min(times.values())
    for what, taken in times.items():
        # Of several that are faster than dense the first, unless another is clearly faster.
        if not what or best:
            continue
        if taken < times[""] and taken <= _NOISE * fastest:
            best = what
        else:
            failures[what] = f"the whole model would be {times[''] / taken:.2f} × as fast as dense"
    return _Best(best, candidates.get(best, dense), times[""], times[best], failures)


def _report(
    dense: nn.Module, shrunk: Shrunk, found: list[LayerSpeed], best: _Best, weight: Tensor
) -> SpeedReport:
    remarks = []
    if shrunk.problem:
        remarks.append(f"Dead units stay: {shrunk.problem}.")
    remarks += [f"Dead units of {name} stay: {why}." for name, why in shrunk.kept.items()]
    remarks += [f"Not used, {what}: {why}." for what, why in best.failures.items()]
    remarks += [
        f"{layer.name or 'The model'} has no weight left: it passes nothing of its input on."
        for layer in found
        if not layer.density
    ]
    remarks += _others(dense, {layer.name for layer in found})
    removed = shrunk.removed if best.what else {}
    if best.what != _ALL:
        found = [_as_dense(layer, best) for layer in found]
    verdict = {
        "": "The result is the dense model: nothing was faster."
        if found
        else "The result is the dense model: no layer was seen to run, so nothing was tried.",
        _UNITS: "The result is the dense model without its dead units.",
        _ALL: "The result computes the same with these forms.",
    }[best.what]
    return SpeedReport(
        layers=tuple(found),
        removed=removed,
        remarks=tuple(remarks),
        verdict=verdict,
        seconds_before=best.seconds_before,
        seconds_after=best.seconds_after,
        bytes_before=stored_bytes(dense),
        bytes_after=stored_bytes(best.model),
        machine=machine_name(weight.device, weight.dtype),
    )


def _others(dense: nn.Module, rows: set[str]) -> list[str]:
    """What is pruned and has no row in the table, so that nobody looks for it there."""
    remarks, seen = [], set()
    for name, module in dense.named_modules():
        weights = [w for w in module.parameters(recurse=False) if w.ndim > 1 and w not in seen]
        seen.update(weights)
        count = sum(weight.numel() for weight in weights)
        zeros = sum(int((weight == 0).sum()) for weight in weights)
        if name not in rows and zeros > count / 2:
            remarks.append(
                f"{name or 'The model'} ({type(module).__name__}, {count:,} weights, "
                f"{zeros / count:.0%} zero) stays dense: only linear layers and convolutions that "
                "the example passes through as modules have other forms."
            )
    return remarks


def _as_dense(layer: LayerSpeed, best: _Best) -> LayerSpeed:
    """The same layer in a model whose layers are dense."""
    after = best.model.get_submodule(layer.name)
    assert isinstance(after.weight, Tensor)
    shape = tuple(after.weight.shape)
    small = layer.seconds_after * layer.tried.get(layer.form, 1.0)
    return replace(
        layer,
        shape_after=shape,
        form="dense",
        # What was said of a smaller layer does not hold of this one.
        why=layer.why
        if layer.form == "dense" and shape == layer.shape_after
        else "dense: see why below",
        seconds_after=layer.seconds_before if shape == layer.shape else small,
        bytes_after=stored_bytes(after),
    )
