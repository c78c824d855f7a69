import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import dlsim

from gonzo.core.backends import backend
from gonzo.core.bench import peak_memory
from gonzo.core.ops.ssm_scan import ssm_scan
from gonzo.core.testing import assert_close, compare_backends, poisoned_allocations

F64 = torch.float64
B, T, H, N = 3, 11, 4, 5


def system(heads=H, n=N, *, vectors=5, dtype=F64):
    """A stable model a, b, c and pairs p, q, so small that it stays stable."""
    w = torch.randn(heads, 7, 2, n, dtype=F64)
    a = torch.polar(
        0.5 + 0.5 * torch.rand(heads, n, dtype=F64), 6.3 * torch.rand(heads, n).double()
    )
    w[:, 0] = torch.stack([a.real - 1, a.imag], 1)
    w[:, 3:] /= 4 * n
    return w[:, :vectors].to(dtype).permute(1, 2, 3, 0).contiguous()


def inputs(batch=B, time=T, heads=H, n=N, *, vectors=5, dtype=F64):
    return {
        "u": torch.randn(batch, time, heads, dtype=dtype),
        "state": torch.randn(batch, 2, n, heads, dtype=dtype),
        "system": system(heads, n, vectors=vectors, dtype=dtype),
    }


def dense(w):
    """One head's model as real matrices A, B, C that act on (real parts, imaginary parts)."""
    (ar, ai), (br, bi), (cr, ci), *pairs = w.unbind(0)
    a = torch.cat([torch.cat([ar.diag(), -ai.diag()], 1), torch.cat([ai.diag(), ar.diag()], 1)])
    for (pr, pi), (qr, qi) in zip(pairs[::2], pairs[1::2], strict=True):
        a = a + torch.outer(torch.cat([pr, pi]), 2 * torch.cat([qr, -qi]))
    a = torch.eye(len(a), dtype=F64) + a
    return a, torch.cat([br, bi]), 2 * torch.cat([cr, -ci])


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_an_impulse_gives_powers(name):
    w = system(1, 1, vectors=3)
    a, b, c = torch.complex(w[:, 0, 0, 0], w[:, 1, 0, 0])
    a = 1 + a
    u = torch.zeros(1, 40, 1, dtype=F64)
    u[0, 0] = 1
    y, final = ssm_scan(u, torch.zeros(1, 2, 1, 1, dtype=F64), w, backend=name)
    assert_close(y[0, :, 0], 2 * (c * b * a ** torch.arange(40)).real)
    assert_close(torch.complex(final[0, 0, 0], final[0, 1, 0]), (a**39 * b)[None])


@pytest.mark.parametrize("vectors", [3, 5, 7])
@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_it_is_scipys_simulation_of_the_dense_model(vectors, name):
    case = inputs(vectors=vectors)
    y, final = ssm_scan(**case, backend=name)
    for h in range(H):
        a, b, c = (m.numpy() for m in dense(case["system"][..., h]))
        for i in range(B):
            start = case["state"][i, ..., h].flatten().numpy()
            u = np.append(case["u"][i, :, h].numpy(), 0.0)
            # SciPy's y_t = C x_t comes before u_t, ours after it.
            model = (a, b[:, None], c[None], np.zeros((1, 1)), 1.0)
            _, expected, states = dlsim(model, u, x0=start)
            assert_close(y[i, :, h], torch.from_numpy(expected[1:, 0].copy()))
            assert_close(final[i, ..., h].flatten(), torch.from_numpy(states[-1].copy()))


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("vectors", [3, 5, 7])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_backends_agree(dtype, vectors, with_lengths):
    lengths = torch.tensor([4, 0, T]) if with_lengths else None
    case = inputs(vectors=vectors, dtype=dtype)
    compare_backends(ssm_scan, {**case, "lengths": lengths}, backends=["reference", "cpu", None])


@pytest.mark.parametrize("u", [torch.float32, F64])
@pytest.mark.parametrize("kept", [torch.float32, F64])
def test_input_and_state_may_differ_in_dtype(u, kept):
    case = inputs()
    case = {"u": case["u"].to(u), **{k: case[k].to(kept) for k in ("state", "system")}}
    y, final = ssm_scan(**case)
    assert (y.dtype, final.dtype) == (u, kept)
    expected, last = ssm_scan(**{k: v.double() for k, v in case.items()}, backend="reference")
    assert_close(y, expected, tolerance=1e-5, because="computed in float32 where either is")
    assert_close(final, last, tolerance=1e-5, because="computed in float32 where either is")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_keep_a_float32_state(dtype):
    case = inputs(dtype=torch.float32)
    y, final = ssm_scan(case["u"].to(dtype), case["state"], case["system"])
    assert (y.dtype, final.dtype) == (dtype, torch.float32)
    assert_close(y, ssm_scan(case["u"].to(dtype).float(), case["state"], case["system"])[0])


