"""The laws of every sequence layer, bidirectional ones included."""

import copy
import tempfile

import torch

from gonzo.core.testing.sequence_case import (
    SequenceCase,
    close_gradient,
    expect,
    gradients,
    raises,
    tensors,
)
from gonzo.core.testing.tolerance import assert_close

__all__ = ["FORWARD_LAWS"]


def forward_keeps_shape_and_dtype(case: SequenceCase) -> None:
    """Whatever the batch, the time and the precision; an empty batch and T = 1 included."""
    for dtype in (torch.float64, torch.float32):
        layer = case.layer(dtype)
        for batch, time in [(case.batch, case.time), (1, case.time), (case.batch, 1), (0, 3)]:
            x = case.input(batch, time, layer.d_model, dtype=dtype)
            y = layer(x)
            expect(y.shape == x.shape, f"expected shape {tuple(x.shape)}, got {tuple(y.shape)}")
            expect(y.dtype == dtype, f"expected dtype {dtype}, got {y.dtype}")
            expect(bool(y.isfinite().all()), f"not finite for {tuple(x.shape)} {dtype}")


def float32_agrees_with_float64(case: SequenceCase) -> None:
    """One set of float32 parameters and inputs, computed in both."""
    layer = case.layer(torch.float32)
    x = case.sequence(layer, dtype=torch.float32)
    y = layer(x)
    assert_close(y, layer.double()(x.double()), name="forward", dtype=torch.float32)


def sequences_are_independent(case: SequenceCase) -> None:
    """A sequence has the same output in any company."""
    layer = case.layer()
    x = case.sequence(layer)
    y = layer(x)
    assert_close(layer(x[1:2]), y[1:2], name="alone")
    others = torch.cat([x[:1], case.sequence(layer, draw=1)[1:]])
    assert_close(layer(others)[0], y[0], name="in other company")


def strides_do_not_matter(case: SequenceCase) -> None:
    """A transposed or expanded input has the output of its contiguous copy."""
    layer = case.layer()
    x = case.input(case.time, case.batch, layer.d_model).transpose(0, 1)
    assert_close(layer(x), layer(x.contiguous()), name="transposed")
    x = case.input(1, 1, layer.d_model).expand(case.batch, case.time, -1)
    assert_close(layer(x), layer(x.contiguous()), name="expanded")


def inputs_are_left_alone(case: SequenceCase) -> None:
    """``forward`` does not write to its input."""
    layer = case.layer()
    x = case.sequence(layer)
    before = x.clone()
    layer(x)
    expect(torch.equal(x, before), "forward changed its input")


