"""Prediction: blocks per second, from machine code to cycles, beside other predictors."""

import functools
import shutil

import torch

from gonzo.core.bench import TimeRow, at_most, main
from gonzo.ithemal import Ithemal, Predictor
from gonzo.ithemal.batch import encode
from gonzo.ithemal.mca import llvm_mca, model
from gonzo.ithemal.samples import sample_blocks
from gonzo.ithemal.tokens import Vocabulary, tokenize
from gonzo.ithemal.training import estimate

MANY, SOME = 8000, 256
PREDICTOR = ["tests/test_predictor.py"]


@functools.cache
def blocks(count):
    return [sample.block for sample in sample_blocks(count)]


def ready():
    predictor = Predictor.shipped()
    return predictor, encode(blocks(MANY), predictor.vocabulary)


def ithemal():
    """The paper's sizes, with random weights: speed does not depend on them."""
    vocabulary = Vocabulary.build(map(tokenize, blocks(SOME)))
    return Ithemal(len(vocabulary)), encode(blocks(SOME), vocabulary)


@torch.inference_mode()
def one_at_a_time(network, encoded):
    """As the authors' program does: a forward pass for each block."""
    return [network(encoded.batch([row])).cycles for row in range(len(encoded))]


def has_mca():
    return bool(shutil.which("llvm-mca"))


def beside_mca():
    if not has_mca():
        return {"no_peer": "llvm-mca is not installed"}
    return {"peer": lambda predictor, encoded: llvm_mca(blocks(MANY)), "peer_name": str(model())}


ROWS = [
    TimeRow(what=f"the shipped network, {MANY} encoded blocks, 2 threads", threads=2,
            ours=lambda predictor, encoded: predictor.predict_encoded(
                encoded, machine=predictor.machines[0]),
            setup=ready, bar=at_most(MANY / 20_000), tests=PREDICTOR, **beside_mca()),
    TimeRow(what=f"the same from machine code, {MANY} blocks, 2 threads", threads=2,
            ours=lambda predictor, encoded: predictor.predict(
                blocks(MANY), machine=predictor.machines[0]),
            setup=ready, bar=at_most(MANY / 20_000), tests=PREDICTOR, **beside_mca()),
    TimeRow(what=f"Ithemal, the paper's sizes, {SOME} encoded blocks, beside one block at a time",
            ours=estimate, peer=one_at_a_time, peer_name="a forward pass for each block",
            setup=ithemal, tests=["tests/test_models.py"]),
]  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-ithemal", script=__file__))
