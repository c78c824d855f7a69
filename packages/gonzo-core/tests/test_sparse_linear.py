import threading

import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.core.ops.sparse_linear import (
    PackedLinear,
    SparsePattern,
    cpu,
    pack_values,
    sparse_linear,
    unpack_values,
)
from gonzo.core.testing import TOLERANCE, assert_close, compare_backends, poisoned_allocations

F32, F64 = torch.float32, torch.float64


def drawn(*shape, dtype=F64):
    return torch.randn(shape).to(dtype)


def case(n_out, n_in, *, density=0.4, block=None, dtype=F64, batch=3):
    """A pattern and arguments by name; the first row of the mask is empty where there are two."""
    mask = torch.rand(n_out, n_in) < density
    if n_out > 1 and block is None:
        mask[0] = False
    pattern = SparsePattern.from_mask(mask, block=block)
    return {
        "x": drawn(batch, n_in, dtype=dtype),
        "values": drawn(*pattern.values_shape, dtype=dtype),
        "pattern": pattern,
        "bias": drawn(n_out, dtype=dtype),
    }


@pytest.mark.parametrize("which", ["reference", "cpu"])
def test_a_product_by_hand(which):
    mask = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    pattern = SparsePattern.from_mask(mask)
    values, x = torch.tensor([2.0, 3.0, 5.0]), torch.tensor([[1.0, 10.0, 100.0], [0.0, 1.0, 0.0]])
    y = sparse_linear(x, values, pattern, torch.tensor([0.5, 7.0, 0.0]), backend=which)
    assert y.tolist() == [[302.5, 7.0, 50.0], [0.5, 7.0, 5.0]]
    assert sparse_linear(x, values, pattern, backend=which).tolist() == [[302, 0, 50], [0, 0, 5]]


@pytest.mark.parametrize("which", ["reference", "cpu"])
@pytest.mark.parametrize("block", [None, 3])
def test_is_scipys_product(which, block):
    arguments = case(30, 21, block=block, batch=70)
    pattern, x = arguments["pattern"], arguments["x"]
    weight = unpack_values(arguments["values"], pattern).numpy()
    matrix = scipy.sparse.csr_array(weight) if block is None else scipy.sparse.bsr_array(weight)
    expected = (matrix @ x.numpy().T).T + arguments["bias"].numpy()
    assert_close(sparse_linear(**arguments, backend=which), torch.from_numpy(expected))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("batch", [0, 1, 2, 7, 8, 9, 31, 64, 65, 130])
def test_backends_agree(batch, dtype):
    compare_backends(sparse_linear, case(13, 37, batch=batch, dtype=dtype), backends=["cpu"])


@pytest.mark.parametrize("block", [2, 3, 4, 6, 12])
@pytest.mark.parametrize("batch", [1, 5, 16, 40, 65])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_backends_agree_on_blocks(block, batch, dtype):
    arguments = case(24, 36, density=0.05, block=block, batch=batch, dtype=dtype)
    compare_backends(sparse_linear, arguments, backends=["cpu"])


@pytest.mark.parametrize(("n_out", "n_in"), [(1, 1), (1, 50), (50, 1), (0, 3), (3, 0), (5, 400)])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("batch", [1, 66])
def test_backends_agree_at_the_edges(n_out, n_in, density, batch):
    arguments = case(n_out, n_in, density=density, batch=batch)
    compare_backends(sparse_linear, arguments, backends=["cpu"])
    del arguments["bias"]
    compare_backends(sparse_linear, arguments, backends=["cpu"])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20), st.integers(1, 40), st.integers(0, 70), st.floats(0, 1), st.integers(0, 99)
)
def test_any_pattern_agrees(n_out, n_in, batch, density, seed):
    torch.manual_seed(seed)
    # In float64: sums that happen to cancel, of one row say, are ill-conditioned in float32.
    arguments = case(n_out, n_in, density=density, batch=batch, dtype=F64)
    compare_backends(sparse_linear, arguments, backends=["cpu"], seed=seed)