def padding_does_not_matter(case: SequenceCase) -> None:
    """With ``lengths``, valid outputs are those without padding and all others are zero."""
    layer, lengths = case.layer(), case.lengths()
    x = case.sequence(layer)
    y = layer(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        expect(not y[row, length:].any(), f"outputs past length {length} are not zero")
        if length:
            assert_close(y[row, :length], layer(x[row : row + 1, :length])[0], name=f"row {row}")


def gradients_flow(case: SequenceCase) -> None:
    """Every parameter that is trained, and the input, get a finite gradient."""
    layer = case.layer()
    x = case.sequence(layer).requires_grad_()
    for name, gradient in gradients(layer, x, layer(x)).items():
        expect(bool(gradient.isfinite().all()), f"{name} is not finite")


def copies_are_equal(case: SequenceCase) -> None:
    """deepcopy, a state dict and a folder on disk all bring back the same function."""
    layer = case.layer()
    x = case.sequence(layer)
    y = layer(x)
    expect(torch.equal(copy.deepcopy(layer)(x), y), "deepcopy differs")
    other = case.make().to(case.device, torch.float64).eval()
    other.load_state_dict(layer.state_dict())
    expect(torch.equal(other(x), y), "the state dict does not hold all of the layer")
    with tempfile.TemporaryDirectory() as folder:
        layer.save_pretrained(folder)
        loaded = type(layer).from_pretrained(folder, device=case.device).eval()
    expect(torch.equal(loaded(x), y), "from_pretrained differs")


def parameters_can_be_drawn_anew(case: SequenceCase) -> None:
    """``reset_parameters`` leaves none as it was, and keeps them the same objects."""
    layer = case.layer()
    before = dict(layer.named_parameters())
    with torch.no_grad():
        for parameter in before.values():
            parameter.fill_(float("nan"))
    device = torch.device(case.device)
    own_generator = [] if device.type == "cpu" else [device]  # put back, beside that of the CPU
    with torch.random.fork_rng(own_generator, device_type=device.type):
        layer.reset_parameters()
    for name, parameter in layer.named_parameters():
        expect(parameter is before[name], f"reset_parameters replaced {name}")
        expect(bool(parameter.isfinite().all()), f"reset_parameters left out {name}")


def autocast_is_finite(case: SequenceCase) -> None:
    """Under bfloat16 autocast outputs and gradients are finite and states keep their dtype."""
    layer = case.layer(torch.float32)
    x = case.sequence(layer, dtype=torch.float32).requires_grad_()
    with torch.autocast(x.device.type, torch.bfloat16):
        y = layer(x)
        expect(bool(y.isfinite().all()), "forward is not finite under autocast")
        for name, gradient in gradients(layer, x, y).items():  # as in a checkpointed layer
            expect(bool(gradient.isfinite().all()), f"{name} is not finite under autocast")
        if layer.streams:
            state = layer.init_state(case.batch)
            y, after = layer.scan(x, state)
            y_t, last = layer.step(x[:, 0], after)
            expect(bool(y.isfinite().all()), "scan is not finite under autocast")
            expect(bool(y_t.isfinite().all()), "step is not finite under autocast")
            for name, new in (("scan", after), ("step", last)):
                kept = [t.dtype for t in tensors(new)] == [t.dtype for t in tensors(state)]
                expect(kept, f"{name} changed the dtype of the state under autocast")


def wrong_inputs_are_explained(case: SequenceCase) -> None:
    """Wrong shapes, dtypes and lengths raise with the name of the layer and a way out."""
    layer = case.layer()
    name, d_model = type(layer).__name__, layer.d_model
    x = case.sequence(layer)
    wrong = x.new_zeros(case.batch, d_model, d_model + 1)
    with raises(ValueError, f"{name}: expected x of shape (batch, time, {d_model})", "transpose"):
        layer(wrong)
    with raises(ValueError, f"{name}: expected x of shape (batch, time, {d_model})"):
        layer(x[..., :-1])
    with raises(ValueError, f"{name}: expected at least one time step"):
        layer(x[:, :0])
    with raises(TypeError, f"{name}: expected x to be floating point, got int64", "x.float()"):
        layer(x.long())
    with raises(ValueError, f"{name}: expected lengths of shape ({case.batch},)"):
        layer(x, torch.ones(case.batch + 1, dtype=torch.int64, device=x.device))
    with raises(TypeError, f"{name}: expected integer lengths, got float32"):
        layer(x, torch.ones(case.batch, device=x.device))
    if x.device.type == "cpu":  # elsewhere reading them would wait for the device
        with raises(ValueError, f"{name}: expected lengths between 0 and {case.time}"):
            layer(x, torch.full((case.batch,), case.time + 1))


def compiles_as_one_graph(case: SequenceCase) -> None:
    """``torch.compile(fullgraph=True)`` traces the layer, forward and backward."""
    layer = case.layer()
    x = case.sequence(layer)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    y = compiled(x)
    assert_close(y, layer(x), name="compiled forward")
    expected = gradients(layer, x, layer(x))
    for name, gradient in gradients(layer, x, y).items():
        close_gradient(case, gradient, expected[name], name)
    if layer.streams:
        with torch.no_grad():
            state = layer.init_state(case.batch)
            step = torch.compile(layer.step, fullgraph=True, backend="aot_eager")
            assert_close(step(x[:, 0], state)[0], layer.step(x[:, 0], state)[0], name="step")
    torch.compiler.reset()


FORWARD_LAWS = (
    forward_keeps_shape_and_dtype,
    float32_agrees_with_float64,
    sequences_are_independent,
    strides_do_not_matter,
    inputs_are_left_alone,
    padding_does_not_matter,
    gradients_flow,
    copies_are_equal,
    parameters_can_be_drawn_anew,
    autocast_is_finite,
    wrong_inputs_are_explained,
    compiles_as_one_graph,
)
