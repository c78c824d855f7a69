"""Genomes of neat-python: what it computes, ours computes, and back."""

import json
import math
import random
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from gonzo.neuroevo.export import (
    from_json,
    from_neat_python,
    read_neat_python_json,
    to_json,
    to_module,
    to_neat_python,
    to_neat_python_json,
)
from gonzo.neuroevo.export.order import incoming, needed
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population

HERE = Path(__file__).parent
shared = runpy.run_path(str(HERE / "genomes.py"))
genomes, evaluate, tick, close = (shared[n] for n in ("genomes", "evaluate", "tick", "close"))
grow = runpy.run_path(str(HERE / "data" / "neat_python" / "grow.py"))

THEIRS = ("steep_sigmoid", "steep_tanh", "steep_sin", "steep_gauss", "steep_softplus", "clamped")
CONVERTED = ("sigmoid", "tanh", "sin", "gauss", "neat_sigmoid")


def ours(genome, x, kind, dtype):
    """Outputs (S, outputs) of `networks`; with a state, of three ticks one after another."""
    nets = networks(Population.from_genomes([genome], dtype=dtype), kind)
    x = torch.tensor(x, dtype=dtype)
    if kind == "feed-forward":
        return nets(x)[0]
    state, outputs = nets.rest(1), []
    for row in x:
        y, state = nets.step(row[None], state)
        outputs.append(y[0, 0])
    return torch.stack(outputs)


def error(found, expected):
    found, expected = found.double(), torch.as_tensor(expected, dtype=torch.float64)
    return float(((found - expected).abs() / expected.abs().clamp(min=1)).max())


@pytest.mark.parametrize("kind", ["feed-forward", "recurrent"])
def test_arrays_that_neat_python_computed(kind):
    """See data/neat_python/README.md."""
    folder = HERE / "data" / "neat_python"
    with np.load(folder / f"{kind}.npz") as arrays:
        texts = [str(text) for text in arrays["genomes"]]
        inputs, outputs = arrays["inputs"], arrays["outputs"]
    assert len(texts) == 40
    for text, x, expected in zip(texts, inputs, outputs, strict=True):
        genome = from_json(text)
        assert error(ours(genome, x, kind, torch.float64), expected) < 1e-12
        assert error(ours(genome, x, kind, torch.float32), expected) < 1e-4


@pytest.mark.parametrize("kind", ["feed-forward", "recurrent"])
def test_evolved_genomes_compute_the_same(kind):
    neat = pytest.importorskip("neat")
    single = []
    for genome, config in grow["evolved"](neat, kind, count=400, seed=3):
        imported = from_neat_python(genome, config.genome_config)
        x, expected, largest = grow["outputs"](neat, genome, config, kind)
        if largest > 1e18 or (kind == "recurrent" and orphans(imported)):
            continue  # the two deviations, each with its own test
        assert error(ours(imported, x, kind, torch.float64), expected) < 1e-6
        single.append(error(ours(imported, x, kind, torch.float32), expected))
    assert len(single) >= 200
    assert np.quantile(single, 0.9) < 2e-6
    assert max(single) < 1e-2  # after products and exponentials of exponentials


def orphans(genome):
    links = incoming(genome)
    return [key for key in needed(genome) if not links[key]]


def test_nodes_that_nothing_enters():
    """The deviation: neat-python's recurrent network leaves them at 0."""
    neat = pytest.importorskip("neat")
    config = grow["configuration"](neat, "recurrent")
    genome = Genome(
        config.genome_config.num_inputs,
        2,
        (
            NodeGene(0, 0.3, 1.0, "identity"),
            NodeGene(1, 0.7, 1.0, "identity"),
            NodeGene(9, 0.5, 1.0, "identity"),
        ),
        (ConnectionGene(9, 0, 2.0), ConnectionGene(-1, 0, 1.0)),
    )
    theirs = to_neat_python(genome, config)
    net = neat.nn.RecurrentNetwork.create(theirs, config)
    x = [0.25] * genome.inputs
    assert [net.activate(x) for _ in range(2)] == [[0.55, 0.0]] * 2
    module = to_module(genome, "recurrent", dtype=torch.float64)
    y, state = module(torch.tensor(x, dtype=torch.float64))
    assert y.tolist() == [0.55, 0.7]
    assert module(torch.tensor(x, dtype=torch.float64), state)[0].tolist() == [1.55, 0.7]
    # Its feed-forward network computes them, as ours does.
    forward = neat.nn.FeedForwardNetwork.create(theirs, config)
    assert forward.activate(x) == evaluate(genome, x) == [1.55, 0.7]


