import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.core.backends import backend
from gonzo.core.bench import peak_memory
from gonzo.core.ops.linear_attention import linear_attention, n_feature
from gonzo.core.ops.linear_attention.features import features, features_backward
from gonzo.core.testing import TOLERANCE, assert_close, compare_backends, poisoned_allocations

F64 = torch.float64
B, H, T, D, V = 3, 2, 11, 4, 5
MAPS = ["identity", "elu", "taylor", "quadratic", "softmax_pair"]
POLYNOMIAL = {"taylor": lambda s: 1 + s + s**2 / 2, "quadratic": lambda s: s**2}


def inputs(feature_map, batch=B, time=T, *, d_key=D, d_value=V, dtype=F64, normalize=True):
    """Queries, keys, values, and the state that seven random keys and values leave behind."""
    q, k, past = (torch.randn(batch, H, n, d_key, dtype=F64) for n in (time, time, 7))
    v, past_v = (torch.randn(batch, H, n, d_value, dtype=F64) for n in (time, 7))
    if feature_map == "identity":  # weights of either sign may sum to nearly nothing
        q, k, past = q.abs() + 0.1, k.abs() + 0.1, past.abs() + 0.1
    if normalize:
        past_v = torch.cat([past_v, torch.ones_like(past_v[..., :1])], -1)
    state = features(past, feature_map, d_key**-0.5).mT @ past_v
    case = {"q": q, "k": k, "v": v, "state": state}
    return {name: tensor.to(dtype) for name, tensor in case.items()}


def every_weight(q, k, feature_map, scale):
    """The weights (time, time) of one head in NumPy, from the map's definition."""
    s = q @ k.T
    if feature_map in POLYNOMIAL:
        return POLYNOMIAL[feature_map](scale * s)
    if feature_map == "identity":
        return s
    if feature_map == "elu":
        q, k = (np.where(x > 0, x + 1, np.exp(x)) for x in (q, k))
        return q @ k.T

    def pair(x):
        plus, minus = np.exp(x), np.exp(-x)
        sums = (part / part.sum(1, keepdims=True) for part in (plus, minus))
        return np.concatenate(list(sums), 1)

    return pair(q) @ pair(k).T


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("feature_map", MAPS)
@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_it_is_the_papers_sum(feature_map, causal, name):
    case = inputs(feature_map)
    del case["state"]
    y, _ = linear_attention(**case, feature_map=feature_map, causal=causal, eps=1e-3, backend=name)
    for b in range(B):
        for h in range(H):
            q, k, v = (case[x][b, h].numpy() for x in "qkv")
            weights = every_weight(q, k, feature_map, D**-0.5)
            weights = np.tril(weights) if causal else weights
            expected = weights @ v / (weights.sum(1, keepdims=True) + 1e-3)
            assert_close(y[b, h], torch.from_numpy(expected))


@pytest.mark.parametrize("feature_map", MAPS)
def test_without_a_normaliser_it_is_a_sum(feature_map):
    case = inputs(feature_map, normalize=False)
    y, final = linear_attention(**case, feature_map=feature_map, normalize=False)
    weights = every_weight(*(case[x][0, 0].numpy() for x in "qk"), feature_map, D**-0.5)
    past = features(case["q"], feature_map, D**-0.5) @ case["state"]
    assert_close(y[0, 0] - past[0, 0], torch.from_numpy(np.tril(weights)) @ case["v"][0, 0])
    phi = features(case["k"], feature_map, D**-0.5)
    assert_close(final, case["state"] + phi.mT @ case["v"])


@pytest.mark.parametrize("feature_map", MAPS)
def test_features_are_what_their_names_say(feature_map):
    q, k = torch.randn(6, D, dtype=F64), torch.randn(6, D, dtype=F64)
    phi_q, phi_k = (features(x, feature_map, 0.3) for x in (q, k))
    assert phi_q.shape == (6, n_feature(feature_map, D))
    expected = every_weight(q.numpy(), k.numpy(), feature_map, 0.3)
    assert_close(phi_q @ phi_k.mT, torch.from_numpy(expected))
    x, grad = q.requires_grad_(), torch.randn_like(phi_q)
    (by_autograd,) = torch.autograd.grad(features(x, feature_map, 0.3), x, grad)
    assert_close(features_backward(grad, x.detach(), feature_map, 0.3), by_autograd)