def test_columns_beyond_sixteen_bits():
    mask = torch.zeros(3, 70_000, dtype=torch.bool)
    mask[:, [0, 1, 65_535, 65_536, 69_999]] = True
    pattern = SparsePattern.from_mask(mask)
    assert pattern.columns.dtype == torch.int32
    for batch in (1, 3):
        arguments = {"x": drawn(batch, 70_000), "values": drawn(15), "pattern": pattern}
        compare_backends(sparse_linear, arguments, backends=["cpu"])
    assert SparsePattern.from_mask(mask[:, : 1 << 16]).columns.dtype == torch.uint16


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("n_in", [40, 3])
def test_rows_see_their_own_weights_alone(batch, n_in):
    """What a vector reads beyond the end of a row, infinite here, stays out of it."""
    mask = torch.zeros(4, n_in, dtype=torch.bool)
    mask[0, :2] = mask[1, 2:] = mask[2, 0] = True
    pattern = SparsePattern.from_mask(mask)
    x = torch.ones(batch, n_in)
    x[:, 2:] = torch.inf
    values = torch.ones(pattern.n_alive)
    with poisoned_allocations():
        y = sparse_linear(x, values, pattern)
    assert torch.equal(y, torch.tensor([2, torch.inf, 1, 0]).expand(batch, 4))
    values[2:-1] = torch.nan
    y = sparse_linear(torch.ones(batch, n_in), values, pattern)
    assert y.isnan().any(0).tolist() == [False, True, False, False]


@pytest.mark.parametrize("batch", [1, 5, 64, 65])
@pytest.mark.parametrize("block", [None, 3])
def test_strides_do_not_matter(batch, block):
    arguments = case(12, 30, batch=batch, block=block, dtype=F32)
    x = arguments.pop("x")
    expected = sparse_linear(x, **arguments)
    wide = torch.cat([x, x], 1).repeat_interleave(2, 0)
    shifted = torch.cat([x.new_zeros(1), x.mT.flatten()])[1:].view(30, batch).mT  # not aligned
    for same in (x.mT.contiguous().mT, wide[::2, :30], shifted):
        assert torch.equal(same, x)
        assert torch.equal(sparse_linear(same, **arguments), expected)
        compare_backends(sparse_linear, {"x": same, **arguments}, backends=["cpu"])
    same = x[:1].expand(batch, 30)
    assert_close(sparse_linear(same, **arguments), expected[:1].expand(batch, 12))


def test_layers_hand_on_their_memory_order():
    first, second = case(20, 10, batch=64, dtype=F32), case(7, 20, dtype=F32)
    second["x"] = sparse_linear(**first).relu()
    assert second["x"].mT.is_contiguous()
    y = sparse_linear(**second)
    second["x"] = second["x"].contiguous()
    assert torch.equal(sparse_linear(**second), y)


@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (2, 0, 3), (1, 1, 1)])
@pytest.mark.parametrize("which", ["reference", "cpu"])
def test_leading_dimensions(lead, which):
    arguments = case(4, 6)
    x = drawn(*lead, 6).requires_grad_()
    y = sparse_linear(x, *list(arguments.values())[1:], backend=which)
    weight = unpack_values(arguments["values"], arguments["pattern"])
    expected = torch.nn.functional.linear(x, weight, arguments["bias"])
    assert y.shape == (*lead, 4)
    torch.testing.assert_close(y, expected)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, weight.sum(0).expand(*lead, 6))


