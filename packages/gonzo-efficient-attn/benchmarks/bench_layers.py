"""Layers: decoding at growing context, memory at growing length, softmax attention beside them."""

import functools

import torch

from gonzo.core.bench import TimeRow, ValueRow, at_most, main, peak_memory
from gonzo.core.nn import CausalAttention
from gonzo.core.ops.linear_attention import linear_attention, n_feature
from gonzo.efficient_attn import LinearAttention, SlidingWindowAttention

D_MODEL, HEADS = 512, 8
KINDS = ("elu", "performer", "taylor", "rebased", "hedgehog")
FUSED = {"identity": 64, "elu": 64, "taylor": 16, "quadratic": 16, "softmax_pair": 64}
TESTS = ["tests/test_laws.py"]


class Decoding:
    """A layer in the middle of a sequence; a call takes some steps."""

    def __init__(self, layer, context, steps=16):
        self.layer = layer.eval().requires_grad_(False)
        self.state = layer.scan(torch.randn(1, context, D_MODEL), layer.init_state(1))[1]
        self.inputs = torch.randn(steps, 1, D_MODEL)

    def __call__(self):
        for x in self.inputs:
            _, self.state = self.layer.step(x, self.state)


@torch.no_grad()
def decoders(kind, context):
    ours = LinearAttention(D_MODEL, HEADS, feature_map=kind)
    return Decoding(ours, context), Decoding(CausalAttention(D_MODEL, HEADS), context)


def growth(feature_map, lengths=(8192, 32_768)):
    """How much more memory both passes need at the second length; 4 where it is linear."""
    needed = []
    for time in lengths:
        d = FUSED[feature_map]
        q, k = (torch.rand(1, HEADS, time, d) for _ in range(2))
        v = torch.randn(1, HEADS, time, 64)
        grads = v, torch.zeros(1, HEADS, n_feature(feature_map, d), 65)
        run = functools.partial(linear_attention, feature_map=feature_map)
        call = functools.partial(torch.autograd.functional.vjp, run, (q, k, v), grads)
        needed.append(peak_memory(call))
    return needed[1] / needed[0]


def window_inputs(time):
    window = SlidingWindowAttention(D_MODEL, HEADS, window=64)
    return torch.randn(1, time, D_MODEL), window, CausalAttention(D_MODEL, HEADS)


ROWS = [
    *(TimeRow(what=f"16 steps of LinearAttention d{D_MODEL} H{HEADS}, {kind}, after {context}",
              ours=lambda ours, peer: ours(), peer=lambda ours, peer: peer(),
              peer_name="CausalAttention with a KV cache",
              setup=functools.partial(decoders, kind, context), tests=TESTS)
      for kind in KINDS for context in (1024, 16_384)),
    *(ValueRow(what=f"memory of forward+backward at L32768 over that at L8192, {feature_map}",
               ours=functools.partial(growth, feature_map), bar=at_most(4.4),
               tests=TESTS)
      for feature_map in FUSED),
    TimeRow(what="SlidingWindowAttention, window 64, d512 H8 L4096",
            ours=lambda x, ours, peer: ours(x), peer=lambda x, ours, peer: peer(x),
            peer_name="CausalAttention to all of the past",
            setup=functools.partial(window_inputs, 4096), tests=TESTS),
]  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-efficient-attn", script=__file__))