@pytest.mark.parametrize("size", [(1, 1, 1, 1), (1, 1, 7, 32), (2, 301, 3, 1), (1, 97, 2, 33)])
@pytest.mark.parametrize("vectors", [3, 5, 7])
def test_backends_agree_at_odd_sizes(size, vectors):
    compare_backends(ssm_scan, inputs(*size, vectors=vectors), backends=["cpu"])


@pytest.mark.parametrize("vectors", [5, 7])
def test_many_rows_agree(vectors):
    # More heads than a block of them, so that a second one has rows behind the first's.
    compare_backends(ssm_scan, inputs(2, 65, 40, 8, vectors=vectors), backends=["cpu"])
    compare_backends(ssm_scan, inputs(1, 5, 300, 2, vectors=vectors), backends=["cpu"])


@pytest.mark.parametrize("vectors", [5, 7])
def test_empty_batch(vectors):
    for name in ("reference", "cpu"):
        case = {k: v.requires_grad_() for k, v in inputs(batch=0, vectors=vectors).items()}
        y, final = ssm_scan(**case, backend=name)
        (y.sum() + final.sum()).backward()
        assert y.shape == (0, T, H)
        assert final.shape == (0, 2, N, H)
        assert torch.equal(case["system"].grad, torch.zeros(vectors, 2, N, H, dtype=F64))


def test_a_zero_second_pair_changes_nothing():
    case = inputs(dtype=torch.float32)
    more = torch.cat([case["system"], torch.zeros(2, 2, N, H)])
    wider = {**case, "system": more}
    assert all(map(torch.equal, ssm_scan(**wider), ssm_scan(**case)))


def test_a_second_pair_is_as_good_as_a_first():
    case = inputs(vectors=7)
    other = {**case, "system": case["system"][[0, 1, 2, 5, 6, 3, 4]]}
    for actual, expected in zip(ssm_scan(**other), ssm_scan(**case), strict=True):
        assert_close(actual, expected)


def test_one_step_under_no_grad_is_the_same_step():
    case = inputs(time=1, vectors=7)
    with torch.no_grad():
        plain = ssm_scan(**case)
    case["system"].requires_grad_()
    assert all(map(torch.equal, ssm_scan(**case), plain))


@pytest.mark.parametrize("vectors", [5, 7])
def test_strides_do_not_matter(vectors):
    case = inputs(vectors=vectors)
    case = {k: v.transpose(0, -1).contiguous().transpose(0, -1) for k, v in case.items()}
    compare_backends(ssm_scan, case, backends=["cpu"])
    u, state, w = (v.requires_grad_() for v in case.values())
    y, final = ssm_scan(u, state, w)
    (y.sum() + final.sum()).backward()  # gradients are expanded scalars
    assert w.grad.isfinite().all()


def test_inputs_are_left_alone():
    case = inputs()
    before = {k: v.clone() for k, v in case.items()}
    ssm_scan(**case)
    assert all(torch.equal(case[k], before[k]) for k in case)


@pytest.mark.parametrize("vectors", [3, 5, 7])
def test_gradcheck(vectors):
    tensors = [v.requires_grad_() for v in inputs(2, 5, 2, 2, vectors=vectors).values()]
    for lengths in (None, torch.tensor([2, 5])):
        assert torch.autograd.gradcheck(functools.partial(ssm_scan, lengths=lengths), tensors)


@pytest.mark.parametrize("vectors", [3, 5, 7])
def test_opcheck(vectors):
    case = inputs(vectors=vectors)
    constants = list(case.values())
    tensors = [v.clone().requires_grad_() for v in constants]
    grads, op = (
        (torch.randn(B, T, H, dtype=F64), torch.ones(B, 2, N, H, dtype=F64)),
        torch.ops.gonzo,
    )
    for lengths in (None, torch.tensor([4, 0, T])):
        torch.library.opcheck(op.ssm_scan.default, (*tensors, lengths, ""))
        for name in ("reference", "cpu"):
            torch.library.opcheck(op.ssm_scan_backward.default, (*grads, *constants, lengths, name))


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("vectors", [5, 7])
def test_compiles_as_one_graph(vectors):
    compiled = torch.compile(ssm_scan, fullgraph=True)
    tensors = [v.requires_grad_() for v in inputs(vectors=vectors).values()]
    grads = torch.randn(B, T, H, dtype=F64), torch.randn(B, 2, N, H, dtype=F64)
    expected = torch.autograd.grad(ssm_scan(*tensors), tensors, grads)
    outputs = compiled(*tensors)
    for actual, output in zip(outputs, ssm_scan(*tensors), strict=True):
        assert_close(actual, output)
    for actual, grad in zip(torch.autograd.grad(outputs, tensors, grads), expected, strict=True):
        assert_close(actual, grad)


@pytest.mark.parametrize("vectors", [5, 7])
def test_results_do_not_depend_on_the_number_of_threads(vectors):
    case = inputs(4, 200, 30, 8, vectors=vectors)
    one = ssm_scan(**case)
    torch.set_num_threads(2)
    assert all(map(torch.equal, ssm_scan(**case), one))


