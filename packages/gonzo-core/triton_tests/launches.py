"""Every kernel at sizes that are used, as launches that can be compiled ahead of time.

`tools/compile_kernels.py` calls these with ``device="meta"`` and compiles what would be launched;
nothing is read or computed. A case calls the launchers of one op, forward and backward.
"""

from collections.abc import Callable

import torch


def _long_conv(device: str) -> None:
    from gonzo.core.ops.long_conv import triton

    # Long kernels and short ones; a layer hands in a transposed (batch, time, d).
    for batch, d, time, taps, dtype, transposed in (
        (64, 64, 784, 784, torch.float32, True),
        (4, 128, 16384, 16384, torch.bfloat16, False),
        (2, 64, 2048, 2048, torch.float64, True),
        (4, 128, 4096, 4, torch.float32, False),
        (4, 128, 4096, 64, torch.bfloat16, True),
    ):
        shape = (batch, time, d) if transposed else (batch, d, time)
        u = torch.empty(shape, dtype=dtype, device=device)
        u = u.mT if transposed else u
        k = torch.empty(d, taps, dtype=dtype, device=device)
        triton.forward(u, k, 0)
        triton.backward(u, u, k, 0)


def _linear_scan(device: str) -> None:
    from gonzo.core.ops.linear_scan import triton

    # Chunks and the whole of time, every way in which a decay is shared.
    for batch, time, d, decay, dtype in (
        (8, 4096, 512, (8, 4096, 512), torch.float32),
        (64, 1024, 1024, (1024,), torch.bfloat16),
        (8, 4096, 256, (4096, 256), torch.complex64),
        (8, 4096, 256, (8, 4096, 1), torch.float64),
    ):
        a = torch.empty(decay, dtype=dtype, device=device)
        x = torch.empty(batch, time, d, dtype=dtype, device=device)
        triton.forward(a, x, x[:, 0], False, torch.empty_like(x))
        triton.backward(x, a, x, x[:, 0], False)


def _vandermonde(device: str) -> None:
    from gonzo.core.ops.vandermonde import triton

    # Short and long kernels, which have other tiles; a float64 one.
    for heads, n, length, dtype in (
        (256, 32, 16384, torch.float32),
        (256, 32, 1024, torch.float32),
        (64, 32, 2048, torch.float64),
    ):
        z = torch.empty(heads, n, 2, dtype=torch.float64, device=device)
        triton.forward(z, z, length, dtype)
        triton.backward(torch.empty(heads, length, dtype=dtype, device=device), z, z)


def _cauchy(device: str) -> None:
    from gonzo.core.ops.cauchy import triton

    for heads, n, length, dtype in (
        (256, 32, 16384, torch.float32),
        (64, 32, 2048, torch.float64),
    ):
        v = torch.empty(heads, n, 2, dtype=dtype, device=device)
        triton.forward(v, v, v, v, v, length, dtype)
        grad = torch.empty(heads, length, dtype=dtype, device=device)
        triton.backward(grad, v, v, v, v, v)
        row = torch.empty(heads, 2, n, 2, dtype=dtype, device=device)
        square = torch.empty(heads, 2, 2, n, 2, dtype=dtype, device=device)
        triton.forward(v, row, row, square, v, length, dtype)
        triton.backward(grad, v, row, row, square, v)


def _ssm_scan(device: str) -> None:
    from gonzo.core.ops.ssm_scan import triton

    # A chunk, a padded one, a single step, and rank two in both precisions.
    for batch, time, heads, n, vectors, dtype in (
        (16, 1024, 512, 32, 5, torch.float32),
        (16, 1024, 512, 64, 3, torch.float32),
        (4, 512, 64, 32, 5, torch.float64),
        (1, 1, 256, 32, 5, torch.float32),
        (16, 1024, 512, 32, 7, torch.float32),
        (4, 512, 64, 32, 7, torch.float64),
    ):
        u = torch.empty(batch, time, heads, dtype=dtype, device=device)
        state = torch.empty(batch, 2, n, heads, dtype=dtype, device=device)
        system = torch.empty(vectors, 2, n, heads, dtype=dtype, device=device)
        lengths = torch.empty(batch, dtype=torch.int64, device=device) if n == 64 else None
        triton.forward(u, state, system, lengths)
        if time > 1:
            triton.backward(u, state, u, state, system, lengths)


