"""The kernels of `linear_attention` against the reference."""

import math
from itertools import pairwise

import pytest
import torch

from gonzo.core.ops.linear_attention import linear_attention, n_feature, triton
from gonzo.core.ops.linear_attention.features import features
from gonzo.core.testing import TOLERANCE, assert_close, compare_backends, poisoned_allocations
from gonzo.core.triton_kernels import recorded_launches

F32, F64 = torch.float32, torch.float64
MAPS = ["identity", "elu", "taylor", "quadratic", "softmax_pair"]
T, D_KEY, D_VALUE = 18, 2, 3  # a chunk of 16 steps in float64 and two more


@pytest.fixture
def inputs(device):
    def draw(
        feature_map, batch=2, time=T, d_key=D_KEY, d_value=D_VALUE, *, heads=1, dtype=F64,
        normalize=True, sequences=None,
    ):  # fmt: skip
        """q, k and v as a layer projects them, (batch, time, heads, d) turned; a state of keys."""
        q, k, past = (torch.randn(batch, n, heads, d_key) for n in (time, time, 4))
        if feature_map == "identity":  # weights of either sign may sum to nearly nothing
            q, k, past = q.abs() + 0.1, k.abs() + 0.1, past.abs() + 0.1
        v, past_v = (torch.randn(batch, n, heads, d_value) for n in (time, 4))
        q, k, v, past, past_v = (x.transpose(1, 2) for x in (q, k, v, past, past_v))
        if normalize:
            past_v = torch.cat([past_v, torch.ones_like(past_v[..., :1])], -1)
        state = features(past, feature_map, d_key**-0.5).mT @ past_v
        if sequences is not None:
            state = torch.cat([state * (i + 1) for i in range(sequences)])
        wide = torch.promote_types(dtype, F32)
        return {
            **{name: x.to(device, dtype) for name, x in {"q": q, "k": k, "v": v}.items()},
            "state": state.to(device, wide),
            "feature_map": feature_map,
            "normalize": normalize,
        }

    return draw


@pytest.fixture
def segments(monkeypatch):
    """Segments of so many steps, walked by few programs or summed by many."""

    def cut(steps, programs):
        monkeypatch.setattr(triton, "_SEGMENT", steps)
        monkeypatch.setattr(triton, "_PROGRAMS", programs)

    return cut


def agrees(**case):
    compare_backends(linear_attention, case, backends=["triton"])


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("feature_map", MAPS)
def test_agrees_with_the_reference(feature_map, causal, normalize, inputs, device):
    lengths = torch.tensor([T, 15], device=device)
    agrees(**inputs(feature_map, normalize=normalize), causal=causal, lengths=lengths)


@pytest.mark.parametrize("feature_map", MAPS)
def test_single_precision(feature_map, inputs):
    agrees(**inputs(feature_map, 1, 35, 5, 3, dtype=F32))


