"""The kernels of `ssm_scan` against the reference."""

import math

import pytest
import torch

from gonzo.core.ops.ssm_scan import ssm_scan, triton
from gonzo.core.testing import assert_close, compare_backends, poisoned_allocations
from gonzo.core.triton_kernels import recorded_launches

F32, F64 = torch.float32, torch.float64
B, T, H, N = 3, 11, 4, 5  # a group of eight steps and three more


@pytest.fixture
def inputs(device):
    def draw(batch=B, time=T, heads=H, n=N, *, vectors=5, dtype=F32):
        """A stable model a, b, c and pairs p, q, so small that it stays stable."""
        w = torch.randn(vectors, 2, n, heads, dtype=F64)
        size = 0.5 + 0.5 * torch.rand(n, heads, dtype=F64)
        angle = 6.3 * torch.rand(n, heads, dtype=F64)
        w[0] = torch.stack([size * angle.cos() - 1, size * angle.sin()])
        w[3:] /= 4 * n
        return {
            "u": torch.randn(batch, time, heads).to(device, dtype),
            "state": torch.randn(batch, 2, n, heads).to(device, dtype),
            "system": w.to(device, dtype),
        }

    return draw


def agrees(**case):
    compare_backends(ssm_scan, case, backends=["triton"])


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("vectors", [3, 5, 7])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_agrees_with_the_reference(dtype, vectors, with_lengths, inputs, device):
    lengths = torch.tensor([4, 0, T], device=device) if with_lengths else None
    agrees(**inputs(vectors=vectors, dtype=dtype), lengths=lengths)


# Heads across the borders of tiles, n below, at and above a power of two, and so many that a tile
# has several warps.
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(
    "size",
    [(1, 1, 1, 1), (2, 3, 300, 1), (1, 2, 13, 32), (2, 4, 5, 33), (1, 3, 2, 64), (1, 2, 1, 600)],
    ids=str,
)
@pytest.mark.parametrize("vectors", [5, 7])
def test_odd_sizes(size, dtype, vectors, inputs):
    agrees(**inputs(*size, dtype=dtype, vectors=vectors))


@pytest.mark.parametrize("time", [1, 7, 8, 16, 90])
def test_every_way_to_cut_time_into_groups_and_segments(time, inputs):
    agrees(**inputs(1, time, 2, 2))


@pytest.mark.parametrize("lengths", [[0, 0], [1, 8], [9, 24], [-1, 99]], ids=str)
def test_lengths_at_the_borders_of_segments(lengths, inputs, device):
    agrees(**inputs(2, 24, 2, 2), lengths=torch.tensor(lengths, dtype=torch.int32, device=device))


@pytest.mark.parametrize("vectors", [5, 7])
def test_a_chunk_is_its_steps(vectors, inputs):
    u, state, system = inputs(1, T, H, N, vectors=vectors).values()
    y, final = ssm_scan(u, state, system, backend="triton")
    for t in range(T):
        step, state = ssm_scan(u[:, t : t + 1], state, system, backend="triton")
        assert_close(step, y[:, t : t + 1])
    assert_close(state, final)


@pytest.mark.parametrize(("u", "kept"), [(F32, F64), (F64, F32)])
def test_input_and_state_may_differ_in_dtype(u, kept, inputs):
    case = {k: v.to(u if k == "u" else kept) for k, v in inputs(dtype=F64).items()}
    results = []
    for name in ("triton", "reference"):
        leaves = [v.clone().requires_grad_() for v in case.values()]
        y, final = ssm_scan(*leaves, backend=name)
        results.append((y, final, *torch.autograd.grad(y.sum() + final.sum(), leaves)))
    for actual, expected in zip(*results, strict=True):
        why = "computed in float32 where either is"
        assert_close(actual, expected, tolerance=1e-5, because=why)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_keep_a_float32_state(dtype, inputs):
    u, state, system = inputs().values()
    y, final = ssm_scan(u.to(dtype), state, system, backend="triton")
    assert (y.dtype, final.dtype) == (dtype, F32)
    assert_close(y, ssm_scan(u.to(dtype).float(), state, system, backend="reference")[0])


def test_a_step_is_one_launch(inputs):
    u, state, system = inputs(2, 1).values()
    with recorded_launches() as launches:
        triton.forward(u, state, system, None)
    assert len(launches) == 1


def test_strides_do_not_matter(inputs):
    case = {k: v.transpose(0, -1).contiguous().transpose(0, -1) for k, v in inputs().items()}
    agrees(**case)
    leaves = [v.requires_grad_() for v in inputs(1, 3, 2, 2).values()]
    y, final = ssm_scan(*leaves, backend="triton")
    (y.sum() + final.sum()).backward()  # gradients are expanded scalars
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_inputs_are_left_alone(inputs):
    case = inputs()
    before = {k: v.clone() for k, v in case.items()}
    ssm_scan(**case, backend="triton")
    assert all(torch.equal(case[k], before[k]) for k in case)


def test_nan_in_the_input_moves_forward_in_time_only(inputs):
    case = inputs()
    case["u"][0, 3, 2] = math.nan
    with poisoned_allocations():
        bad = ssm_scan(**case, backend="triton")[0].isnan()
    assert bad[0, 3:, 2].all()
    assert bad.sum() == T - 3


@pytest.mark.parametrize("empty", ["batch", "heads", "n"])
def test_nothing_to_do(empty, inputs):
    case = {k: v.requires_grad_() for k, v in inputs(**{empty: 0}).items()}
    y, final = ssm_scan(**case, backend="triton")
    (y.sum() + final.sum()).backward()
    assert y.shape == case["u"].shape
    assert final.shape == case["state"].shape
    assert not y.any()
    assert not case["system"].grad.any()


def test_the_backward_keeps_few_states(monkeypatch):
    """Two √time states of each row, and of each row a gradient of the system."""
    taken = {}
    monkeypatch.setattr(triton, "launch", lambda _, __, *tensors, **___: taken.update(
        (id(t), t.nbytes) for t in tensors if isinstance(t, torch.Tensor)
    ))  # fmt: skip
    u = torch.empty(4, 4096, 64, device="meta")
    state = torch.empty(4, 2, 32, 64, device="meta")
    system = torch.empty(5, 2, 32, 64, device="meta")
    triton.backward(u, state, u, state, system, None)
    assert sum(taken.values()) - 2 * u.nbytes <= (2 * math.isqrt(4096) + 10) * state.nbytes
