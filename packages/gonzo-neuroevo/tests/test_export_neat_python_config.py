"""neat-python's configuration files, read and written, with neat-python as the judge."""

from dataclasses import replace

import pytest

from gonzo.neuroevo.config import Choice, NEATConfig, Number
from gonzo.neuroevo.export import read_neat_python_config, write_neat_python_config

TEXT = """\
# an experiment
[NEAT]
pop_size              = 77
fitness_criterion     = max
fitness_threshold     = 3.9
reset_on_extinction   = False
no_fitness_termination = False
seed = 3

[DefaultGenome]
num_inputs              = 2
num_outputs             = 1
num_hidden              = 3
feed_forward            = False
initial_connection      = partial_nodirect 0.5
compatibility_disjoint_coefficient = 1.1
compatibility_weight_coefficient   = 0.6
conn_add_prob           = 0.51
conn_delete_prob        = 0.52
node_add_prob           = 0.21
node_delete_prob        = 0.22
single_structural_mutation = True
structural_mutation_surer  = default
activation_default      = sigmoid
activation_options      = sigmoid relu gauss
activation_mutate_rate  = 0.1
aggregation_default     = random
aggregation_options     = sum max
aggregation_mutate_rate = 0.2
bias_init_mean          = 0.1
bias_init_stdev         = 0.9
bias_init_type          = uniform
bias_max_value          = 20.0
bias_min_value          = -21.0
bias_mutate_power       = 0.4
bias_mutate_rate        = 0.6
bias_replace_rate       = 0.05
response_init_mean      = 1.0
response_init_stdev     = 0.0
response_init_type      = gaussian
response_max_value      = 30.0
response_min_value      = -30.0
response_mutate_power   = 0.0
response_mutate_rate    = 0.0
response_replace_rate   = 0.0
weight_init_mean        = 0.0
weight_init_stdev       = 1.0
weight_init_type        = gaussian
weight_max_value        = 30
weight_min_value        = -30
weight_mutate_power     = 0.5
weight_mutate_rate      = 0.8
weight_replace_rate     = 0.1
enabled_default         = yes
enabled_mutate_rate     = 0.01
enabled_rate_to_true_add = 0.0
enabled_rate_to_false_add = 0.0

[DefaultSpeciesSet]
compatibility_threshold = 2.5

[DefaultStagnation]
species_fitness_func = median2
max_stagnation       = 12
species_elitism      = 3

[DefaultReproduction]
elitism            = 1
survival_threshold = 0.3
min_species_size   = 4
"""

MEANT = NEATConfig(
    population=77,
    kind="recurrent",
    initial_hidden=3,
    initial_connections="partial",
    initial_direct=False,
    initial_fraction=0.5,
    weight=Number(0.0, 1.0, "normal", -30.0, 30.0, 0.8, 0.5, 0.1),
    bias=Number(0.1, 0.9, "uniform", -21.0, 20.0, 0.6, 0.4, 0.05),
    response=Number(1.0, 0.0, "normal", -30.0, 30.0, 0.0, 0.0, 0.0),
    time_constant=Number(1.0, 0.0, "normal", 0.01, 10.0, 0.0, 0.0, 0.0),
    activation=Choice(("steep_sigmoid", "relu", "steep_gauss"), "steep_sigmoid", 0.1),
    aggregation=Choice(("sum", "max"), "random", 0.2),
    enabled_mutate=0.01,
    add_connection=0.51,
    delete_connection=0.52,
    add_node=0.21,
    delete_node=0.22,
    single_structural_mutation=True,
    enable_existing=True,
    excess=1.1,
    difference=0.6,
    threshold=2.5,
    species_fitness="median",
    stagnation=12,
    protected_species=3,
    elitism=1,
    survival=0.3,
    min_species_size=4,
)


def load(neat, path):
    """The file as neat-python reads it."""
    return neat.Config(
        neat.DefaultGenome,
        neat.DefaultReproduction,
        neat.DefaultSpeciesSet,
        neat.DefaultStagnation,
        str(path),
    )


def test_every_option_is_read(tmp_path):
    path = tmp_path / "neat.ini"
    path.write_text(TEXT)
    assert read_neat_python_config(path) == MEANT


def test_neat_python_reads_the_same(tmp_path):
    neat = pytest.importorskip("neat")
    one, two = tmp_path / "one.ini", tmp_path / "two.ini"
    one.write_text(TEXT)
    assert write_neat_python_config(MEANT, two, inputs=2, outputs=1, fitness_threshold=3.9) == two
    assert read_neat_python_config(two) == MEANT
    theirs, ours = load(neat, one), load(neat, two)
    for part in ("genome_config", "species_set_config", "stagnation_config", "reproduction_config"):
        before, after = vars(getattr(theirs, part)), vars(getattr(ours, part))
        assert set(before) == set(after)
        for name, value in before.items():
            if isinstance(value, int | float | str | list) and name not in (
                "_params",
                "structural_mutation_surer",  # "default" is written as what it stands for
                "enabled_default",
            ):
                assert after[name] == value, name
    assert theirs.genome_config.check_structural_mutation_surer()
    assert ours.genome_config.check_structural_mutation_surer()
    assert (ours.pop_size, ours.fitness_threshold) == (77, 3.9)
    assert not ours.no_fitness_termination


