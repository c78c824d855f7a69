"""`sparse_linear` beside the dense product and torch's sparse ones; caches are cold.

``python benchmarks/bench_sparse_linear.py [text]``. A row gives the bytes that ours must move: what
is stored of W (6 bytes a weight), x, and y.
"""

import functools
import warnings

import torch

from gonzo.core.bench import TimeRow, faster_than_peer, main
from gonzo.core.ops.sparse_linear import PackedLinear, SparsePattern, pack_values, sparse_linear

TESTS = ["tests/test_sparse_linear.py"]
OUT, IN = 4096, 1024
BARS = {64: {0.1: 2.8, 0.05: 6, 0.01: 12}, 1: {0.1: 3, 0.05: 5, 0.01: 14}}
linear = torch.nn.functional.linear


def inputs(batch, density, *, block=None, make=None, size=(OUT, IN)):
    """X, the dense weight with zeros, ours packed, and what `make` makes of the weight."""
    warnings.filterwarnings("ignore", message="Sparse .* beta")
    mask = torch.rand(size[0] // (block or 1), size[1] // (block or 1)) < density
    if block:
        mask = mask.repeat_interleave(block, 0).repeat_interleave(block, 1)
    weight = torch.randn(size) * mask
    pattern = SparsePattern.from_mask(mask, block=block)
    packed = PackedLinear(pack_values(weight, pattern), pattern)
    x = torch.randn(batch, size[1])
    torch.testing.assert_close(packed(x), linear(x, weight), atol=1e-3, rtol=1e-3)
    return x, weight, packed, None if make is None else make(weight)


def ours(x, weight, packed, other):
    return packed(x)


def dense(x, weight, packed, other):
    return linear(x, weight)


def linear_of_sparse(x, weight, packed, other):
    return linear(x, other)


def sparse_product(x, weight, packed, other):
    return other @ x.mT


def sparse_vector(x, weight, packed, other):
    return torch.mv(other, x[0])


def gradients(product):
    """A function that runs `product` forward and backward."""

    def run(x, weight, other, grad):
        y = product(x, weight, other)
        return torch.autograd.grad(y, (x, weight), grad)

    return run


def learning(batch, density, packed):
    x, weight, product, _ = inputs(batch, density)
    pattern = product.pattern
    pattern.transposed()
    mask = pattern.mask()
    weight = pack_values(weight, pattern) if packed else weight
    other = pattern if packed else mask
    return x.requires_grad_(), weight.requires_grad_(), other, torch.randn(batch, OUT)


def both(batch, density):
    """Arguments of ours and of the dense layer with a mask, in turn."""
    return *learning(batch, density, True), *learning(batch, density, False)


def train_ours(*arguments):
    return gradients(sparse_linear)(*arguments[:4])


def train_dense(*arguments):
    return gradients(lambda x, weight, mask: linear(x, weight * mask))(*arguments[4:])


def regular(batch, n_out, n_in, block, dtype):
    """A tenth of the blocks, as many in every row; x, values, structure, and a dense weight."""
    n = max(1, n_in // block // 10)
    first = torch.arange(n_out // block + 1, dtype=torch.int32) * n
    columns = torch.arange(n, dtype=torch.int32).repeat(n_out // block)
    values = torch.randn(len(columns), block, block).to(dtype)
    x, weight = torch.randn(batch, n_in).to(dtype), torch.randn(n_out, n_in).to(dtype)
    return x, values, first, columns * (n_in // block // n), weight


def block_rows(size, dtype):
    """Rows for a GPU: a tenth of the blocks beside the dense product, forward and backward."""
    batch, n_out, n_in, block = size

    def multiplied(x, values, first, columns, weight):
        return sparse_linear(x, values, SparsePattern((n_out, n_in), block, first, columns))

    def trained(x, values, *rest):
        x, values = x.detach().requires_grad_(), values.detach().requires_grad_()
        return torch.autograd.grad(multiplied(x, values, *rest).sum(), (x, values))

    def whole(x, values, first, columns, weight):
        return linear(x, weight)

    def whole_trained(x, values, first, columns, weight):
        x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
        return torch.autograd.grad(linear(x, weight).sum(), (x, weight))

    what = (
        f"sparse_linear {n_in} → {n_out}, batch {batch}, a tenth of the blocks of {block}, {dtype}"
    )
    for name, call, peer in (
        ("forward", multiplied, whole),
        ("forward+backward", trained, whole_trained),
    ):
        yield TimeRow(
            what=f"{what}, {name}",
            ours=call,
            peer=peer,
            peer_name="F.linear, dense",
            setup=functools.partial(regular, *size, dtype),
            tests=TESTS,
        )


def rows():
    found = []
    row = functools.partial(TimeRow, ours=ours, tests=TESTS, caches="cold", sets=4)
    for batch, bars in BARS.items():
        for density, bar in bars.items():
            alive = round(density * OUT * IN)
            moved = (6 * alive + 4 * batch * (OUT + IN)) / 1e6
            what = f"sparse_linear {IN} → {OUT}, batch {batch}, {1 - density:.0%} sparse"
            make = functools.partial(functools.partial, inputs, batch, density)
            found.append(
                row(
                    what=f"{what}, {2e-6 * alive * batch:.3g} MFLOP, {moved:.3g} MB",
                    peer=dense,
                    peer_name="F.linear, dense",
                    bar=faster_than_peer(bar),
                    setup=make(),
                )
            )
            peers = {
                "F.linear with CSR": (linear_of_sparse, torch.Tensor.to_sparse_csr),
                "BSR of 16 × 16 @ x.T": (
                    sparse_product,
                    functools.partial(torch.Tensor.to_sparse_bsr, blocksize=(16, 16)),
                ),
                **(
                    {"mv of CSR": (sparse_vector, torch.Tensor.to_sparse_csr)}
                    if batch == 1
                    else {"CSR @ x.T": (sparse_product, torch.Tensor.to_sparse_csr)}
                ),
            }
            for name, (call, convert) in peers.items():
                found.append(
                    row(
                        what=f"{what}, beside {name}",
                        peer=call,
                        peer_name=name,
                        setup=make(make=convert),
                    )
                )
    for batch in (8, 256):
        found.append(
            row(
                what=f"sparse_linear {IN} → {OUT}, batch {batch}, 95% sparse",
                peer=dense,
                peer_name="F.linear, dense",
                setup=functools.partial(inputs, batch, 0.05),
            )
        )
    for batch in (1, 64):
        bsr = functools.partial(torch.Tensor.to_sparse_bsr, blocksize=(16, 16))
        make = functools.partial(inputs, batch, 0.1, block=16, make=bsr)
        what = f"sparse_linear {IN} → {OUT}, batch {batch}, 10% of the blocks of 16 × 16"
        found.append(row(what=what, peer=dense, peer_name="F.linear, dense", setup=make))
        found.append(
            row(
                what=f"{what}, beside BSR",
                peer=sparse_product,
                peer_name="BSR of 16 × 16 @ x.T",
                setup=make,
            )
        )
    for density in (0.1, 0.05):
        found.append(
            row(
                what=f"sparse_linear {IN} → {OUT}, batch 64, {1 - density:.0%} sparse, "
                "forward+backward",
                ours=train_ours,
                peer=train_dense,
                peer_name="F.linear of the weight times the mask",
                setup=functools.partial(both, 64, density),
            )
        )
    return found


if __name__ == "__main__":
    raise SystemExit(main(rows(), package="gonzo-core", script=__file__))