def test_values_beyond_1e18():
    """The other deviation: here no value is larger, there an exponential reaches e^60."""
    neat = pytest.importorskip("neat")
    config = grow["configuration"](neat, "feed-forward", 1, 1)
    genome = Genome(1, 1, (NodeGene(0, 50.0, 1.0, "exp"),))
    net = neat.nn.FeedForwardNetwork.create(to_neat_python(genome, config), config)
    assert net.activate([0.0]) == [math.exp(50)]
    assert to_module(genome, dtype=torch.float64)(torch.zeros(1)).tolist() == [1e18]


def test_continuous_time():
    """The third deviation: half the speed, and one step late."""
    neat = pytest.importorskip("neat")
    config = grow["configuration"](neat, "ctrnn", 1, 1)
    genome = Genome(1, 1, (NodeGene(0, 0.5, 1.0, "identity"),), (ConnectionGene(-1, 0, 1.0),))
    net = neat.ctrnn.CTRNN.create(to_neat_python(genome, config), config)
    theirs = [net.advance([1.0], 0.1, 0.1)[0] for _ in range(4)]
    assert theirs == pytest.approx([0.0, 0.15, 0.15, 0.285])
    module, state, found = to_module(genome, "ctrnn", dtype=torch.float64), None, []
    for _ in range(4):
        y, state = module(torch.ones(1, dtype=torch.float64), state)
        found.append(y.item())
    assert found == pytest.approx([1.5 * (1 - 0.9**t) for t in range(1, 5)])


@settings(max_examples=60, deadline=None)
@given(genomes(activations=THEIRS + CONVERTED))
def test_to_neat_python_keeps_the_function(genome):
    neat = pytest.importorskip("neat")
    config = grow["configuration"](neat, "feed-forward", genome.inputs, genome.outputs)
    theirs = to_neat_python(genome, config)
    net = neat.nn.FeedForwardNetwork.create(theirs, config)
    x = [math.sin(1 + 2.3 * i) for i in range(genome.inputs)]
    assert close(net.activate(x), evaluate(genome, x), 1e-9)
    back = from_neat_python(theirs, config.genome_config)
    assert close(evaluate(back, x), evaluate(genome, x), 1e-9)
    if all(node.activation in THEIRS for node in genome.nodes):
        assert back == replace(genome, nodes=tuple(sorted(genome.nodes)))


def test_to_neat_python_numbers_the_connections():
    neat = pytest.importorskip("neat")
    config = grow["configuration"](neat, "feed-forward", 2, 1)
    links = (ConnectionGene(-1, 0, 1.0), ConnectionGene(-2, 0, 2.0, False, 7))
    theirs = to_neat_python(Genome(2, 1, (NodeGene(0, activation="tanh"),), links), config, key=5)
    assert theirs.key == 5
    assert {ends: gene.innovation for ends, gene in theirs.connections.items()} == {
        (-1, 0): 8,
        (-2, 0): 7,
    }
    mate = to_neat_python(from_neat_python(theirs, config.genome_config), config, key=6)
    assert theirs.distance(mate, config.genome_config) == 0
    config.genome_config.innovation_tracker = neat.innovation.InnovationTracker(8)
    for _ in range(20):
        mate.mutate(config.genome_config)
    assert len(from_neat_python(mate, config.genome_config).nodes) > 1


