"""Prediction: wall-clock time for a thousand blocks, beside llvm-mca; the LSTM one at a time.

The bar is of two cores. One thread is timed: a second one gains a third on an idle machine and
costs far more on a busy one.
"""

import functools
import shutil
import statistics
import time

import torch

from gonzo.core.bench import TimeRow, ValueRow, at_most, main
from gonzo.ithemal import BasicBlock, Ithemal, Predictor
from gonzo.ithemal.batch import encode
from gonzo.ithemal.mca import llvm_mca, model
from gonzo.ithemal.samples import sample_blocks
from gonzo.ithemal.tokens import Vocabulary, tokenize
from gonzo.ithemal.training import estimate

MANY, SOME = 8000, 256
PREDICTOR = ["tests/test_predictor.py"]
BAR = at_most(1e6 / 20_000)


@functools.cache
def codes(count):
    return [sample.block.code for sample in sample_blocks(count)]


def blocks(count):
    """Blocks that have not been decoded yet."""
    return [BasicBlock(code) for code in codes(count)]


def per_thousand(call, count):
    """Milliseconds on the wall for a thousand blocks: the median of five calls."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1e6 * statistics.median(times) / count


def encoded_blocks():
    predictor = Predictor.shipped()
    encoded = encode(blocks(MANY), predictor.vocabulary)
    predict = functools.partial(predictor.predict_encoded, machine=predictor.machines[0])
    return per_thousand(lambda: predict(encoded), MANY)


def machine_code():
    predictor = Predictor.shipped()
    machine = predictor.machines[0]
    return per_thousand(lambda: predictor.predict(blocks(MANY), machine=machine), MANY)


@functools.cache
def mca():
    return per_thousand(lambda: llvm_mca(blocks(1000)), 1000)


def beside_mca():
    if not shutil.which("llvm-mca"):
        return {"no_peer": "llvm-mca is not installed"}
    return {"peer": mca, "peer_name": str(model())}


def ithemal():
    """The paper's sizes, with random weights: speed does not depend on them."""
    vocabulary = Vocabulary.build(map(tokenize, blocks(SOME)))
    return Ithemal(len(vocabulary)), encode(blocks(SOME), vocabulary)


@torch.inference_mode()
def one_at_a_time(network, encoded):
    """As the authors' program does: a forward pass for each block."""
    return [network(encoded.batch([row])).cycles for row in range(len(encoded))]


ROWS = [
    ValueRow(what="the shipped network, 1000 of 8000 encoded blocks", unit="ms",
             ours=encoded_blocks, bar=BAR, tests=PREDICTOR, **beside_mca()),
    ValueRow(what="the same from machine code, 1000 of 8000 blocks", unit="ms",
             ours=machine_code, bar=BAR, tests=PREDICTOR, **beside_mca()),
    TimeRow(what=f"Ithemal, the paper's sizes, {SOME} encoded blocks, beside one block at a time",
            ours=estimate, peer=one_at_a_time, peer_name="a forward pass for each block",
            setup=ithemal, tests=["tests/test_models.py"]),
]  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-ithemal", script=__file__))