def test_neat_python_runs_what_is_written(tmp_path):
    neat = pytest.importorskip("neat")
    config = replace(NEATConfig.neat_python(20), threshold=50.0)
    path = write_neat_python_config(config, tmp_path / "neat.ini", inputs=2, outputs=1)
    population = neat.Population(load(neat, path))

    def evaluate(genomes, _):
        for _, genome in genomes:
            genome.fitness = sum(gene.weight for gene in genome.connections.values())

    population.run(evaluate, 3)
    assert population.generation == 3
    assert len(population.population) == 20


@pytest.mark.parametrize(
    "config",
    [
        NEATConfig.neat_python(),
        replace(NEATConfig.neat_python(9), initial_connections="unconnected", initial_direct=False),
        replace(
            NEATConfig.neat_python(),
            initial_connections="one-input",
            initial_direct=False,
            elitism=0,
        ),
        replace(NEATConfig.neat_python(), initial_connections="full", initial_direct=False),
        replace(NEATConfig.neat_python(), species_fitness="mean", enable_existing=True),
    ],
)
def test_there_and_back(config, tmp_path):
    neat = pytest.importorskip("neat")
    path = write_neat_python_config(config, tmp_path / "neat.ini", inputs=3, outputs=2)
    loaded = load(neat, path)
    assert loaded.no_fitness_termination
    assert (loaded.genome_config.num_inputs, loaded.genome_config.num_outputs) == (3, 2)
    found = read_neat_python_config(path)
    if config.initial_connections in ("unconnected", "one-input"):
        found = replace(found, initial_direct=config.initial_direct)
    assert found == config


def test_what_neat_python_cannot_say(tmp_path):
    path = tmp_path / "neat.ini"

    def refused(config, message):
        with pytest.raises(ValueError, match=message):
            write_neat_python_config(config, path, inputs=1, outputs=1)
        assert not path.exists()

    base = NEATConfig.neat_python()
    refused(replace(base, split="enabled"), r"no option for split='enabled' \(has 'any'\)")
    refused(NEATConfig.canonical(), "weights_probability=0.8 .*; .*split=.*distance='canonical'")
    refused(
        replace(base, activation=Choice(("tanh",))),
        r"for activation 'tanh' \(has its own steep_sig",
    )
    refused(replace(base, activation=Choice(("neat_sigmoid",))), "activation 'neat_sigmoid'")
    refused(replace(base, max_nodes=10), "max_nodes=10")
    write_neat_python_config(replace(base, ticks=3, time_step=0.5), path, inputs=1, outputs=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pop_size              = 77", "", r"\[NEAT\]: the option pop_size is missing"),
        ("= 77", "= many", r"\[NEAT\]: expected pop_size to be a whole number, got 'many'"),
        ("= 77", "= 1", "NEATConfig: expected population of at least 2, got 1"),
        ("conn_add_prob           = 0.51", "conn_add_prob = nan", "conn_add_prob to be a number"),
        ("= 0.51", "= 1.5", "expected add_connection between 0 and 1"),
        ("seed = 3", "speed = 3", r"\[NEAT\]: unknown options speed"),
        ("[DefaultStagnation]", "[MyStagnation]", "expected the sections .* got .*MyStagnation"),
        (
            "feed_forward            = False",
            "feed_forward = perhaps",
            "to be True or False, got 'p",
        ),
        ("relu gauss", "relu mine", "activation_options: the activation 'mine' is none of"),
        ("sum max", "sum mine", "aggregation_options: the aggregation 'mine' is none of"),
        ("= sigmoid\n", "= tanh\n", r"\[DefaultGenome\] activation_…: Choice: expected initial"),
        ("enabled_default         = yes", "enabled_default = no", "enabled_default to be True"),
        ("_true_add = 0.0", "_true_add = 0.1", "enabled_rate_to_true_add to be 0.0"),
        ("partial_nodirect 0.5", "partial_direct", "partial_direct and a fraction"),
        ("partial_nodirect 0.5", "ring", "initial_connection to be one that neat-python knows"),
        ("partial_nodirect 0.5", "fs_neat", "fs_neat_hidden, since there are hidden nodes"),
        ("= uniform", "= cauchy", "bias_init_type to be gaussian or uniform, got 'cauchy'"),
        (
            "bias_mutate_rate        = 0.6",
            "bias_mutate_rate = 0.99",
            r"bias_…: Number: expected prob",
        ),
        ("[NEAT]", "NEAT", "File contains no section headers"),
        ("pop_size  ", "elitism = %(nothing)s\npop_size  ", "neat.ini: .*nothing"),
        ("pop_size  ", "pop_size = 3\npop_size  ", "option 'pop_size' in section 'NEAT' already"),
        ("= median2", "= mode", "expected species_fitness to be one of"),
    ],
)
def test_bad_files(old, new, message, tmp_path):
    path = tmp_path / "neat.ini"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        read_neat_python_config(path)
    assert "neat.ini" in str(caught.value)


def test_missing_and_huge_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_neat_python_config(tmp_path / "none.ini")
    with (tmp_path / "huge.ini").open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(ValueError, match=r"huge\.ini is larger than 16777216 bytes"):
        read_neat_python_config(tmp_path / "huge.ini")
