"""Causal linear attention with each feature map, beside what can be run on a CPU today.

The sizes are B1 H8 L2048 with values of 64. A bar on forward and backward is stated beside the
peer's forward alone, since that is what the peers were measured with; a row without a bar has both
passes of both.
"""

import functools

import torch
from peers import naive

from gonzo.core.bench import TimeRow, faster_than_peer, main, times_peer
from gonzo.core.ops.linear_attention import linear_attention
from gonzo.efficient_attn import EluPlusOne, HedgehogMap, Performer, ReBasedMap, Taylor

HEADS, TIME, D = 8, 2048, 64
NAIVE = "the algorithm of flash-linear-attention's"
TESTS = ["tests/test_feature_maps.py", "tests/test_peers.py"]


class Attention:
    """A feature map and the op; gradients of everything that learns."""

    def __init__(self, feature_map):
        self.map = feature_map

    def __call__(self, q, k, v):
        q, k = self.map(q, k)
        return linear_attention(q, k, v, feature_map=self.map.fused, eps=self.map.eps)[0]

    def both(self, q, k, v, grad):
        learned = [q, k, v, *self.map.parameters()]
        return torch.autograd.grad(self(q, k, v), learned, grad)


def tensors(d_key, positive=False):
    q, k = (torch.randn(1, HEADS, TIME, d_key) for _ in range(2))
    if positive:
        q, k = q.abs(), k.abs()
    return q, k, torch.randn(1, HEADS, TIME, D)


def learning(d_key, positive=False):
    q, k, v = tensors(d_key, positive)
    return *(x.requires_grad_() for x in (q, k, v)), torch.randn_like(v)


def peer_both(peer, q, k, v, grad):
    return torch.autograd.grad(peer(q, k, v), (q, k, v), grad)


def rows(what, ours, peer, peer_name, d_key, *, forward, both, positive=False):
    """Forward, both passes beside the peer's forward, and both passes of both."""
    plain, learns = (functools.partial(make, d_key, positive) for make in (tensors, learning))
    row = functools.partial(TimeRow, peer_name=peer_name, tests=TESTS)

    @torch.no_grad()
    def only_forward(q, k, v, grad):
        return peer(q, k, v)

    return [
        row(what=f"{what} forward", ours=torch.no_grad()(ours), peer=torch.no_grad()(peer),
            setup=plain, bar=forward),
        row(what=f"{what} forward+backward, beside the peer's forward", ours=ours.both,
            peer=only_forward, setup=learns, bar=both),
        row(what=f"{what} forward+backward", ours=ours.both,
            peer=functools.partial(peer_both, peer), setup=learns),
    ]  # fmt: skip


class Identity(Attention):
    """Features as they come."""

    def __init__(self):
        super().__init__(torch.nn.Identity())

    def __call__(self, q, k, v):
        return linear_attention(q, k, v)[0]


def elu_chunked(q, k, v):
    return naive.chunked(*EluPlusOne(HEADS, D).features(q, k), v)


def linear_attention_transformer():
    """Its causal function: other features, and a query does not see its own chunk of 64."""
    from linear_attention_transformer.linear_attention_transformer import causal_linear_attn

    return functools.partial(causal_linear_attn, bucket_size=64)


def performer_pytorch():
    import contextlib
    import io
    import warnings

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of packages it imports
        from performer_pytorch.performer_pytorch import FastAttention

        return FastAttention(D, nb_features=256, causal=True)


def rebased_parallel(convention, q, k, v):
    return naive.parallel(*convention(q, k), v, naive.square)


def hedgehog_quadratic(feature_map, q, k, v):
    w = feature_map.weight.mT
    return naive.hedgehog(q, k, v, w[0], w[1])


def build():
    torch.manual_seed(0)
    rebased, hedgehog = ReBasedMap(HEADS, 16), HedgehogMap(HEADS, D)
    chunked = f"{NAIVE} naive chunk form"
    return [
        *rows("features as they come, d64", Identity(), naive.chunked, chunked, D,
              forward=times_peer(14 / 21), both=times_peer(60 / 21), positive=True),
        *rows("elu + 1, d64", Attention(EluPlusOne(HEADS, D)), elu_chunked, chunked, D,
              forward=times_peer(18 / 21), both=times_peer(60 / 21)),
        *rows("elu + 1, d64, beside another", Attention(EluPlusOne(HEADS, D)),
              linear_attention_transformer(),
              "linear-attention-transformer 0.19.1, causal, other features", D,
              forward=times_peer(18 / 23), both=times_peer(60 / 23)),
        *rows("Based, Taylor, d16", Attention(Taylor(HEADS, 16)), naive.chunked_taylor, chunked,
              16, forward=faster_than_peer(228 / 40), both=times_peer(120 / 228)),
        *rows("Based, Taylor, d16, all weights", Attention(Taylor(HEADS, 16)),
              functools.partial(naive.parallel, polynomial=naive.taylor),
              f"{NAIVE} naive parallel form", 16,
              forward=faster_than_peer(621 / 40), both=times_peer(120 / 621)),
        *rows("ReBased, d16", Attention(rebased), functools.partial(rebased_parallel, rebased),
              f"{NAIVE} naive parallel form", 16,
              forward=faster_than_peer(337 / 40), both=times_peer(120 / 337)),
        *rows("Hedgehog, d64", Attention(hedgehog),
              functools.partial(hedgehog_quadratic, hedgehog), "LoLCATs' quadratic form", D,
              forward=faster_than_peer(290 / 40), both=times_peer(110 / 290)),
        *rows("Performer, 256 features, d64", Attention(Performer(HEADS, D)),
              performer_pytorch(), "performer-pytorch 1.1.4, causal without CUDA", D,
              forward=faster_than_peer(1578 / 75), both=times_peer(240 / 1578)),
    ]  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main(build(), package="gonzo-efficient-attn", script=__file__))