# One walk through all segments, and sums of each that a last kernel carries on.
@pytest.mark.parametrize("programs", [1, 99], ids=["walked", "carried"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("feature_map", ["identity", "quadratic"])
def test_segments_of_time(feature_map, causal, programs, inputs, segments, device):
    segments(16, programs)
    lengths = torch.tensor([40, 9], device=device)
    agrees(**inputs(feature_map, 2, 40, 2, 1), causal=causal, lengths=lengths)


def test_segments_of_several_chunks(inputs, segments):
    segments(32, 1)
    agrees(**inputs("taylor", 1, 67, 1, 2))


# Several tiles of features and blocks of columns, sizes at, below and above powers of two.
@pytest.mark.parametrize(
    ("feature_map", "d_key", "d_value"),
    [
        ("identity", 33, 17),
        ("identity", 16, 16),
        ("elu", 17, 4),
        ("taylor", 16, 16),
        ("quadratic", 17, 17),
        ("softmax_pair", 17, 18),
        ("softmax_pair", 33, 2),  # more than one chip holds in this precision
    ],
)
def test_sizes(feature_map, d_key, d_value, inputs):
    agrees(**inputs(feature_map, 1, 5, d_key, d_value))


@pytest.mark.parametrize("feature_map", MAPS)
def test_a_single_step(feature_map, inputs):
    agrees(**inputs(feature_map, 1, 1, 2, 1))


def test_a_step_is_two_launches(inputs):
    q, k, v, state, *_ = inputs("taylor", 1, 1).values()
    with recorded_launches() as launches:
        triton.forward(q, k, v, state, None, "taylor", 0.5, True, True, 1e-6)
    assert len(launches) == 2  # the states, and what is read of them


@pytest.mark.parametrize("causal", [True, False])
def test_packed_sequences_are_separate_ones(causal, inputs, segments, device):
    segments(16, 99)
    edges = [0, 3, 3, 23]
    case = inputs("quadratic", 1, 23, 2, 3, heads=2, sequences=3)
    cu_seqlens = torch.tensor(edges, dtype=torch.int32, device=device)
    agrees(**case, causal=causal, cu_seqlens=cu_seqlens)
    y, final = linear_attention(**case, causal=causal, cu_seqlens=cu_seqlens, backend="triton")
    for i, (start, stop) in enumerate(pairwise(edges)):
        if start == stop:
            assert torch.equal(final[i], case["state"][i])
            continue
        alone = {name: case[name][:, :, start:stop] for name in ("q", "k", "v")}
        alone = {**case, **alone, "state": case["state"][i : i + 1]}
        part, last = linear_attention(**alone, causal=causal, backend="triton")
        assert_close(y[:, :, start:stop], part)
        assert_close(final[i : i + 1], last)


@pytest.mark.parametrize("lengths", [[0, 16], [15, 17], [-1, 99]], ids=str)
def test_lengths_at_the_borders_of_chunks(lengths, inputs, device):
    case = inputs("identity", 2, 20, 2, 2)
    agrees(**case, lengths=torch.tensor(lengths, dtype=torch.int32, device=device))


# Operands of matrix products are rounded as the inputs are, those of states too.
@pytest.mark.parametrize("feature_map", MAPS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precisions(dtype, feature_map, inputs):
    case = inputs(feature_map, 1, 67, 4, 3, dtype=dtype)
    why = "sums of products of half precision"
    of_state = dict.fromkeys(["output 1", "gradient of state"], (TOLERANCE[dtype], why))
    compare_backends(linear_attention, case, backends=["triton"], exceptions=of_state)


def test_float16_may_hold_less_than_states_and_weights(inputs):
    case = inputs("quadratic", 1, 70, 4, 3, dtype=torch.float16)
    case = {**case, "q": 200 * case["q"], "k": 200 * case["k"], "state": None}
    y, final = linear_attention(**case, backend="triton")
    assert final.max() > torch.finfo(torch.float16).max
    wide = {name: case[name].to(F64) for name in ("q", "k", "v")}
    assert_close(y, linear_attention(**case | wide, backend="reference")[0])


def test_other_scales_and_divisors(inputs):
    agrees(**inputs("taylor", 1, 4), scale=0.3, eps=0.7)


def test_strides_do_not_matter(inputs):
    case = inputs("identity", 1, 3, 2, 2)
    turned = {k: case[k].mT.contiguous().mT for k in ("q", "k", "v", "state")}
    agrees(**case | turned)
    leaves = {k: case[k].clone().requires_grad_() for k in turned}
    y, final = linear_attention(**case | leaves, backend="triton")
    (y.sum() + final.sum()).backward()  # gradients are expanded scalars
    assert all(leaf.grad.isfinite().all() for leaf in leaves.values())


def test_inputs_are_left_alone(inputs):
    case = inputs("taylor", 1, 3)
    tensors = {k: x for k, x in case.items() if isinstance(x, torch.Tensor)}
    before = {k: x.clone() for k, x in tensors.items()}
    linear_attention(**case, backend="triton")
    assert all(torch.equal(x, before[k]) for k, x in tensors.items())


def test_nan_stays_in_its_sequence_and_column(inputs):
    case = inputs("quadratic", 2, 20, 2, 2)
    case["v"][0, 0, 17, 1] = math.nan
    with poisoned_allocations():
        bad = linear_attention(**case, backend="triton")[0].isnan()
    assert bad[0, 0, 17:, 1].all()
    assert bad.sum() == 4  # a chunk is one product, in which zero weights meet it too


def test_what_lies_past_the_lengths_is_not_read(inputs, device):
    case = inputs("taylor", 1, 18)
    for name in ("q", "k", "v"):
        case[name][:, :, 13:] = math.nan
    lengths = torch.tensor([13], device=device)
    y, final = linear_attention(**case, lengths=lengths, backend="triton")
    short = {name: case[name][:, :, :13] for name in ("q", "k", "v")}
    expected, last = linear_attention(**case | short, backend="reference")
    assert_close(y[:, :, :13], expected)
    assert not y[:, :, 13:].any()
    assert_close(final, last)


@pytest.mark.parametrize("empty", ["batch", "heads"])
def test_nothing_to_do(empty, inputs):
    case = inputs("taylor", **{empty: 0})
    leaves = {k: case[k].requires_grad_() for k in ("q", "k", "v", "state")}
    y, final = linear_attention(**case | leaves, backend="triton")
    (y.sum() + final.sum()).backward()
    assert y.shape == case["v"].shape
    assert final.shape == case["state"].shape


@pytest.mark.parametrize("sequences", [1, 50])
def test_memory_is_states_of_segments(sequences, monkeypatch):
    """Beside inputs and gradients a state for each 512 steps, and nothing of features or time²."""
    taken = {}

    def note(_, __, *arguments, **___):
        taken.update((id(t), t) for t in arguments if isinstance(t, torch.Tensor))

    monkeypatch.setattr(triton, "launch", note)
    q = torch.empty(1, 16, 8192, 16, device="meta")
    v = torch.empty(1, 16, 8192, 64, device="meta")
    state = torch.empty(sequences, 16, n_feature("taylor", 16), 65, device="meta")
    cu_seqlens = torch.empty(sequences + 1, dtype=torch.int32, device="meta")
    divisor = torch.empty(1, 16, 8192, device="meta")
    options = ("taylor", 0.25, True, True)
    triton.backward_packed(v, state, q, q, v, state, v, divisor, cu_seqlens, *options)
    states = [t for t in taken.values() if t.shape[-1] == 65]
    others = [t for t in taken.values() if t.shape[-1] != 65]
    # Those of segments, twice; those that come in and go out, and the last.
    count = sum(t.numel() for t in states) // state[0].numel()
    assert count <= 2 * (8192 // 512) + 6 * sequences
    assert all(t.shape in (q.shape, v.shape, divisor.shape, cu_seqlens.shape) for t in others)
