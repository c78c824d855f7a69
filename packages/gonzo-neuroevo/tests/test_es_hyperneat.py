"""ES-HyperNEAT with CPPNs whose information lies where one can see it."""

import math
import pickle
from dataclasses import replace

import pytest
import torch

from gonzo.neuroevo import es_hyperneat
from gonzo.neuroevo.config import Choice, NEATConfig
from gonzo.neuroevo.cppn import CPPN_ACTIVATIONS, cppn_config
from gonzo.neuroevo.es_hyperneat import ESHyperNEAT
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.initial import initial_population
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.quadtree import Quadtree
from gonzo.neuroevo.seeds import Episodes
from gonzo.neuroevo.substrate import grid
from gonzo.neuroevo.supervised import xor

INPUTS, OUTPUTS = grid(3, at=(-1,)), grid(2, at=(1,))


def bumps(outputs: int = 1) -> Genome:
    """q = exp(-(4 (x2 - x1))²) · exp(-(3 (y2 - y1 - 1))²): what is one up, in the same column."""
    nodes = [NodeGene(0, activation="identity", aggregation="product")]
    nodes += [NodeGene(1 + i, bias=1.0, activation="identity") for i in range(outputs - 1)]
    column, row = outputs, outputs + 1
    nodes += [NodeGene(column, activation="gauss"), NodeGene(row, bias=-3.0, activation="gauss")]
    connections = [
        ConnectionGene(-1, column, -4.0),
        ConnectionGene(-3, column, 4.0),
        ConnectionGene(-2, row, -3.0),
        ConnectionGene(-4, row, 3.0),
        ConnectionGene(column, 0, 1.0),
        ConnectionGene(row, 0, 1.0),
    ]
    return Genome(5, outputs, tuple(nodes), tuple(connections))


def bump(a, b) -> float:
    return math.exp(-((4 * (b[0] - a[0])) ** 2) - (3 * (b[1] - a[1] - 1)) ** 2)


def random_cppns(phenotype: ESHyperNEAT, size: int, seed: int = 0) -> Population:
    config = NEATConfig(
        population=size, initial_hidden=4, activation=Choice(CPPN_ACTIVATIONS), elitism=1
    )
    generator = torch.Generator().manual_seed(seed)
    return initial_population(phenotype.cppn_inputs, phenotype.cppn_outputs, config, generator)


def test_hidden_nodes_are_where_the_information_is():
    phenotype = ESHyperNEAT(INPUTS, OUTPUTS, Quadtree(3, 4, 0.003, 0.003, 0.15))
    genome = phenotype.substrates(Population.from_genomes([bumps()])).genome(0)
    hidden = [node.key for node in genome.nodes if node.key >= 2]
    places = phenotype.coordinates(torch.tensor(hidden)).tolist()
    # The columns of the outputs are at ±1; the input in the middle leads to neither.
    assert {math.copysign(1, x) for x, _ in places} == {-1.0, 1.0}
    assert all(abs(x) > 0.5 and abs(y) < 0.5 for x, y in places)
    assert {gene.source for gene in genome.connections if gene.source < 0} == {-1, -3}
    for gene in genome.connections:
        ends = phenotype.coordinates(torch.tensor([gene.source, gene.target])).tolist()
        assert gene.weight == pytest.approx(3 * bump(*ends), rel=1e-4)


def test_no_information_leaves_inputs_and_outputs_apart():
    flat = Genome(5, 1, (NodeGene(0, bias=0.5, activation="identity"),), ())
    phenotype = ESHyperNEAT(INPUTS, OUTPUTS, activation="sigmoid")
    substrates = phenotype.substrates(Population.from_genomes([flat, flat]))
    assert substrates.genome(1).size == (2, 0)
    y = phenotype(Population.from_genomes([flat, flat]))(torch.randn(4, 3))
    torch.testing.assert_close(y, torch.full((2, 4, 2), 0.5))


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("leo", [False, True])
def test_every_node_is_on_a_path_from_an_input_to_an_output(recurrent, leo):
    phenotype = ESHyperNEAT(
        INPUTS, OUTPUTS, Quadtree(2, 3), iterations=2, recurrent=recurrent, leo=leo, bias=True
    )
    substrates = phenotype.substrates(random_cppns(phenotype, 30))
    sizes = [genome.size for genome in substrates.genomes()]
    assert max(nodes for nodes, _ in sizes) > 10
    for genome in substrates.genomes():
        for start, end, first in (("source", "target", range(-3, 0)), ("target", "source", (0, 1))):
            reached = set(first)
            while (
                more := {
                    getattr(gene, end)
                    for gene in genome.connections
                    if getattr(gene, start) in reached
                }
                - reached
            ):
                reached |= more
            assert reached >= {node.key for node in genome.nodes if node.key >= 2}
            assert reached >= {getattr(gene, start) for gene in genome.connections}