def test_products_are_kept_once():
    assert n_feature("taylor", 16) == 153
    assert n_feature("quadratic", 16) == 136


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("feature_map", MAPS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_backends_agree(dtype, feature_map, causal, normalize, with_lengths):
    case = inputs(feature_map, dtype=dtype, normalize=normalize)
    options = {"feature_map": feature_map, "causal": causal, "normalize": normalize}
    lengths = torch.tensor([4, 0, T]) if with_lengths else None
    case = {**case, **options, "lengths": lengths}
    compare_backends(linear_attention, case, backends=["reference", "cpu", None])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("feature_map", MAPS)
def test_half_inputs_are_summed_in_float32(feature_map, dtype):
    case = inputs(feature_map, dtype=torch.float32)
    half = {name: case[name].to(dtype) for name in "qkv"}
    y, final = linear_attention(**half, state=case["state"], feature_map=feature_map)
    assert (y.dtype, final.dtype) == (dtype, torch.float32)
    wide = {name: tensor.float() for name, tensor in half.items()}
    expected, last = linear_attention(**wide, state=case["state"], feature_map=feature_map)
    assert torch.equal(y, expected.to(dtype))
    assert torch.equal(final, last)
    compare_backends(
        linear_attention,
        {**half, "state": case["state"], "feature_map": feature_map},
        backends=["cpu"],
        exceptions={"gradient of state": (TOLERANCE[dtype], "through outputs in half precision")},
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (2, 65), (1, 300), (5, 128)])
@pytest.mark.parametrize("feature_map", MAPS)
def test_backends_agree_at_odd_sizes(feature_map, size):
    case = inputs(feature_map, *size, d_key=3, d_value=7, dtype=torch.float32)
    for causal in (True, False):
        options = {"feature_map": feature_map, "causal": causal}
        compare_backends(linear_attention, {**case, **options}, backends=["cpu"])


@pytest.mark.parametrize("feature_map", MAPS)
def test_blocks_of_sequences_and_heads_agree(feature_map, monkeypatch):
    from gonzo.core.ops.linear_attention import cpu

    case = inputs(feature_map, 4, 70, dtype=torch.float32)
    case |= {"feature_map": feature_map, "lengths": torch.tensor([70, 3, 66, 64])}
    for size in (1, 40_000, 120_000):  # a head at a time, two, and two sequences
        monkeypatch.setattr(cpu, "_SCRATCH_BYTES", size)
        compare_backends(linear_attention, case, backends=["cpu"])


@pytest.mark.parametrize("feature_map", MAPS)
@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_packed_sequences_are_separate_ones(feature_map, name):
    edges = [0, 3, 3, 10, 80]
    one = inputs(feature_map, 1, edges[-1])
    states = inputs(feature_map, 4)["state"]
    tensors = [one[x].requires_grad_() for x in "qkv"] + [states.requires_grad_()]
    run = functools.partial(linear_attention, feature_map=feature_map, backend=name)
    packed, finals = run(*tensors[:3], state=states, cu_seqlens=torch.tensor(edges))
    outputs, last = [], []
    for i, (start, stop) in enumerate(itertools.pairwise(edges)):
        if start == stop:
            last.append(states[i : i + 1])
            continue
        q, k, v = (t[:, :, start:stop] for t in tensors[:3])
        y, final = run(q, k, v, state=states[i : i + 1])
        outputs.append(y)
        last.append(final)
    separate, separate_finals = torch.cat(outputs, 2), torch.cat(last)
    assert_close(packed, separate)
    assert_close(finals, separate_finals)
    grads = torch.randn_like(packed), torch.randn_like(finals)
    actual = torch.autograd.grad((packed, finals), tensors, grads)
    expected = torch.autograd.grad((separate, separate_finals), tensors, grads)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e)


