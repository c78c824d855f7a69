"""`linear_attention` with each fused map, beside torch's exact attention of the same shape."""

import functools

import torch
from torch.nn.functional import scaled_dot_product_attention

from gonzo.core.bench import TimeRow, main
from gonzo.core.ops.linear_attention import linear_attention

D_KEY = {"identity": 64, "elu": 64, "taylor": 16, "quadratic": 16, "softmax_pair": 64}
PEER = "scaled_dot_product_attention, d64"
TESTS = ["tests/test_linear_attention.py"]


def tensors(feature_map, heads, time, dtype):
    """Queries and keys of ours, those of the peer, values."""
    d_key = D_KEY[feature_map]
    ours = [torch.rand(1, heads, time, d_key, dtype=dtype) for _ in range(2)]
    peers = [torch.randn(1, heads, time, 64, dtype=dtype) for _ in range(2)]
    return *ours, *peers, torch.randn(1, heads, time, 64, dtype=dtype)


def learning(*size):
    made = [x.requires_grad_() for x in tensors(*size)]
    return *made, torch.randn_like(made[-1])


def rows(feature_map, heads=8, time=2048, dtype=torch.float32):
    def ours(q, k, q2, k2, v):
        return linear_attention(q, k, v, feature_map=feature_map)[0]

    def peer(q, k, q2, k2, v):
        return scaled_dot_product_attention(q2, k2, v, is_causal=True)

    def ours_and_back(*arguments):
        *inputs, grad = arguments
        q, k, _, _, v = inputs
        return torch.autograd.grad(ours(*inputs), (q, k, v), grad)

    def peer_and_back(*arguments):
        *inputs, grad = arguments
        _, _, q, k, v = inputs
        return torch.autograd.grad(peer(*inputs), (q, k, v), grad)

    size = f"{feature_map}, B1 H{heads} L{time} d{D_KEY[feature_map]} D64"
    made = (feature_map, heads, time, dtype)
    row = functools.partial(TimeRow, peer_name=PEER, tests=TESTS)
    return [
        row(what=f"linear_attention {size} forward", ours=ours, peer=peer,
            setup=functools.partial(tensors, *made)),
        row(what=f"linear_attention {size} forward+backward", ours=ours_and_back,
            peer=peer_and_back, setup=functools.partial(learning, *made)),
    ]  # fmt: skip


ROWS = [row for feature_map in D_KEY for row in rows(feature_map)]

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-core", script=__file__))