def test_the_backward_has_the_backend_of_the_forward(monkeypatch):
    from gonzo.core.ops.ssm_scan import cpu

    case = {k: v.requires_grad_() for k, v in inputs().items()}
    with backend("reference"):
        y, _ = ssm_scan(**case)
    monkeypatch.setattr(cpu, "backward", None)
    y.sum().backward()


def test_states_are_not_stored():
    case = inputs(2, 2048, 8, 32, vectors=7, dtype=torch.float32)
    tensors = tuple(case.values())
    grads = torch.randn(2, 2048, 8), torch.randn(2, 2, 32, 8)
    needed = peak_memory(functools.partial(torch.autograd.functional.vjp, ssm_scan, tensors, grads))
    assert needed <= 8 * case["u"].nbytes  # every state would be 64 times


@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(2, 30), st.integers(1, 4), st.integers(1, 5)),
    split=st.integers(1, 29),
    seed=st.integers(0, 99),
    vectors=st.sampled_from([3, 5, 7]),
)
@settings(max_examples=25, deadline=None)
def test_a_sequence_may_be_split_anywhere(sizes, split, seed, vectors):
    torch.manual_seed(seed)
    case = inputs(*sizes, vectors=vectors)
    u, state, w = case.values()
    y, final = ssm_scan(u, state, w)
    split = 1 + split % (u.shape[1] - 1)
    first, state = ssm_scan(u[:, :split], state, w)
    second, state = ssm_scan(u[:, split:], state, w)
    assert torch.equal(torch.cat([first, second], 1), y)
    assert torch.equal(state, final)


def test_nan_in_the_input_moves_forward_in_time_only():
    case = inputs()
    case["u"][0, 3, 2] = float("nan")
    with poisoned_allocations():
        for name in ("reference", "cpu"):
            bad = ssm_scan(**case, backend=name)[0].isnan()
            assert bad[0, 3:, 2].all()
            assert bad.sum() == T - 3


u_ok, x_ok, w_ok = torch.zeros(B, T, H), torch.zeros(B, 2, N, H), torch.zeros(5, 2, N, H)
w_nan = torch.zeros(5, 2, N, H)
w_nan[4, 1, 2, 1] = float("nan")


@pytest.mark.parametrize(
    ("kind", "message", "call"),
    [
        (ValueError, r"expected floating-point u of shape \(batch, time, heads\), got .*int64",
         lambda: ssm_scan(u_ok.long(), x_ok, w_ok)),
        (ValueError, r"of shape \(batch, time, heads\), got torch.float32 \(11, 4\)",
         lambda: ssm_scan(u_ok[0], x_ok, w_ok)),
        (ValueError, "expected at least one time step, got length 0",
         lambda: ssm_scan(u_ok[:, :0], x_ok, w_ok)),
        (ValueError, r"state of shape \(batch=3, 2, n, heads=4\), got \(2, 2, 5, 4\)",
         lambda: ssm_scan(u_ok, x_ok[:2], w_ok)),
        (ValueError, r"system of shape \(3, 5 or 7, 2, n=5, heads=4\), got \(4, 2, 5, 4\)",
         lambda: ssm_scan(u_ok, x_ok, w_ok[:4])),
        (ValueError, r"system of shape \(3, 5 or 7, 2, n=5, heads=4\), got \(9, 2, 5, 4\)",
         lambda: ssm_scan(u_ok, x_ok, torch.zeros(9, 2, N, H))),
        (ValueError, r"system of shape \(3, 5 or 7, 2, n=5, heads=4\), got \(5, 2, 4, 4\)",
         lambda: ssm_scan(u_ok, x_ok, w_ok[:, :, :4])),
        (TypeError, "expected a float32 or float64 state, got torch.bfloat16",
         lambda: ssm_scan(u_ok, x_ok.bfloat16(), w_ok)),
        (TypeError, "system must have the state's dtype torch.float32, got torch.float64",
         lambda: ssm_scan(u_ok, x_ok, w_ok.double())),
        (ValueError, r"expected lengths of shape \(3,\), got \(2,\)",
         lambda: ssm_scan(u_ok, x_ok, w_ok, lengths=torch.ones(2))),
        (ValueError, "unknown backend 'cuda'; expected one of reference, cpu, triton",
         lambda: ssm_scan(u_ok, x_ok, w_ok, backend="cuda")),
        (ValueError, "ssm_scan: system holds NaN or infinite values; a parameter of the layer has",
         lambda: ssm_scan(u_ok, x_ok, w_nan)),
    ],
)  # fmt: skip
def test_bad_input_is_explained(kind, message, call):
    with pytest.raises(kind, match=message):
        call()


def test_second_derivatives_are_refused():
    u, state, w = (v.requires_grad_() for v in inputs().values())
    (grad,) = torch.autograd.grad(ssm_scan(u, state, w)[0].square().sum(), w, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        grad.sum().backward()
