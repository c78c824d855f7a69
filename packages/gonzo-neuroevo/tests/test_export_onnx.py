"""ONNX models against the torch module, in onnxruntime."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS
from gonzo.neuroevo.export import to_module, to_onnx
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

shared = runpy.run_path(str(Path(__file__).with_name("genomes.py")))
genomes = shared["genomes"]


def session(path):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def close(found, expected):
    torch.testing.assert_close(torch.from_numpy(found), expected.detach(), atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_every_function(aggregation, tmp_path):
    """All activations beside each other, each over 0, 1, 2 and 3 connections."""
    nodes, links = [], []
    for i, activation in enumerate(ACTIVATIONS):
        for count in range(4):
            key = 4 * i + count
            nodes.append(NodeGene(key, 0.3, 0.7, activation, aggregation))
            weights = (0.9, -1.3, 0.4)
            links += [ConnectionGene(-1 - s, key, weights[s]) for s in range(count)]
    genome = Genome(3, len(nodes), tuple(nodes), tuple(links))
    x = np.random.default_rng(0).normal(0, 2, (30, 3)).astype(np.float32)
    x[20:] *= 30
    run = session(to_onnx(genome, tmp_path / "all.onnx"))
    (found,) = run.run(["y"], {"x": x})
    close(found, to_module(genome)(torch.from_numpy(x)))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(genome=genomes(activations=shared["SMOOTH"]))
def test_feed_forward(genome, tmp_path):
    run = session(to_onnx(genome, tmp_path / "g.onnx"))
    for batch in (1, 5):
        x = np.random.default_rng(batch).normal(0, 1, (batch, genome.inputs)).astype(np.float32)
        (found,) = run.run(None, {"x": x})
        close(found, to_module(genome)(torch.from_numpy(x)))


@pytest.mark.parametrize("kind", ["recurrent", "ctrnn"])
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(genome=genomes(cyclic=True, activations=shared["SMOOTH"]))
def test_state(kind, genome, tmp_path):
    run = session(to_onnx(genome, tmp_path / "g.onnx", kind, time_step=0.2))
    module = to_module(genome, kind, time_step=0.2)
    x = np.random.default_rng(0).normal(0, 1, (3, genome.inputs)).astype(np.float32)
    state, theirs = None, np.zeros((3, len(module.keys)), np.float32)
    for _ in range(3):
        y, state = module(torch.from_numpy(x), state)
        found, theirs = run.run(["y", "next_state"], {"x": x, "state": theirs})
        close(found, y)
        close(theirs, state)


def test_no_nan_leaves_it(tmp_path):
    links = (ConnectionGene(-1, 0, 3e38), ConnectionGene(-2, 0, -3e38))
    for activation in ACTIVATIONS:
        genome = Genome(2, 1, (NodeGene(0, 0.0, 1e10, activation),), links)
        run = session(to_onnx(genome, tmp_path / "g.onnx"))
        (y,) = run.run(None, {"x": np.full((1, 2), 1e30, np.float32)})
        assert np.isfinite(y).all(), activation


def test_what_the_file_says(tmp_path):
    genome = Genome(2, 1, (NodeGene(0),), (ConnectionGene(-1, 0, 1.0),))
    path = to_onnx(genome, tmp_path / "g.onnx", "recurrent")
    assert path == tmp_path / "g.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["x", "state"]
    assert [value.name for value in model.graph.output] == ["y", "next_state"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert model.opset_import[0].version >= 17
    assert [file.name for file in tmp_path.iterdir()] == ["g.onnx"]  # no temporary is left
    first = path.read_bytes()
    assert to_onnx(genome, path, "recurrent").read_bytes() == first


def test_bad_input(tmp_path, monkeypatch):
    loop = Genome(1, 1, (NodeGene(0),), (ConnectionGene(0, 0, 1.0),))
    with pytest.raises(ValueError, match=r"to_onnx: a feed-forward network has no cycle.* 0 → 0;"):
        to_onnx(loop, tmp_path / "g.onnx")
    with pytest.raises(ValueError, match="expected a kind of"):
        to_onnx(loop, tmp_path / "g.onnx", "lstm")
    with pytest.raises(ValueError, match="expected a time_step above 0, got -1"):
        to_onnx(loop, tmp_path / "g.onnx", "ctrnn", time_step=-1)
    large = Genome(1, 1, (NodeGene(0),), (ConnectionGene(-1, 0, -1e300),))
    with pytest.raises(ValueError, match=r"up to 3\.4e38, the genome has 1e\+300"):
        to_onnx(large, tmp_path / "g.onnx")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        to_onnx(loop, tmp_path / "missing" / "g.onnx", "recurrent")
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "gonzo-neuroevo\[onnx\]"'):
        to_onnx(loop, tmp_path / "g.onnx", "recurrent")
