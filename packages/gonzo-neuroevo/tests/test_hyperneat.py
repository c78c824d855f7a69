"""Substrates and HyperNEAT, with CPPNs whose weights are known in closed form."""

import math
import pickle

import pytest
import torch

from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.hyperneat import HyperNEAT, locality_seed
from gonzo.neuroevo.neat import NEAT
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.seeds import Episodes
from gonzo.neuroevo.substrate import Substrate, circle, grid
from gonzo.neuroevo.supervised import xor3d
from gonzo.neuroevo.visual_discrimination import VisualDiscrimination


def linear(inputs: int, *weights: dict[int, float]) -> Genome:
    """A CPPN whose outputs are weighted sums of its inputs 1, 2, …"""
    return Genome(
        inputs,
        len(weights),
        tuple(NodeGene(key, activation="identity") for key in range(len(weights))),
        tuple(
            ConnectionGene(-source, key, weight)
            for key, of_output in enumerate(weights)
            for source, weight in of_output.items()
        ),
    )


def one(genome: Genome) -> Population:
    return Population.from_genomes([genome], dtype=torch.float64)


def test_points():
    assert grid(2, 3) == ((-1, -1), (-1, 0), (-1, 1), (1, -1), (1, 0), (1, 1))
    assert grid(1, at=(0.5,)) == ((0.0, 0.5),)
    corner = circle(4, radius=2, at=(1,))
    assert corner[1] == pytest.approx((0, 2, 1), abs=1e-12)
    assert corner[2] == pytest.approx((-2, 0, 1), abs=1e-12)


def test_layers_and_their_edges():
    substrate = Substrate.layered([3, 2, 1])
    assert substrate.inputs == ((-1, -1), (0, -1), (1, -1))
    assert substrate.hidden == (((-1, 0), (1, 0)),)
    assert substrate.outputs == ((0, 1),)
    assert set(map(tuple, substrate.edges().T.tolist())) == {
        *((i, h) for i in (-1, -2, -3) for h in (1, 2)),
        (1, 0),
        (2, 0),
    }
    skip = Substrate.layered([3, 2, 1], skip=True).edges().T.tolist()
    assert sorted(skip[-3:]) == [[-3, 0], [-2, 0], [-1, 0]]
    keys = torch.tensor([-1, -3, 0, 2])
    assert substrate.coordinates(keys).tolist() == [[-1, -1], [1, -1], [0, 1], [1, 0]]


def test_two_hidden_layers_are_connected_in_turn():
    edges = Substrate.layered([1, 2, 2, 1]).edges().T.tolist()
    assert edges == [[-1, 1], [-1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 0], [4, 0]]


def test_recurrent_edges():
    layered = Substrate.layered([2, 2, 1])
    substrate = Substrate(layered.inputs, layered.outputs, layered.hidden, recurrent=True)
    edges = set(map(tuple, substrate.edges().T.tolist()))
    inner = {(a, b) for a in (1, 2) for b in (1, 2)}
    assert edges == {(-1, 1), (-1, 2), (-2, 1), (-2, 2), (1, 0), (2, 0)} | inner


def test_weights_follow_the_threshold():
    """The CPPN gives the source's x: below, at and above the threshold, and beyond 1."""
    substrate = Substrate(((-1, 0), (-0.2, 0), (0.6, 0), (9, 0)), ((0, 1),))
    phenotype = HyperNEAT(substrate, threshold=0.2, max_weight=5.0)
    genome = phenotype.substrates(one(linear(5, {1: 1.0}))).genome(0)
    weights = {gene.source: (gene.enabled, gene.weight) for gene in genome.connections}
    assert weights[-1] == (True, -5.0)
    assert weights[-2] == (False, 0.0)
    assert weights[-3] == (True, pytest.approx(0.4 / 0.8 * 5))
    assert weights[-4] == (True, 5.0)


def test_a_layered_substrate_is_its_matrices():
    """In three dimensions, with biases: the outputs of tanh layers by hand."""
    sheets = [grid(2, 2, at=(z,)) for z in (-1, 0, 1)]
    substrate = Substrate(sheets[0], sheets[2], (sheets[1],))
    asked = ({1: 0.3, 4: -0.4, 2: 0.2, 5: 0.5, 7: 0.1}, {4: 0.3, 6: 0.2, 7: 0.1})
    phenotype = HyperNEAT(substrate, threshold=0.25, max_weight=2.0, bias=True, activation="tanh")
    nets = phenotype(one(linear(7, *asked)))
    points = [torch.tensor(sheet, dtype=torch.float64) for sheet in sheets]

    def layer(x, source, target):
        q = 0.3 * source[:, None, 0] - 0.4 * target[:, 0] + 0.2 * source[:, None, 1]
        q = (q + 0.5 * target[:, 1] + 0.1).clamp(-1, 1)
        w = torch.where(q.abs() > 0.25, q.sign() * (q.abs() - 0.25) / 0.75 * 2, 0)
        bias = (0.3 * target[:, 0] + 0.2 * target[:, 2] + 0.1) * 2
        return torch.tanh(x @ w + bias)

    x = torch.randn(6, 4, dtype=torch.float64)
    expected = layer(layer(x, points[0], points[1]), points[1], points[2])
    torch.testing.assert_close(nets(x)[0], expected)