@given(
    feature_map=st.sampled_from(MAPS),
    time=st.integers(2, 150),
    split=st.integers(1, 149),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_a_sequence_may_be_split_anywhere(feature_map, time, split, seed):
    torch.manual_seed(seed)
    q, k, v, state = inputs(feature_map, time=time).values()
    y, final = linear_attention(q, k, v, state=state, feature_map=feature_map)
    split = 1 + split % (time - 1)
    parts = []
    for part in (slice(None, split), slice(split, None)):
        part_y, state = linear_attention(
            q[:, :, part], k[:, :, part], v[:, :, part], state=state, feature_map=feature_map
        )
        parts.append(part_y)
    assert_close(torch.cat(parts, 2), y)
    assert_close(state, final)


@pytest.mark.parametrize("feature_map", MAPS)
def test_the_past_does_not_see_the_future(feature_map):
    case = inputs(feature_map, time=70)
    before = linear_attention(**case, feature_map=feature_map)[0]
    for name in ("q", "k", "v"):
        case[name] = case[name].clone()
        case[name][:, :, 40] += 1
    after = linear_attention(**case, feature_map=feature_map)[0]
    assert torch.equal(before[:, :, :40], after[:, :, :40])
    assert not torch.isclose(before[:, :, 40:], after[:, :, 40:]).all(-1).any()


@pytest.mark.parametrize("feature_map", ["taylor", "softmax_pair"])
def test_the_order_of_keys_does_not_matter_where_all_are_seen(feature_map):
    case = inputs(feature_map)
    order = torch.randperm(T)
    shuffled = {**case, "k": case["k"][:, :, order], "v": case["v"][:, :, order]}
    run = functools.partial(linear_attention, feature_map=feature_map, causal=False)
    assert_close(run(**shuffled)[0], run(**case)[0])


@pytest.mark.parametrize("feature_map", MAPS)
def test_strides_do_not_matter(feature_map):
    case = inputs(feature_map, time=70)
    turned = {
        name: tensor.transpose(1, 2).contiguous().transpose(1, 2) for name, tensor in case.items()
    }
    compare_backends(linear_attention, {**turned, "feature_map": feature_map}, backends=["cpu"])
    tensors = {name: tensor.requires_grad_() for name, tensor in turned.items()}
    y, final = linear_attention(**tensors, feature_map=feature_map)
    (y.sum() + final.sum()).backward()  # gradients are expanded scalars
    assert all(tensor.grad.isfinite().all() for tensor in tensors.values())


def test_inputs_are_left_alone():
    for feature_map in MAPS:
        case = inputs(feature_map)
        before = {name: tensor.clone() for name, tensor in case.items()}
        tensors = {name: tensor.requires_grad_() for name, tensor in case.items()}
        linear_attention(**tensors, feature_map=feature_map)[0].sum().backward()
        assert all(torch.equal(case[name], before[name]) for name in case)


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("feature_map", MAPS)
def test_empty_batch(feature_map, name):
    case = {n: t.requires_grad_() for n, t in inputs(feature_map, batch=0).items()}
    y, final = linear_attention(**case, feature_map=feature_map, backend=name)
    (y.sum() + final.sum()).backward()
    assert y.shape == (0, H, T, V)
    assert final.shape == case["state"].shape


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("feature_map", MAPS)
def test_gradcheck(feature_map, causal):
    case = inputs(feature_map, 2, 5, d_key=2, d_value=2)
    tensors = [tensor.requires_grad_() for tensor in case.values()]

    def run(q, k, v, state):
        lengths = torch.tensor([3, 5])
        return linear_attention(
            q, k, v, state=state, feature_map=feature_map, causal=causal, lengths=lengths
        )

    assert torch.autograd.gradcheck(run, tensors)


@pytest.mark.parametrize("feature_map", MAPS)
def test_opcheck(feature_map):
    q, k, v, state = inputs(feature_map).values()
    options = (feature_map, 0.5, True, True)
    op = torch.ops.gonzo
    learned = [t.clone().requires_grad_() for t in (q, k, v, state)]
    for spans in ((None, None), (torch.tensor([4, 0, T]), None)):
        torch.library.opcheck(op.linear_attention.default, (*learned, *spans, *options, 1e-6, ""))
        y, divisor, _ = op.linear_attention(q, k, v, state, *spans, *options, 1e-6, "")
        saved = (torch.randn_like(y), torch.randn_like(state), q, k, v, state, y, divisor)
        for name in ("reference", "cpu"):
            arguments = (*saved, *spans, *options, name)
            torch.library.opcheck(op.linear_attention_backward.default, arguments)


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("feature_map", ["taylor", "softmax_pair"])
def test_compiles_as_one_graph(feature_map):
    run = functools.partial(linear_attention, feature_map=feature_map)
    compiled = torch.compile(run, fullgraph=True)
    case = inputs(feature_map)
    tensors = [tensor.requires_grad_() for tensor in case.values()]
    outputs, expected = compiled(**case), run(**case)
    grads = [torch.randn_like(output) for output in expected]
    for actual, output in zip(outputs, expected, strict=True):
        assert_close(actual, output)
    by_compiled = torch.autograd.grad(outputs, tensors, grads)
    for actual, grad in zip(
        by_compiled, torch.autograd.grad(expected, tensors, grads), strict=True
    ):
        assert_close(actual, grad)


@pytest.mark.parametrize("feature_map", MAPS)
def test_results_do_not_depend_on_the_number_of_threads(feature_map):
    case = inputs(feature_map, 4, 200, dtype=torch.float32)
    one = linear_attention(**case, feature_map=feature_map)
    torch.set_num_threads(2)
    for actual, expected in zip(
        linear_attention(**case, feature_map=feature_map), one, strict=True
    ):
        assert_close(actual, expected)


def test_the_backward_has_the_backend_of_the_forward(monkeypatch):
    from gonzo.core.ops.linear_attention import cpu

    case = {name: tensor.requires_grad_() for name, tensor in inputs("taylor").items()}
    with backend("reference"):
        y, _ = linear_attention(**case, feature_map="taylor")
    monkeypatch.setattr(cpu, "backward", None)
    y.sum().backward()


@pytest.mark.parametrize("feature_map", ["elu", "taylor", "softmax_pair"])
def test_neither_weights_nor_states_nor_features_are_stored(feature_map):
    run = functools.partial(linear_attention, feature_map=feature_map)
    needed = []
    for time in (16_384, 32_768):  # so long that what else a process does is little
        q, k, v = (torch.rand(1, H, time, 16) for _ in range(3))
        grads = v, torch.zeros(1, H, n_feature(feature_map, 16), 17)
        call = functools.partial(torch.autograd.functional.vjp, run, (q, k, v), grads)
        needed.append(peak_memory(call))
    per_step = (needed[1] - needed[0]) / (16_384 * H * 16 * 4)
    # In sizes of q: outputs and gradients, 4 and some. Beyond that, the features of q and k would
    # be 2, 19 and 4, states of every step 272 and more, and the weights 2048.
    assert per_step <= 5.9, per_step


def test_nan_in_a_key_moves_forward_in_time_only():
    for feature_map in MAPS:
        case = inputs(feature_map)
        case["k"][0, 1, 3, 2] = float("nan")
        with poisoned_allocations():
            for name in ("reference", "cpu"):
                bad = linear_attention(**case, feature_map=feature_map, backend=name)[0].isnan()
                assert bad[0, 1, 3:].all()
                assert bad.sum() == (T - 3) * V


q_ok, v_ok = torch.zeros(B, H, T, D), torch.zeros(B, H, T, V)
s_ok, packed = torch.zeros(B, H, D, V + 1), torch.zeros(1, H, T, D)


@pytest.mark.parametrize(
    ("kind", "message", "call"),
    [
        (ValueError, r"floating-point q of shape \(batch, n_head, time, d_key\), got torch.int64",
         lambda: linear_attention(q_ok.long(), q_ok, v_ok)),
        (ValueError, r"of shape \(batch, n_head, time, d_key\), got torch.float32 \(2, 11, 4\)",
         lambda: linear_attention(q_ok[0], q_ok[0], v_ok[0])),
        (ValueError, r"expected k of q's shape \(3, 2, 11, 4\), got \(3, 2, 10, 4\)",
         lambda: linear_attention(q_ok, q_ok[:, :, 1:], v_ok)),
        (ValueError, r"expected v of shape \(3, 2, 11, d_value\), got \(3, 1, 11, 5\)",
         lambda: linear_attention(q_ok, q_ok, v_ok[:, :1])),
        (TypeError, "q and v must share dtype and device, got torch.float32 on cpu and torch.fl",
         lambda: linear_attention(q_ok, q_ok, v_ok.double())),
        (ValueError, "expected at least one time step, got time 0",
         lambda: linear_attention(q_ok[:, :, :0], q_ok[:, :, :0], v_ok[:, :, :0])),
        (ValueError, "expected d_key and d_value of at least 1, got 0 and 5",
         lambda: linear_attention(q_ok[..., :0], q_ok[..., :0], v_ok)),
        (ValueError, "one of identity, elu, taylor, quadratic, softmax_pair, got .re",
         lambda: linear_attention(q_ok, q_ok, v_ok, feature_map="relu")),
        (ValueError, "scale belongs to 'taylor' and 'quadratic'; with 'identity', scale q and k",
         lambda: linear_attention(q_ok, q_ok, v_ok, scale=0.5)),
        (ValueError, "expected scale > 0 and eps >= 0, got -1 and 1e-06",
         lambda: linear_attention(q_ok, q_ok, v_ok, feature_map="taylor", scale=-1)),
        (ValueError, "expected scale > 0 and eps >= 0, got None and -1",
         lambda: linear_attention(q_ok, q_ok, v_ok, eps=-1)),
        (ValueError, "lengths are for padded batches and cu_seqlens for packed ones",
         lambda: linear_attention(packed, packed, packed, lengths=torch.tensor([3]),
                                  cu_seqlens=torch.tensor([0, T]))),
        (ValueError, r"expected lengths of shape \(3,\), got \(2,\)",
         lambda: linear_attention(q_ok, q_ok, v_ok, lengths=torch.tensor([1, 2]))),
        (TypeError, "expected integer lengths, got torch.float32",
         lambda: linear_attention(q_ok, q_ok, v_ok, lengths=torch.ones(B))),
        (ValueError, r"need a batch of 1 and cu_seqlens of shape \(n \+ 1,\), got a batch of 3",
         lambda: linear_attention(q_ok, q_ok, v_ok, cu_seqlens=torch.tensor([0, T]))),
        (ValueError, r"expected cu_seqlens that rise from 0 to 11, got \[0, 5\]",
         lambda: linear_attention(packed, packed, packed, cu_seqlens=torch.tensor([0, 5]))),
        (ValueError, r"expected a state of shape \(3, 2, 4, 6\) \(batch, n_head, n_feature, col",
         lambda: linear_attention(q_ok, q_ok, v_ok, state=s_ok[..., 1:])),
        (TypeError, "expected a state in torch.float32 on cpu, got torch.float64",
         lambda: linear_attention(q_ok, q_ok, v_ok, state=s_ok.double())),
        (ValueError, "unknown backend 'cuda'; expected one of reference, cpu, triton",
         lambda: linear_attention(q_ok, q_ok, v_ok, backend="cuda")),
    ],
)  # fmt: skip
def test_bad_input_is_explained(kind, message, call):
    with pytest.raises(kind, match=message):
        call()


def test_second_derivatives_are_refused():
    case = {name: tensor.requires_grad_() for name, tensor in inputs("taylor").items()}
    y, _ = linear_attention(**case, feature_map="taylor")
    (grad,) = torch.autograd.grad(y.square().sum(), case["q"], create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        grad.sum().backward()
