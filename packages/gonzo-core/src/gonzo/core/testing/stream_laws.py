"""The further laws of a layer that streams: ``scan`` and ``step`` beside ``forward``."""

import torch
from torch import Tensor

from gonzo.core.sequence import map_state, select_batch
from gonzo.core.testing.sequence_case import (
    SequenceCase,
    close_gradient,
    expect,
    gradients,
    raises,
    same_future,
    scan_chunks,
    step_all,
    tensors,
)
from gonzo.core.testing.tolerance import assert_close

__all__ = ["STREAM_LAWS"]


def forward_is_scan(case: SequenceCase) -> None:
    """``forward(x) == scan(x, init_state)[0]``, in float64 and float32."""
    for dtype in (torch.float64, torch.float32):
        layer = case.layer(dtype)
        x = case.sequence(layer, dtype=dtype)
        y, _ = layer.scan(x, layer.init_state(case.batch))
        assert_close(y, layer(x), name=f"scan in {dtype}", dtype=dtype)


def scan_is_chunked_scan(case: SequenceCase) -> None:
    """A sequence may be split anywhere, and into many chunks; the last state is the same."""
    layer = case.layer()
    x = case.sequence(layer)
    y, state = layer.scan(x, layer.init_state(case.batch))
    for sizes in [*((t, case.time - t) for t in range(1, case.time)), (1, 2, case.time - 3)]:
        chunked, after = scan_chunks(layer, x, sizes)
        assert_close(chunked, y, name=f"chunks of {sizes}")
        same_future(case, layer, after, state, f"the state after chunks of {sizes}")


def scan_is_a_loop_of_step(case: SequenceCase) -> None:
    """In float64 and float32; ``step`` may go on from ``scan`` and ``scan`` from ``step``."""
    for dtype in (torch.float64, torch.float32):
        layer = case.layer(dtype)
        x = case.sequence(layer, dtype=dtype)
        y, state = layer.scan(x, layer.init_state(case.batch))
        stepped, after = step_all(layer, x, layer.init_state(case.batch))
        assert_close(stepped, y, name=f"loop of step in {dtype}", dtype=dtype)
        same_future(case, layer, after, state, "the state after the loop of step")


def states_are_not_mutated(case: SequenceCase) -> None:
    """A state can be kept and used again after ``scan`` and ``step`` went on from it."""
    layer = case.layer()
    x = case.sequence(layer)
    _, state = layer.scan(x, layer.init_state(case.batch))
    kept = map_state(Tensor.clone, state)
    layer.scan(x, state)
    layer.step(x[:, 0], state)
    same = all(map(torch.equal, tensors(state), tensors(kept)))
    expect(same, "scan or step changed the state that it was given")


def states_begin_with_the_batch(case: SequenceCase) -> None:
    """Rows of a state are the states of those sequences (but for what it calls ``shared``)."""
    layer = case.layer()
    x = case.sequence(layer)
    _, state = layer.scan(x, layer.init_state(case.batch))
    index = torch.arange(case.batch, device=x.device).flip(0)
    y_t, _ = layer.step(x[:, 0], state)
    picked, _ = layer.step(x[index, 0], select_batch(state, index))
    assert_close(picked, y_t[index], name="step from picked states")


def the_past_is_blind_to_the_future(case: SequenceCase) -> None:
    """Replacing the future of an input leaves the outputs before it as they were."""
    layer = case.layer()
    x, other = case.sequence(layer), case.sequence(layer, draw=1)
    y = layer(x)
    for t in range(1, case.time):
        changed = layer(torch.cat([x[:, :t], other[:, t:]], dim=1))
        assert_close(changed[:, :t], y[:, :t], name=f"outputs before a change at {t}")


def states_stop_at_the_length(case: SequenceCase) -> None:
    """With ``lengths`` the state is the one after the last valid step of each sequence."""
    layer, lengths = case.layer(), case.lengths()
    x = case.sequence(layer)
    _, start = layer.scan(case.sequence(layer, draw=1), layer.init_state(case.batch))
    y, state = layer.scan(x, start, lengths)
    for row, length in enumerate(lengths.tolist()):
        expect(not y[row, length:].any(), f"outputs past length {length} are not zero")
        index = torch.tensor([row], device=x.device)
        alone, mine = select_batch(start, index), select_batch(state, index)
        if length:
            y_alone, alone = layer.scan(x[index, :length], alone)
            assert_close(y[index, :length], y_alone, name=f"row {row}")
        same_future(case, layer, mine, alone, f"the state of row {row}, length {length}", 1)


def gradients_agree(case: SequenceCase) -> None:
    """``forward``, chunked ``scan`` and the loop of ``step`` have the same gradients."""
    layer = case.layer()
    x = case.sequence(layer).requires_grad_()
    expected = gradients(layer, x, layer(x))
    ways = {
        "scan": lambda: scan_chunks(layer, x, (case.time // 2, case.time - case.time // 2))[0],
        "step": lambda: step_all(layer, x, layer.init_state(case.batch))[0],
    }
    for way, run in ways.items():
        for name, gradient in gradients(layer, x, run()).items():
            close_gradient(case, gradient, expected[name], name, way)


def states_of_another_batch_are_explained(case: SequenceCase) -> None:
    """A state of another batch or device, or no state at all, raises with a way out."""
    layer = case.layer()
    x, name = case.sequence(layer), type(layer).__name__
    other = layer.init_state(case.batch + 1)
    for run in (lambda s: layer.scan(x, s), lambda s: layer.step(x[:, 0], s)):
        with raises(ValueError, f"batch of {case.batch + 1}", f"init_state({case.batch})"):
            run(other)
        elsewhere = map_state(lambda tensor: tensor.to("meta"), layer.init_state(case.batch))
        with raises(ValueError, "the state is on meta", "device=x.device"):
            run(elsewhere)
        with raises(TypeError, f"{name}: expected a state made by init_state, got Tensor"):
            run(x)
    with raises(ValueError, f"{name}: expected x_t of shape (batch, {layer.d_model})", "scan"):
        layer.step(x, layer.init_state(case.batch))


STREAM_LAWS = (
    forward_is_scan,
    scan_is_chunked_scan,
    scan_is_a_loop_of_step,
    states_are_not_mutated,
    states_begin_with_the_batch,
    the_past_is_blind_to_the_future,
    states_stop_at_the_length,
    gradients_agree,
    states_of_another_batch_are_explained,
)