def test_feed_forward_networks_have_no_cycle_and_recurrent_ones_do():
    rules = {"quadtree": Quadtree(2, 3), "iterations": 2}
    phenotype = ESHyperNEAT(INPUTS, OUTPUTS, **rules)
    cppns = random_cppns(phenotype, 20)
    assert phenotype(cppns)(torch.randn(5, 3)).isfinite().all()  # a cycle would be an error
    recurrent = ESHyperNEAT(INPUTS, OUTPUTS, **rules, recurrent=True)
    with pytest.raises(ValueError, match="has the cycle"):
        networks(recurrent.substrates(cppns))
    assert recurrent(cppns)(torch.randn(5, 3)).isfinite().all()


def test_a_network_alone_is_the_same_to_the_last_bit():
    phenotype = ESHyperNEAT(INPUTS, OUTPUTS, Quadtree(2, 4), bias=True, distance=True)
    cppns = random_cppns(phenotype, 12, seed=5)
    together = phenotype.substrates(cppns)
    for row in range(12):
        alone = phenotype.substrates(cppns.select(torch.tensor([row])))
        assert alone.genome(0) == together.genome(row)


def test_trees_in_pieces_find_the_same(monkeypatch):
    phenotype = ESHyperNEAT(INPUTS, OUTPUTS, Quadtree(2, 3), leo=True)
    cppns = random_cppns(phenotype, 6)
    whole = phenotype.substrates(cppns).genomes()
    monkeypatch.setattr(es_hyperneat, "_POINTS", 300)
    assert phenotype.substrates(cppns).genomes() == whole


def test_leo_and_bias():
    """The second output is 1 everywhere: everything is expressed; biases are bumps, too."""
    plain = ESHyperNEAT(INPUTS, OUTPUTS, Quadtree(3, 4, 0.003, 0.003, 0.15))
    phenotype = ESHyperNEAT(INPUTS, OUTPUTS, plain.quadtree, leo=True, bias=True, max_weight=2.0)
    genome = phenotype.substrates(Population.from_genomes([bumps(3)])).genome(0)
    assert genome.size == plain.substrates(Population.from_genomes([bumps()])).genome(0).size
    assert all(node.bias == pytest.approx(2.0) for node in genome.nodes)
    weight, expression, *others = bumps(3).nodes
    cut = replace(bumps(3), nodes=(weight, expression._replace(bias=-1.0), *others))
    assert phenotype.substrates(Population.from_genomes([cut])).genome(0).size == (2, 0)


def test_learns_exclusive_or():
    """Fitness 4 - squared errors; 3.5 has all four on the right side. Ten generations here."""
    phenotype = ESHyperNEAT(
        grid(2, at=(-1,)),
        grid(1, at=(1,)),
        Quadtree(2, 3, 0.01, 0.01, 0.1),
        max_weight=5.0,
        bias=True,
        activation="tanh",
        output_activation="neat_sigmoid",
    )
    problem = xor()
    neat = phenotype.neat(replace(cppn_config(60), initial_hidden=3), seed=4)
    for generation in range(40):
        episodes = Episodes(0, generation, tuple(neat.ids.tolist()))
        if neat.tell(problem.evaluate(neat.networks(), episodes)).best >= 3.5:
            break
    assert neat.champion.fitness >= 3.5
    solution = neat.best_networks().population().genome(0)
    assert solution.size[0] > 1
    judged = problem.evaluate(networks(Population.from_genomes([solution])), Episodes(0, 0, (0,)))
    assert judged.item() == neat.champion.fitness


def test_a_phenotype_is_a_value_that_travels():
    phenotype = ESHyperNEAT(INPUTS, OUTPUTS, leo=True, distance=True)
    assert pickle.loads(pickle.dumps(phenotype)) == phenotype
    assert (phenotype.inputs, phenotype.outputs) == (3, 2)
    assert (phenotype.cppn_inputs, phenotype.cppn_outputs) == (6, 2)


def test_bad_input():
    with pytest.raises(ValueError, match="expected CPPNs with 5 inputs and 1 outputs, got 5 and 2"):
        ESHyperNEAT(INPUTS, OUTPUTS)(Population.from_genomes([bumps(2)]))
    with pytest.raises(ValueError, match=r"expected outputs_at as one or more points \(x, y\)"):
        ESHyperNEAT(INPUTS, grid(2))
    with pytest.raises(ValueError, match="expected a max_weight above 0, got 0"):
        ESHyperNEAT(INPUTS, OUTPUTS, max_weight=0)
    with pytest.raises(ValueError, match=r"expected iterations of at least 0 .* got -1 and 10"):
        ESHyperNEAT(INPUTS, OUTPUTS, iterations=-1)
    with pytest.raises(ValueError, match="there is no activation 'steps'"):
        ESHyperNEAT(INPUTS, OUTPUTS, activation="steps")