def live(activation="sigmoid", aggregation="sum", keys=([-1], [0]), functions=None):
    """Objects of the shape of neat-python's."""
    node = SimpleNamespace(bias=1, response=1, activation=activation, aggregation=aggregation)
    link = SimpleNamespace(weight=2, enabled=True, innovation=4)
    genome = SimpleNamespace(nodes={0: node}, connections={(-1, 0): link})
    config = SimpleNamespace(input_keys=keys[0], output_keys=keys[1])
    if functions is not None:
        config.activation_defs = SimpleNamespace(functions=functions)
    return genome, config


def test_objects_are_read_without_neat_python(monkeypatch):
    monkeypatch.setitem(sys.modules, "neat", None)
    found = from_neat_python(*live())
    assert found == Genome(
        1, 1, (NodeGene(0, 1.0, 1.0, "steep_sigmoid"),), (ConnectionGene(-1, 0, 2.0, True, 4),)
    )
    with pytest.raises(ModuleNotFoundError, match=r'pip install "gonzo-neuroevo\[neat-python\]"'):
        to_neat_python(found, None)


def test_bad_objects():
    with pytest.raises(ValueError, match="node 0: the activation 'mine' is none of neat-python's"):
        from_neat_python(*live("mine"))
    with pytest.raises(ValueError, match="node 0: the aggregation 'mine' is none of neat-python's"):
        from_neat_python(*live(aggregation="mine"))
    # A user's function under one of its names would change the network without a word.
    with pytest.raises(ValueError, match="the activation 'sigmoid' was defined by the user"):
        from_neat_python(*live(functions={"sigmoid": lambda z: z}))
    with pytest.raises(ValueError, match="expected the inputs -1, -2, … and the outputs 0, 1, …"):
        from_neat_python(*live(keys=([-2], [0])))
    genome, config = live()
    with pytest.raises(TypeError, match=r"expected the genome_config .*; pass its \.genome_config"):
        from_neat_python(genome, SimpleNamespace(genome_config=config))
    with pytest.raises(TypeError, match=r"got NoneType$"):
        from_neat_python(genome, None)


def test_what_neat_python_lacks():
    neat = pytest.importorskip("neat")
    config = grow["configuration"](neat, "feed-forward", 1, 1)
    soft = Genome(1, 1, (NodeGene(0), NodeGene(6, activation="softplus")))
    with pytest.raises(
        ValueError, match="to_neat_python: node 6 has the activation 'softplus', an"
    ):
        to_neat_python(soft, config)
    with pytest.raises(ValueError, match="has 1 inputs and 1 outputs, the genome 2 and 1"):
        to_neat_python(Genome(2, 1, (NodeGene(0),)), config)
    used = replace(soft, connections=(ConnectionGene(6, 0, 1.0),))
    with pytest.raises(ValueError, match="to_neat_python_json: node 6 has the activation"):
        to_neat_python_json(used)


@pytest.mark.parametrize("kind", ["feed-forward", "recurrent", "ctrnn"])
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_json_that_neat_python_exports(kind, tmp_path):
    neat = pytest.importorskip("neat")
    export = pytest.importorskip("neat.export").export_network_json
    make = {
        "feed-forward": neat.nn.FeedForwardNetwork.create,
        "recurrent": neat.nn.RecurrentNetwork.create,
        "ctrnn": neat.ctrnn.CTRNN.create,
    }[kind]
    for genome, config in grow["evolved"](neat, kind, count=20, seed=5):
        path = tmp_path / "network.json"
        export(make(genome, config), str(path), {"fitness": 1.5})
        found = read_neat_python_json(path)
        if kind == "ctrnn":
            live = from_neat_python(genome, config.genome_config)
            assert {
                n for n in found.nodes if n.key in incoming(live) and incoming(live)[n.key]
            } == {n for n in live.nodes if n.key in incoming(live) and incoming(live)[n.key]}
        else:
            x, expected, largest = grow["outputs"](neat, genome, config, kind)
            assert largest > 1e18 or error(ours(found, x, kind, torch.float64), expected) < 1e-6