@pytest.mark.parametrize("block", [None, 4])
@pytest.mark.parametrize("batch", [1, 70])
def test_threads_do_not_change_a_bit(monkeypatch, block, batch):
    monkeypatch.setattr(cpu, "_WORTH_THREADS", 0)
    arguments = case(36, 44, block=block, batch=batch, dtype=F32)
    learning = [arguments[n].requires_grad_() for n in ("x", "values", "bias")]
    results = []
    for threads in (1, 2, 3, 50):
        torch.set_num_threads(threads)
        y = sparse_linear(**arguments)
        results.append((y, *torch.autograd.grad(y, learning, torch.ones(batch, 36))))
    for result in results[1:]:
        for a, b in zip(result[:3], results[0][:3], strict=True):
            assert torch.equal(a, b)
        assert_close(result[3], results[0][3])  # dense sums, and torch's


def test_concurrent_calls(monkeypatch):
    monkeypatch.setattr(cpu, "_WORTH_THREADS", 0)
    arguments = case(36, 44, batch=9, dtype=F32)
    expected, found = sparse_linear(**arguments), []
    threads = [
        threading.Thread(target=lambda: found.append(sparse_linear(**arguments))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(torch.equal(y, expected) for y in found)


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("which", ["reference", "cpu"])
@pytest.mark.parametrize("batch", [1, 3])
def test_gradcheck(block, which, batch):
    a = case(4, 6, block=block, batch=batch)
    inputs = [a[n].requires_grad_() for n in ("x", "values", "bias")]
    torch.autograd.gradcheck(
        lambda x, values, bias: sparse_linear(x, values, a["pattern"], bias, backend=which), inputs
    )


def test_only_gradients_that_are_asked_for():
    a = case(4, 6)
    a["values"].requires_grad_()
    (grad,) = torch.autograd.grad(sparse_linear(**a).sum(), a["values"])
    dense = unpack_values(a["values"], a["pattern"]).detach().requires_grad_()
    torch.nn.functional.linear(a["x"], dense).sum().backward()
    assert_close(grad, pack_values(dense.grad, a["pattern"]))


def test_a_second_derivative_is_refused():
    a = case(4, 6)
    x = a.pop("x").requires_grad_()
    (grad,) = torch.autograd.grad(sparse_linear(x, **a).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        grad.sum().backward()


@pytest.mark.parametrize("block", [None, 2])
def test_opcheck(block):
    a = case(4, 6, block=block)
    x, values, bias = (a[n].requires_grad_() for n in ("x", "values", "bias"))
    p = a["pattern"]
    structure = (p.first, p.columns, *p.transposed())
    torch.library.opcheck(torch.ops.gonzo.sparse_linear.default, (x, values, bias, *structure, ""))
    plain = (drawn(4, 3), x.detach(), values.detach(), *structure)
    for name in ("reference", "cpu"):
        for wanted in ([True] * 3, [False, True, False]):
            torch.library.opcheck(
                torch.ops.gonzo.sparse_linear_backward.default, (*plain, wanted, name)
            )


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("block", [None, 2])
def test_compiles(block):
    a = case(4, 6, block=block, dtype=F32)
    inputs = [a[n].requires_grad_() for n in ("x", "values", "bias")]
    compiled = torch.compile(
        lambda x, values, bias: sparse_linear(x, values, a["pattern"], bias).relu(), fullgraph=True
    )
    y, expected = compiled(*inputs), sparse_linear(**a).relu()
    assert_close(y, expected)
    grads = [torch.autograd.grad(z.square().sum(), inputs) for z in (y, expected)]
    for actual, e in zip(*grads, strict=True):
        assert_close(actual, e)


def test_dtypes_promote_and_autocast_stays_outside():
    a = case(8, 40, dtype=F32, batch=5)
    expected = sparse_linear(**a)
    half = sparse_linear(a["x"].bfloat16(), a["values"], a["pattern"], a["bias"])
    assert half.dtype == F32
    assert torch.equal(half, sparse_linear(a["x"].bfloat16().float(), *list(a.values())[1:]))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sparse_linear(**a), expected)
        assert_close(sparse_linear(**a, backend="reference"), expected)
    assert sparse_linear(a["x"].double(), *list(a.values())[1:]).dtype == F64


@pytest.mark.parametrize("block", [None, 3])
def test_values_go_there_and_back(block):
    mask = torch.rand(9, 12) < 0.2
    mask[4:7] = False
    pattern = SparsePattern.from_mask(mask, block=block)
    assert (pattern.mask() & mask).equal(mask)
    assert block or pattern.mask().equal(mask)
    assert pattern.n_alive == pattern.mask().sum()
    assert pattern.density == pytest.approx(pattern.mask().double().mean().item())
    weight = drawn(9, 12)
    values = pack_values(weight, pattern)
    assert values.shape == pattern.values_shape
    assert torch.equal(unpack_values(values, pattern), weight * pattern.mask())
    if block is None:
        assert torch.equal(values, weight[mask])  # row-major
    torch.autograd.gradcheck(lambda w: pack_values(w, pattern), weight.requires_grad_())
    torch.autograd.gradcheck(lambda v: unpack_values(v, pattern), values.detach().requires_grad_())


@pytest.mark.parametrize("block", [None, 3])
def test_the_transposed_pattern(block):
    mask = torch.rand(9, 12) < 0.3
    pattern = SparsePattern.from_mask(mask, block=block)
    first, rows, order = pattern.transposed()
    values = drawn(*pattern.values_shape)
    transposed = SparsePattern.from_mask(mask.mT.contiguous(), block=block)
    assert torch.equal(first, transposed.first)
    assert torch.equal(rows.long(), transposed.columns.long())
    turned = values[order.long()] if block is None else values[order.long()].mT
    weight = unpack_values(values, pattern)
    assert torch.equal(unpack_values(turned, transposed), weight.mT)
    assert pattern.transposed() is pattern.transposed()


@pytest.mark.parametrize("block", [None, 4])
@pytest.mark.parametrize("shape", [(12,), (1, 12), (5, 12), (64, 12), (2, 3, 12), (0, 12)])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_packed_is_the_same_bit_for_bit(block, shape, dtype):
    a = case(8, 12, block=block, dtype=dtype)
    x = drawn(*shape, dtype=dtype).requires_grad_()
    packed = PackedLinear(a["values"].requires_grad_(), a["pattern"], a["bias"])
    y = packed(x)
    assert not y.requires_grad
    assert torch.equal(y, sparse_linear(x, *list(a.values())[1:]))
    assert "8 × 12" in repr(packed)


def test_packed_shares_memory():
    a = case(5, 7)
    x = a.pop("x")
    packed = PackedLinear(**a)
    a["values"].mul_(2)
    a["bias"].zero_()
    assert torch.equal(packed(x), sparse_linear(x, **a))


def test_a_sparse_layer_learns():
    a = case(3, 8, batch=50)
    target = sparse_linear(**a)
    learning = [torch.zeros_like(a[n]).requires_grad_() for n in ("values", "bias")]
    optimizer = torch.optim.Adam(learning, lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (
            (sparse_linear(a["x"], learning[0], a["pattern"], learning[1]) - target).square().mean()
        )
        loss.backward()
        optimizer.step()
    assert loss < 1e-4
    assert (learning[0] - a["values"]).abs().max() < 0.1


def test_bad_masks():
    with pytest.raises(
        TypeError, match=r"expected a bool mask, got torch.float32; use weight != 0"
    ):
        SparsePattern.from_mask(torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"expected a mask of shape \(out, in\), got \(4,\)"):
        SparsePattern.from_mask(torch.ones(4, dtype=torch.bool))
    for block in (3, 0, -2):
        with pytest.raises(ValueError, match=rf"blocks of {block} do not divide .* \(4, 6\)"):
            SparsePattern.from_mask(torch.ones(4, 6, dtype=torch.bool), block=block)


def test_bad_arguments():
    a = case(4, 6)
    x, values, pattern, bias = a.values()
    with pytest.raises(ValueError, match=r"expected x of shape \(..., 6\), got \(3, 5\)"):
        sparse_linear(x[:, :5], values, pattern)
    with pytest.raises(ValueError, match=r"got \(6, 3\); did you mean x.mT\?"):
        sparse_linear(x.mT, values, pattern)
    with pytest.raises(ValueError, match=r"expected x of shape"):
        sparse_linear(x.sum(), values, pattern)
    with pytest.raises(ValueError, match=r"expected values of shape .* pack_values"):
        sparse_linear(x, values[1:], pattern)
    with pytest.raises(ValueError, match=r"expected a bias of shape \(4,\), got \(3,\)"):
        sparse_linear(x, values, pattern, bias[1:])
    with pytest.raises(TypeError, match=r"expected x to be real floating point, got torch.int64"):
        sparse_linear(x.long(), values, pattern)
    with pytest.raises(TypeError, match="expected values to be real floating point"):
        sparse_linear(x, values.cfloat(), pattern)
    with pytest.raises(ValueError, match=r"x is on meta, but the pattern on cpu; use pattern.to"):
        sparse_linear(x.to("meta"), values, pattern)
    with pytest.raises(ValueError, match="unknown backend 'gpu'"):
        sparse_linear(x, values, pattern, backend="gpu")
    with pytest.raises(ValueError, match=r"expected a weight of shape \(4, 6\)"):
        pack_values(torch.ones(6, 4), pattern)
    with pytest.raises(ValueError, match=r"unpack_values: expected values of shape"):
        unpack_values(values[1:], pattern)


def test_bad_arguments_of_packed():
    a = case(4, 6)
    x, values, pattern, bias = a.values()
    packed = PackedLinear(values, pattern)
    with pytest.raises(ValueError, match=r"expected x of shape \(..., 6\), got \(3, 5\)"):
        packed(x[:, :5])
    with pytest.raises(ValueError, match=r"expected x of shape \(..., 6\), got \(\)"):
        packed(x.sum())
    with pytest.raises(TypeError, match=r"expected x in torch.float64, got torch.float32"):
        packed(x.float())
    with pytest.raises(ValueError, match="expected x on the CPU, got meta"):
        packed(x.to("meta"))
    with pytest.raises(
        TypeError, match=r"float32 or float64, got torch.bfloat16; use values.float"
    ):
        PackedLinear(values.bfloat16(), pattern)
    with pytest.raises(ValueError, match=r"expected a bias of shape \(4,\) in torch.float64"):
        PackedLinear(values, pattern, bias.float())
    with pytest.raises(ValueError, match="expected values of shape"):
        PackedLinear(values[1:], pattern)


def test_the_pattern_says_what_it_is():
    pattern = SparsePattern.from_mask(torch.eye(4, dtype=torch.bool))
    assert repr(pattern) == "SparsePattern(4 × 4, 4 alive, 25.00%, cpu)"
    assert "block=2" in repr(SparsePattern.from_mask(torch.eye(4, dtype=torch.bool), block=2))
    assert pattern.to("cpu") is pattern
    assert pattern.to("meta").device.type == "meta"
    assert SparsePattern.from_mask(torch.ones(0, 3, dtype=torch.bool)).density == 0


def test_a_pattern_that_was_first_used_for_inference_trains_later():
    arguments = case(6, 5, batch=3)
    learning = [arguments[n].requires_grad_() for n in ("x", "values")]
    with torch.inference_mode(), torch.enable_grad():
        sparse_linear(**arguments)
    y = sparse_linear(**arguments)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(y.sum(), learning))


def test_packed_without_inputs_gives_the_bias():
    pattern = SparsePattern.from_mask(torch.ones(3, 0, dtype=torch.bool))
    bias = torch.tensor([1.0, 2.0, 3.0])
    layer = PackedLinear(torch.empty(0), pattern, bias)
    for batch in (1, 4):
        assert torch.equal(layer(torch.empty(batch, 0)), bias.expand(batch, 3))
