"""Whole runs: XOR is solved, a run repeats and resumes to the same bits, bad fitness is refused."""

from dataclasses import replace

import pytest
import torch

from gonzo.neuroevo.config import Choice, NEATConfig, Number
from gonzo.neuroevo.evolution import evolve
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.neat import NEAT
from gonzo.neuroevo.order import has_cycle
from gonzo.neuroevo.problem import GenomeFitness, NetworkFitness
from gonzo.neuroevo.saving import load_run, save_run
from gonzo.neuroevo.supervised import xor

X = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
Y = torch.tensor([0.0, 1, 1, 0])
SMALL = NEATConfig(population=40)


def xor_fitness(networks):
    return 4 - (networks(X)[..., 0] - Y).square().sum(1)


def told(neat, generations):
    for _ in range(generations):
        neat.tell(xor_fitness(neat.networks()))
    return neat


def same(one, other):
    """Bit by bit, with dictionaries, lists and tensors inside."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("config", [NEATConfig(), NEATConfig.canonical()])
def test_xor_is_solved(config):
    solved = [evolve(NEAT(2, 1, config, seed=seed), xor(), 150, target=3.9) for seed in range(6)]
    assert sum(outcome.solved for outcome in solved) >= 3
    best = next(outcome for outcome in solved if outcome.solved)
    assert len(best.genome.nodes) >= 2  # not without a hidden node
    assert best.judged >= 3.9


def test_a_run_repeats_and_seeds_differ():
    one, two, other = (told(NEAT(2, 1, SMALL, seed=s), 8) for s in (5, 5, 6))
    assert same(one.state_dict(), two.state_dict())
    assert not same(one.state_dict()["population"], other.state_dict()["population"])


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(NEATConfig.canonical(40), target_species=5),
        replace(SMALL, kind="recurrent", representatives="random", max_nodes=6),
        replace(SMALL, activation=Choice(("tanh", "sin"), mutate=0.2), response=Number(mean=1.0)),
    ],
)
def test_a_saved_run_goes_on_to_the_same_bits(tmp_path, config):
    whole = told(NEAT(2, 1, config, seed=3), 14)
    half = told(NEAT(2, 1, config, seed=3), 7)
    save_run(half, tmp_path / "run.pt")
    back = load_run(tmp_path / "run.pt")
    assert same(back.state_dict(), half.state_dict())
    assert same(told(back, 7).state_dict(), whole.state_dict())
    assert back.history == whole.history
    assert back.best_genome == whole.best_genome


def test_the_generator_of_torch_is_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    told(NEAT(2, 1, SMALL), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_generation_is_whole():
    """Sizes add up, ids are new or copies, champions stay, and species know their members."""
    for config in (SMALL, NEATConfig.canonical(40), replace(SMALL, threshold=0.8)):
        neat = NEAT(2, 1, config, seed=1)
        best = -1.0
        for _ in range(12):
            fitness = xor_fitness(neat.networks())
            before = dict(zip(neat.ids.tolist(), neat.population.genomes(), strict=True))
            generation = neat.tell(fitness)
            assert len(neat.population) == 40
            assert sum(one.size for one in neat.species) == 40
            assert min(one.size for one in neat.species) >= 1
            assert sum(generation.species.values()) == 40
            assert len(set(neat.ids.tolist())) == 40
            for key, genome in zip(neat.ids.tolist(), neat.population.genomes(), strict=True):
                assert before.get(key, genome) == genome
            assert not has_cycle(neat.population).any()
            if config.elitism_size == 0:
                assert generation.best >= best
                best = generation.best


def test_the_threshold_moves_towards_the_wanted_number_of_species():
    config = replace(NEATConfig.canonical(80), threshold=0.2, target_species=6, threshold_step=0.5)
    neat = told(NEAT(2, 1, config), 40)
    counts = [len(generation.species) for generation in neat.history[25:]]
    assert 3 <= sum(counts) / len(counts) <= 9
    still = told(NEAT(2, 1, replace(config, target_species=0)), 40)
    assert still.threshold == 0.2
    assert len(still.history[-1].species) > 12


@pytest.mark.parametrize(
    ("fitness", "message"),
    [
        (torch.zeros(39), r"fitness of 40 genomes, shape \(40,\), got \(39,\)"),
        (torch.full((40,), float("nan")), r"fitness of genome 0 \(position 0\) is nan"),
        (torch.tensor([0.0] * 39 + [float("inf")]), "genome 39 .position 39. is inf"),
    ],
)
def test_bad_fitness_changes_nothing(fitness, message):
    neat = NEAT(2, 1, SMALL)
    before = neat.state_dict()
    with pytest.raises(ValueError, match=message):
        neat.tell(fitness)
    assert same(neat.state_dict(), before)


def test_a_lucky_episode_is_not_success():
    """A genome reaches the target where it is selected, and not where it is judged."""

    def lucky(network, seed):
        return 1.0 if seed % 2 == 0 else 0.0  # held-out seeds are odd

    outcome = evolve(NEAT(1, 1, SMALL), GenomeFitness(lucky, 1, 1), 3, target=1.0)
    assert not outcome.solved
    assert (outcome.fitness, outcome.judged) == (1.0, 0.0)
    assert outcome.generations == 3
    assert outcome.evaluations == 120


def test_checkpoints_and_watching(tmp_path):
    path = tmp_path / "run.pt"
    seen = []
    problem = NetworkFitness(xor_fitness, 2, 1)
    evolve(
        NEAT(2, 1, SMALL, seed=2),
        problem,
        4,
        checkpoint=path,
        watch=lambda neat, generation: seen.append((neat.generation, generation.number)),
    )
    assert seen == [(1, 0), (2, 1), (3, 2), (4, 3)]
    with pytest.raises(ValueError, match="holds a run at generation 4, this one is at 0"):
        evolve(NEAT(2, 1, SMALL, seed=3), problem, 1, checkpoint=path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        evolve(NEAT(2, 1, SMALL), problem, 1, checkpoint=tmp_path / "none" / "run.pt")
    resumed = evolve(load_run(path), problem, 6)
    whole = evolve(NEAT(2, 1, SMALL, seed=2), problem, 6)
    assert resumed == whole
    assert isinstance(whole.genome, Genome)
    assert not list(tmp_path.glob(".run*"))


def test_files_that_are_no_runs(tmp_path):
    path = tmp_path / "run.pt"
    save_run(NEAT(2, 1, SMALL), path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged, or was not written by save_run"):
            load_run(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="was not written by save_run"):
        load_run(path)
    for at in range(0, len(whole), len(whole) // 40):  # every flipped bit is seen
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(ValueError, match="damaged"):
            load_run(path)
    with pytest.raises(FileNotFoundError):
        load_run(tmp_path / "none.pt")
    other = NEAT(2, 1, replace(SMALL, add_node=0.9))
    with pytest.raises(ValueError, match="another config, in add_node"):
        other.load_state_dict(NEAT(2, 1, SMALL).state_dict())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NEAT(2, 0), "1 or more outputs"),
        (
            lambda: NEAT(2, 1, SMALL).tell(torch.full((40,), 1e308, dtype=torch.float64)),
            "within ±1e.300",
        ),
        (lambda: NEAT(2, 1, seed=-1), "a seed in 0"),
        (lambda: NEAT(9, 2, replace(SMALL, max_connections=4)), "raise these, or start"),
        (lambda: NEAT(2, 1).best_genome, "no champion before"),
        (lambda: evolve(NEAT(2, 1), xor(), 0), "1 or more generations"),
        (lambda: evolve(NEAT(3, 1, SMALL), xor(), 1), "problem has 2 inputs"),
        (lambda: replace(SMALL, kind="lstm"), "kind to be one of"),
        (lambda: replace(SMALL, add_node=1.5), "add_node between 0 and 1, got 1.5"),
        (lambda: replace(SMALL, population=1), "population of at least 2"),
        (lambda: replace(SMALL, min_species_size=41), "at least 41 genomes"),
        (lambda: replace(SMALL, threshold=float("nan")), "threshold of at least 0, got nan"),
        (lambda: replace(SMALL, activation=Choice(("swish",))), "no activation 'swish'"),
        (lambda: Choice(("tanh",), initial="sin"), "initial to be"),
        (lambda: Choice(()), "at least one option"),
        (lambda: Number(low=2.0, high=1.0), "low <= high"),
        (lambda: Number(mutate=0.8, replace=0.3), "at most 1"),
        (lambda: Number(distribution="cauchy"), '"normal" or "uniform"'),
        (lambda: replace(SMALL, time_constant=Number(mean=1.0)), "time constants above 0"),
    ],
)
def test_what_cannot_be_asked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_all_descend_from_an_ancestor():
    ancestor = Genome(
        2,
        1,
        (NodeGene(0), NodeGene(7)),
        (ConnectionGene(-1, 7, 1.0, True, 3), ConnectionGene(7, 0, 2.0, True, 9)),
    )
    neat = NEAT(2, 1, SMALL, ancestor=ancestor)
    assert neat.population.genome(0) == ancestor
    assert {len(genome.connections) for genome in neat.population.genomes()} == {2}
    assert len({genome.connections[0].weight for genome in neat.population.genomes()}) > 20
    told(neat, 4)
    new = {g for one in neat.population.genomes() for g in one.connections if g.innovation > 9}
    assert new
    assert all(n.key in (0, 7) or n.key > 7 for one in neat.population.genomes() for n in one.nodes)
    with pytest.raises(ValueError, match="ancestor with 3 inputs and 1 outputs, got 2 and 1"):
        NEAT(3, 1, SMALL, ancestor=ancestor)
    back = replace(ancestor, connections=(*ancestor.connections, ConnectionGene(0, 7, 1.0, False)))
    with pytest.raises(ValueError, match="ancestor has a cycle"):
        NEAT(2, 1, SMALL, ancestor=back)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NEAT(2, 1, seed=1.0), "a whole number as seed, got 1.0"),
        (lambda: NEAT(2, 1, 150), "expected a NEATConfig, got 150"),
        (lambda: NEATConfig(activation="tanh"), r"did you mean Choice\(\('tanh',\)\)"),
        (lambda: NEATConfig(activation=("tanh", "sin")), r"mean Choice\(\('tanh', 'sin'\)\)"),
        (lambda: Choice("tanh"), "a tuple of names, got 'tanh'"),
        (lambda: NEATConfig(population=20.5), "population to be of type int, got 20.5"),
        (lambda: evolve(NEAT(2, 1), lambda nets: 0, 1), "NetworkFitness"),
    ],
)
def test_the_wrong_kind_of_thing(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_small_and_strange_runs():
    """No inputs, huge fitness, two genomes: runs go on."""
    for inputs, config in (
        (0, SMALL),
        (2, replace(SMALL, population=2, min_species_size=1, elitism=1)),
    ):
        neat = NEAT(inputs, 1, config)
        for number in range(6):
            neat.tell(torch.linspace(-1e300, 1e300, config.population, dtype=torch.float64))
            assert neat.generation == number + 1
            neat.population.genomes()


def test_a_run_from_an_ancestor_is_loaded_under_its_limits(tmp_path):
    ancestor = Genome(4, 2, (NodeGene(0), NodeGene(1)), (ConnectionGene(-1, 0, 1.0),))
    neat = NEAT(4, 2, replace(SMALL, max_connections=5), ancestor=ancestor)
    neat.tell(torch.rand(40))
    save_run(neat, tmp_path / "run.pt")
    assert same(load_run(tmp_path / "run.pt").state_dict(), neat.state_dict())


def test_a_run_is_loaded_with_the_phenotype_it_had(tmp_path):
    from gonzo.neuroevo.hyperneat import HyperNEAT
    from gonzo.neuroevo.substrate import Substrate

    save_run(HyperNEAT(Substrate.layered([2, 3, 1])).neat(SMALL), tmp_path / "run.pt")
    for other in (None, HyperNEAT(Substrate.layered([2, 7, 1]))):
        with pytest.raises(ValueError, match="was saved with the phenotype HyperNEAT"):
            load_run(tmp_path / "run.pt", phenotype=other)
    load_run(tmp_path / "run.pt", phenotype=HyperNEAT(Substrate.layered([2, 3, 1])))


def test_genomes_do_not_explode_on_a_plateau():
    neat = NEAT(2, 1, replace(NEATConfig.canonical(60), population=60))
    for _ in range(120):
        neat.tell(torch.ones(60))
    assert neat.history[-1].connections < 25


def test_the_threshold_that_is_told_is_the_one_that_divided():
    neat = told(NEAT(2, 1, replace(SMALL, target_species=3)), 2)
    assert neat.history[0].threshold == SMALL.threshold


def test_a_population_of_other_sizes_is_refused():
    neat = NEAT(2, 1, SMALL)
    neat.population = neat.population.select(slice(0, 10))
    with pytest.raises(ValueError, match=r"a population of 40 genomes .* got 10"):
        neat.tell(torch.zeros(40))