@pytest.mark.parametrize("kind", ["feed-forward", "recurrent", "ctrnn"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(genome=genomes(activations=THEIRS + CONVERTED))
def test_json_there_and_back(kind, genome, tmp_path):
    path = tmp_path / "network.json"
    path.write_text(to_neat_python_json(genome, kind))
    found = read_neat_python_json(path)
    x = [math.sin(1 + 2.3 * i) for i in range(genome.inputs)]
    assert close(evaluate(found, x), evaluate(genome, x), 1e-9)
    path.write_text(to_neat_python_json(found, kind))
    again = read_neat_python_json(path)
    assert again.nodes == found.nodes
    assert sorted(again.connections) == sorted(found.connections)
    if kind == "ctrnn":
        taus = {node.key: node.time_constant for node in genome.nodes}
        assert all(node.time_constant == taus[node.key] for node in found.nodes)


def test_neat_python_accepts_our_json():
    schema = pytest.importorskip("neat.export.json_format")
    genome = Genome(2, 1, (NodeGene(0),), (ConnectionGene(-1, 0, 1.0),))
    for kind in ("feed-forward", "recurrent", "ctrnn"):
        assert schema.validate_json(json.loads(to_neat_python_json(genome, kind)))


def test_bad_json(tmp_path):
    genome = Genome(
        1, 1, (NodeGene(0), NodeGene(3)), (ConnectionGene(-1, 3, 1.0), ConnectionGene(3, 0, 1.0))
    )
    good = json.loads(to_neat_python_json(genome))

    def refused(message, change, kind="feed-forward"):
        data = json.loads(to_neat_python_json(genome, kind))
        change(data)
        path = tmp_path / "n.json"
        path.write_text(json.dumps(data))
        with pytest.raises(ValueError, match=message) as caught:
            read_neat_python_json(path)
        assert "n.json" in str(caught.value)

    assert [node["id"] for node in good["nodes"]] == [3, 0, -1]
    refused("expected format_version 1, got '2.0'", lambda d: d.update(format_version="2.0"))
    refused("network_type to be one of .* got 'iznn'", lambda d: d.update(network_type="iznn"))
    refused("the key 'topology' is missing", lambda d: d.pop("topology"))
    refused("topology: expected the inputs -1", lambda d: d["topology"].update(input_keys=[-1.0]))
    refused("connection -1 → 3 ends at a node that does not exist", lambda d: d["nodes"].pop(0))
    refused(r"nodes\[1\]: the id 3 comes more", lambda d: d["nodes"].insert(0, d["nodes"][0]))
    custom = {"name": "os.system", "custom": True}
    refused(
        r"nodes\[0\]: the activation 'os.system' of node 3 was defined by a user",
        lambda d: d["nodes"][0].update(activation=custom),
    )
    refused(
        r"nodes\[0\] \(node 3\): the activation 'wave' is none",
        lambda d: d["nodes"][0]["activation"].update(name="wave"),
    )
    refused(
        'expected weight to be a number, got "1"', lambda d: d["connections"][0].update(weight="1")
    )
    refused("nodes has 100001 entries", lambda d: d.update(nodes=[0] * 100_001))
    loop = replace(genome, connections=(ConnectionGene(0, 0, 1.0),))
    with pytest.raises(ValueError, match=r"to_neat_python_json: a feed-forward network .* 0 → 0;"):
        to_neat_python_json(loop)
    # What a recurrent network reads and never computes is 0 to it.
    data = json.loads(to_neat_python_json(genome, "recurrent"))
    data["nodes"] = [node for node in data["nodes"] if node["id"] != 3]
    data["connections"] = [link for link in data["connections"] if link["to"] != 3]
    (tmp_path / "n.json").write_text(json.dumps(data))
    found = read_neat_python_json(tmp_path / "n.json")
    assert NodeGene(3, activation="identity") in found.nodes


def test_our_json_carries_imported_genomes():
    neat = pytest.importorskip("neat")
    random.seed(0)
    for genome, config in grow["evolved"](neat, "recurrent", count=5, seed=1):
        imported = from_neat_python(genome, config.genome_config)
        assert from_json(to_json(imported)) == imported