def test_a_recurrent_substrate_is_its_matrices():
    substrate = Substrate(grid(2, at=(-1,)), grid(1, at=(1,)), (grid(3, at=(0,)),), recurrent=True)
    phenotype = HyperNEAT(substrate, threshold=0.0, max_weight=1.5, activation="tanh", ticks=4)
    nets = phenotype(one(linear(5, {1: 0.4, 3: 0.3, 4: 0.2})))
    spots = {name: torch.tensor(getattr(substrate, name)) for name in ("inputs", "outputs")}
    spots["hidden"] = torch.tensor(substrate.hidden[0])

    def w(source, target):
        a, b = spots[source].double(), spots[target].double()
        return 1.5 * (0.4 * a[:, None, 0] + 0.3 * b[:, 0] + 0.2 * b[:, 1])

    x = torch.randn(5, 2, dtype=torch.float64)
    hidden, out = torch.zeros(5, 3, dtype=torch.float64), torch.zeros(5, 1, dtype=torch.float64)
    state = nets.rest(5)
    for _ in range(4):
        before = hidden
        hidden = torch.tanh(x @ w("inputs", "hidden") + before @ w("hidden", "hidden"))
        out = torch.tanh(before @ w("hidden", "outputs"))
        y, state = nets.step(x, state)
        torch.testing.assert_close(y[0], out)
    torch.testing.assert_close(nets(x)[0], out)


def test_leo_expresses_and_the_weight_is_not_thresholded():
    """Weights are 0.1 everywhere; a connection is there where the source is right of 0."""
    substrate = Substrate(grid(4, at=(0,)), grid(2, at=(1,)))
    phenotype = HyperNEAT(substrate, leo=True, max_weight=2.0)
    genome = phenotype.substrates(one(linear(5, {5: 0.1}, {1: 1.0}))).genome(0)
    assert {gene.source for gene in genome.connections if gene.enabled} == {-3, -4}
    for gene in genome.connections:
        assert gene.weight == pytest.approx(0.2 if gene.enabled else 0)


def test_the_locality_seed_connects_neighbours():
    substrate = Substrate(grid(5, 5), grid(5, 5))
    phenotype = HyperNEAT(substrate, leo=True, bias=True)
    seed = locality_seed(phenotype, width=1.0)
    genome = phenotype.substrates(Population.from_genomes([seed])).genome(0)
    for gene in genome.connections:
        a, b = substrate.coordinates(torch.tensor([gene.source, gene.target])).tolist()
        near = sum(math.exp(-((x - y) ** 2)) for x, y in zip(a, b, strict=True)) > 1.5
        assert gene.enabled == near
    assert 25 < genome.size[1] < 25 * 25


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_substrate_alone_is_the_same_to_the_last_bit(recurrent):
    generator = torch.Generator().manual_seed(1)
    substrate = Substrate(
        grid(3, 3, at=(-1,)), grid(2, 2, at=(1,)), (grid(3, 2, at=(0,)),), recurrent=recurrent
    )
    phenotype = HyperNEAT(substrate, bias=True, distance=True, ticks=3)
    draws = torch.randn(5, 2, phenotype.cppn_inputs, generator=generator).tolist()
    cppns = Population.from_genomes(
        [
            linear(phenotype.cppn_inputs, *(dict(enumerate(row, 1)) for row in rows))
            for rows in draws
        ]
    )
    x = torch.randn(11, 9, generator=generator)
    together = phenotype(cppns)
    y = together(x)
    for row in range(5):
        rows = torch.tensor([row])
        torch.testing.assert_close(phenotype(cppns.select(rows))(x)[0], y[row], rtol=0, atol=0)
        torch.testing.assert_close(together.select(rows)(x)[0], y[row], rtol=0, atol=0)


def test_substrates_are_genomes_like_any_other():
    phenotype = HyperNEAT(Substrate.layered([2, 3, 1]), output_activation="identity")
    substrates = phenotype.substrates(one(linear(5, {1: 0.7, 5: 0.4})))
    again = Population.from_genomes(substrates.genomes(), dtype=torch.float64)
    x = torch.randn(4, 2, dtype=torch.float64)
    torch.testing.assert_close(networks(again)(x), phenotype(one(linear(5, {1: 0.7, 5: 0.4})))(x))
    assert substrates.genome(0).nodes[0].activation == "identity"