def _linear_attention(device: str) -> None:
    from gonzo.core.ops.linear_attention import n_feature, triton

    # States walked and carried; the three kinds of matrix product; packed, and not causal.
    for batch, heads, time, d, columns, dtype, feature_map, packed, causal in (
        (8, 16, 8192, 16, 64, torch.bfloat16, "taylor", 0, True),
        (1, 8, 8192, 16, 64, torch.float16, "quadratic", 1, True),
        (8, 12, 1024, 64, 64, torch.float32, "identity", 0, False),
    ):
        shape = (batch, time, heads)  # a layer hands in a transposed projection
        q = torch.empty(*shape, d, dtype=dtype, device=device).transpose(1, 2)
        v = torch.empty(*shape, columns, dtype=dtype, device=device).transpose(1, 2)
        wide = torch.promote_types(dtype, torch.float32)
        size = (packed or batch, heads, n_feature(feature_map, d), columns + 1)
        state = torch.empty(size, dtype=wide, device=device)
        divisor = torch.empty(batch, heads, time, dtype=wide, device=device)
        options = (feature_map, d**-0.5, causal, True)
        forward, backward, spans = triton.forward, triton.backward, None
        if packed:
            forward, backward = triton.forward_packed, triton.backward_packed
            spans = torch.empty(packed + 1, dtype=torch.int32, device=device)
        forward(q, q, v, state, spans, *options, 1e-6)
        backward(v, state, q, q, v, state, v, divisor, spans, *options)


def _population_forward(device: str) -> None:
    from gonzo.core.ops.population_forward import triton

    # Samples shared by all networks; a step of an environment each; in float64.
    for networks, samples, nodes, edges, shared, dtype in (
        (10000, 100, 50, 100, True, torch.float32),
        (1000, 1, 20, 40, False, torch.float32),
        (1000, 100, 50, 100, False, torch.float64),
    ):

        def real(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        def integer(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=torch.int32, device=device)

        inputs = real(samples, 4) if shared else real(networks, samples, 4)
        network = (
            *(real(networks, edges), real(networks, nodes), real(networks, nodes)),
            *(integer(networks, edges), integer(networks, nodes + 1), integer(networks)),
            *(integer(networks, nodes), integer(networks, nodes), integer(networks, 2)),
        )
        triton.forward(inputs, *network)
        triton.backward(real(networks, samples, 2), inputs, *network, not shared)


def _csls_topk(device: str) -> None:
    from gonzo.core.ops.csls_topk import triton

    # A dictionary of two words each, whose means keep 10; the most that one walk finds.
    for words, d, k, dtype in (
        (20000, 300, 2, torch.float32),
        (13787, 100, 16, torch.float32),
        (20000, 300, 16, torch.float64),
    ):
        x = torch.empty(words, d, dtype=dtype, device=device)
        triton.csls_topk(x, x, k, 10, None)
        triton.inverted_softmax_topk(x, x, k, 30.0, None)


def _sparse_linear(device: str) -> None:
    from gonzo.core.ops.sparse_linear import triton

    # Every edge and kind of product; a gradient comes transposed, as the forward leaves y.
    for edge, dtype in (
        (16, torch.bfloat16),
        (32, torch.float16),
        (64, torch.bfloat16),
        (128, torch.bfloat16),
        (16, torch.float32),
        (64, torch.float32),
        (128, torch.float32),
        (32, torch.float64),
    ):
        n, batch, n_in, n_out = 1000, 512, 1024, 4096

        def integers(count: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
            return torch.empty(count, dtype=dtype, device=device)

        x = torch.empty(batch, n_in, dtype=dtype, device=device)
        values = torch.empty(n, edge, edge, dtype=dtype, device=device)
        grad = torch.empty(n_out, batch, dtype=dtype, device=device)
        first, columns = integers(n_out // edge + 1), integers(n, torch.uint16)
        transposed = (integers(n_in // edge + 1), integers(n, torch.uint16), integers(n))
        triton.forward(x, values, grad[:, 0], first, columns)
        triton.backward(grad, x, values, first, columns, transposed, (True, True, False))


CASES: dict[str, Callable[[str], None]] = {
    "cauchy": _cauchy,
    "csls_topk": _csls_topk,
    "sparse_linear": _sparse_linear,
    "linear_attention": _linear_attention,
    "linear_scan": _linear_scan,
    "ssm_scan": _ssm_scan,
    "long_conv": _long_conv,
    "population_forward": _population_forward,
    "vandermonde": _vandermonde,
}
