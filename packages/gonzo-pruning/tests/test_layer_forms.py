"""Every form of a pruned matrix against the dense product in float64, and what is offered when."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from gonzo.pruning.direct_conv import DirectConv, can_shift
from gonzo.pruning.form_timing import time_forms
from gonzo.pruning.layer_forms import FORMS, Compact, SparseLinear, TorchSparse, forms_of
from gonzo.pruning.sparse_conv import SparseConv, can_unfold, matrix_of, rows_seen
from gonzo.pruning.two_four import fits_two_four, has_two_of_four


def sparse(*shape, density=0.2, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype) * (torch.rand(shape) < density)


def in_blocks(n_out, n_in, block, density=0.3):
    alive = torch.rand(n_out // block, n_in // block) < density
    alive = alive.repeat_interleave(block, 0).repeat_interleave(block, 1)
    return torch.randn(n_out, n_in, dtype=torch.float64) * alive


MAKERS = {
    "csr": TorchSparse,
    "bsr": lambda w, b: TorchSparse(w, b, 8),
    "sparse_linear": SparseLinear,
    "sparse_linear in blocks": lambda w, b: SparseLinear(w, b, 8),
    "compact": Compact,
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("rows", [(1,), (5,), (0,), (2, 3), (0, 3), (), (1, 1)])
@pytest.mark.parametrize("biased", [True, False])
def test_forms_equal_the_dense_layer(kind, rows, biased):
    weight = in_blocks(16, 24, 8)
    weight[3] = 0
    bias = torch.randn(16, dtype=torch.float64) if biased else None
    x = torch.randn(*rows, 24, dtype=torch.float64)
    got = MAKERS[kind](weight, bias)(x)
    torch.testing.assert_close(got, F.linear(x, weight, bias), rtol=1e-12, atol=1e-12)
    assert got.ndim == 2 or got.is_contiguous()


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("density", [0.0, 1.0])
def test_nothing_and_everything_alive(kind, density):
    weight, bias = sparse(8, 16, density=density), torch.randn(8, dtype=torch.float64)
    x = torch.randn(3, 16, dtype=torch.float64)
    torch.testing.assert_close(MAKERS[kind](weight, bias)(x), F.linear(x, weight, bias))


@pytest.mark.parametrize("kind", MAKERS)
def test_forms_can_be_copied_and_converted_after_use(kind):
    weight, bias = in_blocks(16, 24, 8), torch.randn(16, dtype=torch.float64)
    x = torch.randn(3, 24, dtype=torch.float64)
    form = MAKERS[kind](weight, bias)
    expected = form(x)
    copied = copy.deepcopy(form)
    assert torch.equal(copied(x), expected)
    torch.testing.assert_close(copied.float()(x.float()), expected.float())
    assert torch.equal(form(x), expected)


@pytest.mark.parametrize("kind", MAKERS)
def test_forms_run_in_inference_mode_and_under_no_grad(kind):
    weight, bias = in_blocks(16, 24, 8), torch.randn(16, dtype=torch.float64)
    form, x = MAKERS[kind](weight, bias), torch.randn(3, 24, dtype=torch.float64)
    with torch.no_grad():
        expected = form(x)
    with torch.inference_mode():
        assert torch.equal(form(x), expected)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([name for name in MAKERS if "b" not in name.split()[-1][:1]]),
    st.integers(1, 9), st.integers(1, 9), st.integers(0, 4),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(0, 2**31),
)  # fmt: skip
def test_any_sizes(kind, n_out, n_in, rows, density, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n_out, n_in, dtype=torch.float64, generator=generator)
    weight *= torch.rand(n_out, n_in, generator=generator) < density
    x = torch.randn(rows, n_in, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(MAKERS[kind](weight, None)(x), x @ weight.mT)


def offered(weight, rows=4, wanted=FORMS):
    return [label for label, _ in forms_of(weight, None, rows, wanted)]


def test_which_forms_are_offered():
    assert offered(sparse(64, 64, density=0.5)) == ["csr @ x.T", "sparse_linear"]
    assert offered(sparse(64, 64, density=0.5), rows=1)[0] == "csr matrix-vector"
    blocks = in_blocks(64, 64, 16)
    assert "bsr of 16 @ x.T" in offered(blocks)
    assert "sparse_linear, blocks of 8" in offered(blocks)
    assert offered(blocks, wanted=("csr",)) == ["csr @ x.T"]
    assert not any("block" in label or "bsr" in label for label in offered(sparse(63, 64)))
    empty = sparse(64, 64)
    empty[:, :40] = 0
    assert offered(empty)[-1] == "smaller dense"
    labels = [
        label
        for label, make in forms_of(blocks, None, 4)
        if make().multiply(torch.randn(2, 64).double()) is not None
    ]
    assert labels == offered(blocks)


def test_two_of_four():
    weight = torch.tensor([[1.0, 0, 2, 0, 0, 0, 0, 3], [0, 0, 0, 0, 4, 5, 0, 0]])
    assert has_two_of_four(weight)
    weight[1, 7] = 1
    assert not has_two_of_four(weight)
    assert not has_two_of_four(torch.zeros(4, 6))
    assert not fits_two_four(torch.zeros(64, 64, dtype=torch.float16))  # not on a GPU


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, 3, padding=1, stride=2), nn.Conv2d(3, 5, 1),
        nn.Conv2d(3, 5, 1, stride=2), nn.Conv2d(3, 5, 1, padding=1),
        nn.Conv2d(3, 5, (2, 3), dilation=(1, 2)),
        nn.Conv2d(3, 5, 3, bias=False), nn.Conv1d(3, 5, 3, padding=2, dilation=2),
        nn.Conv1d(3, 5, 1),         nn.Conv1d(3, 5, 4, stride=3),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("batch", [(1,), (4,), ()])
@pytest.mark.parametrize("kind", ["csr", "sparse_linear", "compact"])
def test_convolutions(conv, batch, kind):
    conv = copy.deepcopy(conv).double()
    with torch.no_grad():
        conv.weight *= torch.rand(conv.weight.shape) < 0.3
    assert can_unfold(conv)
    x = torch.randn(*batch, 3, *(11, 9)[: conv.weight.ndim - 2], dtype=torch.float64)
    bias = None if conv.bias is None else conv.bias.detach()
    form = SparseConv(MAKERS[kind](matrix_of(conv), bias), conv)
    got, expected = form(x), conv(x)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert got.is_contiguous()
    assert rows_seen(conv, x) == expected.numel() // 5
    linear = nn.Linear(7, 2)
    assert rows_seen(linear, torch.zeros(4, 3, 7)) == 12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("batch", [(1,), (3,), (0,), ()])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 5, 1, bias=False),
        nn.Conv2d(3, 5, (2, 3), dilation=(1, 2), padding=(2, 0)), nn.Conv1d(3, 5, 4, padding=2),
        nn.Conv1d(3, 5, 1), nn.Conv1d(3, 5, 3, dilation=3),
    ],
    ids=str,
)  # fmt: skip
def test_sums_of_shifted_images(conv, density, batch, dtype):
    conv = copy.deepcopy(conv).to(dtype).requires_grad_(False)
    conv.weight *= torch.rand(conv.weight.shape) < density
    assert can_shift(conv)
    form = DirectConv(conv)
    for size in ((11, 9), (8, 40)):
        x = torch.randn(*batch, 3, *size[: conv.weight.ndim - 2], dtype=dtype)
        got = form(x)
        torch.testing.assert_close(got, conv(x))
        assert got.is_contiguous()
    assert torch.equal(copy.deepcopy(form)(x), got)


def test_sums_of_shifted_images_take_wide_and_large_images_in_pieces(monkeypatch):
    conv = nn.Conv2d(2, 3, 3, padding=1).double().requires_grad_(False)
    for size in ((5, 2000), (300, 33)):
        x = torch.randn(2, 2, *size, dtype=torch.float64)
        torch.testing.assert_close(DirectConv(conv)(x), conv(x))
    torch.set_num_threads(3)
    several = DirectConv(conv)(x)
    torch.set_num_threads(1)
    assert torch.equal(DirectConv(conv)(x), several)


def test_every_output_is_written(monkeypatch):
    conv = nn.Conv2d(2, 3, 3).requires_grad_(False)
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda self, *size: empty(self, *size).fill_(float("nan"))
    )
    assert DirectConv(conv)(torch.randn(2, 2, 9, 40)).isfinite().all()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 3, groups=2), nn.Conv3d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, dtype=torch.bfloat16), nn.Conv2d(4, 4, 3, device="meta"),
        nn.Linear(4, 4),
    ],
    ids=str,
)  # fmt: skip
def test_convolutions_that_are_not_shifted(conv):
    assert not can_shift(conv)


def test_convolutions_that_are_not_unfolded():
    assert not can_unfold(nn.Conv2d(4, 4, 3, groups=2))
    assert not can_unfold(nn.Conv2d(4, 4, 3, padding="same"))
    assert not can_unfold(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))
    assert not can_unfold(nn.Conv3d(4, 4, 3))
    assert not can_unfold(nn.Linear(4, 4))


def test_times_are_of_each_call_and_hopeless_ones_stop_early():
    counts = {"short": 0, "long": 0}

    def spin(name, n):
        counts[name] += 1
        return sum(range(n))

    times = time_forms(
        {"short": lambda: spin("short", 2000), "long": lambda: spin("long", 40000)},
        device=torch.device("cpu"), seconds=0.05,
    )  # fmt: skip
    assert list(times) == ["short", "long"]
    assert 5 < times["long"] / times["short"] < 80
    assert counts["long"] == 8  # once to warm up
    assert counts["short"] > 50


def test_cold_calls_find_their_data_gone():
    x = torch.zeros(50_000)
    device = torch.device("cpu")
    warm = time_forms({"x": x.sum}, device=device, seconds=0.01)["x"]
    assert time_forms({"x": x.sum}, device=device, seconds=0.01, cold=True)["x"] > 1.1 * warm


def test_the_wall_clock_is_used_with_several_threads(monkeypatch):
    import time

    torch.set_num_threads(2)
    monkeypatch.setattr(time, "thread_time", None)
    assert time_forms({"x": lambda: 0}, device=torch.device("cpu"), seconds=0)["x"] < 1e-3


def test_direct_convolution_refuses_what_would_be_read_wrongly():
    direct = DirectConv(nn.Conv2d(4, 2, 3).requires_grad_(False))
    with pytest.raises(ValueError, match=r"images of 4 channels in torch.float32, got .*\(1, 1, 8"):
        direct(torch.randn(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"images of 4 channels .* in torch.float64"):
        direct(torch.randn(1, 4, 8, 8, dtype=torch.float64))