def test_a_phenotype_is_a_value_that_travels():
    phenotype = HyperNEAT(Substrate.layered([2, 3, 1]), leo=True)
    assert pickle.loads(pickle.dumps(phenotype)) == phenotype
    assert hash(phenotype) == hash(HyperNEAT(Substrate.layered([2, 3, 1]), leo=True))
    assert (phenotype.inputs, phenotype.outputs) == (2, 1)
    assert (phenotype.cppn_inputs, phenotype.cppn_outputs) == (5, 2)


def evolve(phenotype: HyperNEAT, problem, generations: int, target: float, seed: int) -> NEAT:
    neat = phenotype.neat(seed=seed)
    for generation in range(generations):
        episodes = Episodes(seed, generation, tuple(neat.ids.tolist()))
        if neat.tell(problem.evaluate(neat.networks(), episodes)).best >= target:
            break
    return neat


def test_learns_parity_of_three():
    """Fitness 8 - squared errors; 7.5 has all eight on the right side. 31 generations at median."""
    phenotype = HyperNEAT(
        Substrate.layered([3, 4, 4, 1], skip=True),
        max_weight=5.0,
        bias=True,
        activation="tanh",
        output_activation="neat_sigmoid",
    )
    problem = xor3d()
    neat = evolve(phenotype, problem, 200, 7.5, seed=0)
    assert neat.champion.fitness >= 7.5
    again = problem.evaluate(neat.best_networks(), Episodes(0, 0, (0,)))
    assert again.item() == neat.champion.fitness


def test_learns_to_tell_squares_apart():
    """75 placements are shown, the other 925 are judged."""
    problem = VisualDiscrimination(7, trials=75)
    phenotype = HyperNEAT(problem.substrate, distance=True, activation="identity")
    neat = evolve(phenotype, problem, 30, 0.999, seed=0)
    assert neat.champion.fitness >= 0.999
    judged = problem.held_out(neat.best_genome, run_seed=0, phenotype=phenotype)
    assert judged.item() >= 0.99


def test_bad_input():
    substrate = Substrate.layered([2, 1])
    with pytest.raises(ValueError, match=r"HyperNEAT: expected CPPNs with 5 inputs .* got 4 and 1"):
        HyperNEAT(substrate)(one(linear(4, {})))
    with pytest.raises(ValueError, match="expected a threshold from 0 to below 1, got 1"):
        HyperNEAT(substrate, threshold=1)
    with pytest.raises(ValueError, match="expected a max_weight above 0, got -1"):
        HyperNEAT(substrate, max_weight=-1)
    with pytest.raises(ValueError, match="there is no activation 'sine'"):
        HyperNEAT(substrate, output_activation="sine")
    with pytest.raises(ValueError, match="expected at least 1 tick"):
        HyperNEAT(substrate, ticks=0)
    with pytest.raises(ValueError, match="expected a phenotype with leo=True"):
        locality_seed(HyperNEAT(substrate))
    with pytest.raises(ValueError, match="expected a width above 0"):
        locality_seed(HyperNEAT(substrate, leo=True), width=0)


def test_bad_substrates():
    with pytest.raises(ValueError, match=r"got 1, 0 and \[\]"):
        Substrate(grid(1), ())
    with pytest.raises(ValueError, match=r"expected points of one dimension, got \[1, 2\]"):
        Substrate(grid(1), grid(1, 1))
    with pytest.raises(ValueError, match="expected finite coordinates"):
        Substrate(((math.nan,),), grid(1))
    with pytest.raises(ValueError, match="a recurrent substrate needs hidden nodes"):
        Substrate(grid(1), grid(1), recurrent=True)
    with pytest.raises(ValueError, match=r"grid: expected .* got \(2, 0\)"):
        grid(2, 0)
    with pytest.raises(ValueError, match=r"circle: expected .* got 0 and 1\.0"):
        circle(0)
    with pytest.raises(ValueError, match=r"expected two or more sizes, got \[3\]"):
        Substrate.layered([3])


def test_a_run_starts_from_the_locality_seed():
    phenotype = HyperNEAT(Substrate.layered([3, 3]), leo=True)
    seed = locality_seed(phenotype, width=2.5)  # the layers are 2 apart, neighbours in one 1
    neat = phenotype.neat(ancestor=seed)
    assert neat.population.genome(0) == Population.from_genomes([seed]).genome(0)
    first = phenotype.substrates(neat.population.select(slice(0, 1)))
    near = [gene.source == -1 - gene.target for gene in first.genome(0).connections]
    assert first.enabled[0].tolist() == near  # each node is connected to the one above it
