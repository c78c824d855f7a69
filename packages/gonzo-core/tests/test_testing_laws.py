"""Each law finds the layer that breaks it."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from gonzo.core.sequence import SequenceModule, mask_padding
from gonzo.core.testing import LAWS, SequenceCase, check_sequence_module

LAW = {law.__name__: law for law in LAWS}


class MeanState(NamedTuple):
    total: Tensor  # (batch, d_model)
    count: Tensor  # (batch, 1)


class Mean(SequenceModule):
    """A right layer, from which each defect below differs in one thing: running means."""

    def __init__(self, d_model):
        super().__init__()
        self.d_model = d_model
        self.gain = nn.Parameter(torch.empty(d_model))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.normal_(self.gain)

    def forward(self, x, lengths=None):
        self.check(x, lengths)
        count = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
        return mask_padding(self.gain * x.cumsum(1) / count, lengths)

    def init_state(self, batch, *, device=None, dtype=None):
        zeros = self.gain.new_zeros(batch, self.d_model, device=device, dtype=dtype)
        return MeanState(zeros, zeros[:, :1])

    def scan(self, x, state, lengths=None):
        self.check(x, lengths, state)
        x = mask_padding(x, lengths)
        total = state.total[:, None] + x.cumsum(1)
        count = state.count[:, None] + torch.arange(1, x.shape[1] + 1)[:, None]
        y = mask_padding(self.gain * total / count, lengths)
        steps = x.shape[1] if lengths is None else lengths[:, None]
        return y, MeanState(total[:, -1], state.count + steps)

    def step(self, x_t, state):
        self.check_step(x_t, state)
        state = MeanState(state.total + x_t, state.count + 1)
        return self.gain * state.total / state.count, state


class FixedPrecision(Mean):
    def forward(self, x, lengths=None):
        return super().forward(x, lengths).float()


class Imprecise(Mean):
    def forward(self, x, lengths=None):
        return super().forward(x, lengths) * (1.001 if x.dtype == torch.float32 else 1)


class MixesSequences(Mean):
    def forward(self, x, lengths=None):
        return super().forward(x + x.mean(0) if x.shape[0] else x, lengths)


class ReadsMemoryOrder(Mean):
    def forward(self, x, lengths=None):
        return super().forward(x if x.is_contiguous() else x * 2, lengths)


class WritesToItsInput(Mean):
    def forward(self, x, lengths=None):
        y = super().forward(x, lengths)
        x.zero_()
        return y


class LeavesPadding(Mean):
    def forward(self, x, lengths=None):
        self.check(x, lengths)
        return super().forward(x)


class CutsGradients(Mean):
    def forward(self, x, lengths=None):
        return super().forward(x.detach(), lengths)


class HidesState(Mean):
    def __init__(self, d_model):
        super().__init__(d_model)
        self.hidden = torch.randn(())

    def forward(self, x, lengths=None):
        return super().forward(x, lengths) * self.hidden


class ForgetsToReset(Mean):
    def reset_parameters(self):
        if not self.gain.isnan().any():
            super().reset_parameters()


class GrowsUnderAutocast(Mean):
    def scan(self, x, state, lengths=None):
        y, state = super().scan(x, state, lengths)
        return y, state._replace(total=state.total.bfloat16())


class ChecksNothing(Mean):
    def check(self, x, lengths=None, state=None):
        pass


class BreaksTheGraph(Mean):
    def forward(self, x, lengths=None):
        return super().forward(x, lengths) * (1 if x.sum().item() < 1e9 else 0)


class ScansOtherwise(Mean):
    def scan(self, x, state, lengths=None):
        y, state = super().scan(x, state, lengths)
        return y * 1.001, state


class ForgetsBetweenChunks(Mean):
    def scan(self, x, state, lengths=None):
        return super().scan(x, self.init_state(x.shape[0]), lengths)


class StepsOtherwise(Mean):
    def step(self, x_t, state):
        y_t, state = super().step(x_t, state)
        return y_t * 1.001, state


class MutatesItsState(Mean):
    def step(self, x_t, state):
        y_t, after = super().step(x_t, state)
        state.total.copy_(after.total)
        return y_t, after


class TiesRowsToPlaces(Mean):
    def step(self, x_t, state):
        y_t, state = super().step(x_t, state)
        return y_t * torch.arange(1, y_t.shape[0] + 1)[:, None], state


class SeesTheFuture(Mean):
    def forward(self, x, lengths=None):
        return super().forward(x + x[:, -1:] * 1e-6, lengths)


class CountsPadding(Mean):
    def scan(self, x, state, lengths=None):
        y, after = super().scan(x, state, lengths)
        return y, after._replace(count=state.count + x.shape[1])


class SpoilsGradients(Mean):
    def scan(self, x, state, lengths=None):
        y, state = super().scan(x, state, lengths)
        return y + 0.1 * (self.gain - self.gain.detach()), state


class TakesAnyState(Mean):
    def check_step(self, x_t, state):
        pass


@pytest.mark.parametrize(
    ("law", "defect"),
    [
        ("forward_keeps_shape_and_dtype", FixedPrecision),
        ("float32_agrees_with_float64", Imprecise),
        ("sequences_are_independent", MixesSequences),
        ("strides_do_not_matter", ReadsMemoryOrder),
        ("inputs_are_left_alone", WritesToItsInput),
        ("padding_does_not_matter", LeavesPadding),
        ("gradients_flow", CutsGradients),
        ("copies_are_equal", HidesState),
        ("parameters_can_be_drawn_anew", ForgetsToReset),
        ("autocast_is_finite", GrowsUnderAutocast),
        ("wrong_inputs_are_explained", ChecksNothing),
        ("forward_is_scan", ScansOtherwise),
        ("scan_is_chunked_scan", ForgetsBetweenChunks),
        ("scan_is_a_loop_of_step", StepsOtherwise),
        ("states_are_not_mutated", MutatesItsState),
        ("states_begin_with_the_batch", TiesRowsToPlaces),
        ("the_past_is_blind_to_the_future", SeesTheFuture),
        ("states_stop_at_the_length", CountsPadding),
        ("gradients_agree", SpoilsGradients),
        ("states_of_another_batch_are_explained", TakesAnyState),
    ],
)
def test_a_law_finds(law, defect):
    LAW[law](SequenceCase(lambda: Mean(4)))
    with pytest.raises(AssertionError):
        LAW[law](SequenceCase(lambda: defect(4)))


def test_a_graph_break_is_found():
    errors = torch._dynamo.exc
    with pytest.raises((errors.Unsupported, errors.UserError), match=r"x\.sum\(\)\.item\(\)"):
        LAW["compiles_as_one_graph"](SequenceCase(lambda: BreaksTheGraph(4)))
    torch.compiler.reset()


def test_all_laws_at_once():
    check_sequence_module(lambda: Mean(3), batch=2, time=7, seed=1)
    with pytest.raises(AssertionError, match="outputs before a change at 1: relative RMS error"):
        LAW["the_past_is_blind_to_the_future"](SequenceCase(lambda: SeesTheFuture(4)))


def test_an_exception_lets_one_gradient_pass():
    exceptions = {"gradient of gain": (10.0, "the layer spoils it on purpose")}
    LAW["gradients_agree"](SequenceCase(lambda: SpoilsGradients(4), exceptions=exceptions))


def test_a_case_lies_on_its_device():
    """The meta device stands for one that is not here."""
    case = SequenceCase(lambda: Mean(4), device="meta")
    layer = case.layer()
    for tensor in (layer.gain, case.sequence(layer), case.lengths()):
        assert tensor.device.type == "meta"
