"""Genomes that neat-python grew, and what its networks make of them; writes the arrays beside it.

    python grow.py

needs neat-python 2.0.0, numpy and gonzo-neuroevo.
"""

import random
import tempfile
from pathlib import Path

CONFIG = """\
[NEAT]
pop_size = 10
fitness_criterion = max
fitness_threshold = 1.0
reset_on_extinction = False
no_fitness_termination = True

[DefaultGenome]
num_inputs = {inputs}
num_outputs = {outputs}
num_hidden = 1
feed_forward = {feed_forward}
initial_connection = partial_direct 0.7
compatibility_disjoint_coefficient = 1.0
compatibility_weight_coefficient = 0.5
conn_add_prob = 0.6
conn_delete_prob = 0.15
node_add_prob = 0.4
node_delete_prob = 0.05
single_structural_mutation = False
structural_mutation_surer = default
activation_default = random
activation_options = {activations}
activation_mutate_rate = 0.2
aggregation_default = random
aggregation_options = sum sum product max min maxabs median mean
aggregation_mutate_rate = 0.2
enabled_default = True
enabled_mutate_rate = 0.05
enabled_rate_to_true_add = 0.0
enabled_rate_to_false_add = 0.0
{numbers}

[DefaultSpeciesSet]
compatibility_threshold = 3.0

[DefaultStagnation]
species_fitness_func = max
max_stagnation = 20
species_elitism = 2

[DefaultReproduction]
elitism = 2
survival_threshold = 0.2
min_species_size = 2
"""
NUMBERS = (("weight", 0.0, 1.0), ("bias", 0.0, 1.0), ("response", 1.0, 0.3))
ACTIVATIONS = (
    "sigmoid tanh sin gauss relu elu lelu selu softplus identity clamped inv log exp abs hat square"
)


def configuration(neat, kind, inputs=3, outputs=2):
    """A neat.Config of all its functions but the cube, whose cubes leave float64."""
    numbers = "\n".join(
        f"{name}_init_mean = {mean}\n{name}_init_stdev = {std}\n{name}_init_type = gaussian\n"
        f"{name}_max_value = 5\n{name}_min_value = -5\n{name}_mutate_power = 0.5\n"
        f"{name}_mutate_rate = 0.5\n{name}_replace_rate = 0.1"
        for name, mean, std in NUMBERS
    ) + (
        "\ntime_constant_init_mean = 1.0\ntime_constant_init_stdev = 0.3"
        "\ntime_constant_init_type = gaussian\ntime_constant_max_value = 5"
        "\ntime_constant_min_value = 0.1\ntime_constant_mutate_power = 0.1"
        "\ntime_constant_mutate_rate = 0.2\ntime_constant_replace_rate = 0.0"
    )
    text = CONFIG.format(
        inputs=inputs,
        outputs=outputs,
        feed_forward=kind == "feed-forward",
        activations=ACTIVATIONS,
        numbers=numbers,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "neat.ini"
        path.write_text(text)
        return neat.Config(
            neat.DefaultGenome,
            neat.DefaultReproduction,
            neat.DefaultSpeciesSet,
            neat.DefaultStagnation,
            str(path),
        )


def evolved(neat, kind, count, seed):
    """Pairs of a genome and its configuration; every genome is neat-python's own work."""
    config = configuration(neat, kind)
    before = random.getstate()
    random.seed(seed)
    try:
        config.genome_config.innovation_tracker = neat.innovation.InnovationTracker()
        parents = []
        for key in range(count):
            genome = neat.DefaultGenome(key)
            if len(parents) < 10 or random.random() < 0.2:
                genome.configure_new(config.genome_config)
            else:
                one, other = random.sample(parents[-10:], 2)
                genome.configure_crossover(one, other, config.genome_config)
            for _ in range(random.randrange(8)):
                genome.mutate(config.genome_config)
            genome.fitness = random.random()
            parents.append(genome)
            yield genome, config
    finally:
        random.setstate(before)


def outputs(neat, genome, config, kind):
    """Inputs (4, inputs), what neat-python's network gives for them in turn, and its largest value.

    The largest is of all nodes and inputs of a node over all four, in magnitude.
    """
    source = random.Random(genome.key)
    x = [[source.uniform(-2, 2) for _ in config.genome_config.input_keys] for _ in range(4)]
    forward = kind == "feed-forward"
    make = neat.nn.FeedForwardNetwork if forward else neat.nn.RecurrentNetwork
    net = make.create(genome, config)
    y, largest = [], 0.0
    for row in x:
        y.append(net.activate(row))
        values = net.values if forward else net.values[net.active]
        largest = max([largest, *(abs(value) for value in values.values())])
    return x, y, largest


def main():
    """Write forty genomes of each kind and their outputs."""
    import neat
    import numpy as np

    from gonzo.neuroevo.export import from_neat_python, to_json
    from gonzo.neuroevo.export.order import incoming

    for kind in ("feed-forward", "recurrent"):
        rows = []
        for genome, config in evolved(neat, kind, count=200, seed=11):
            imported = from_neat_python(genome, config.genome_config)
            x, y, largest = outputs(neat, genome, config, kind)
            fed = all(incoming(imported).values()) or kind == "feed-forward"
            if largest < 1e6 and fed and len(imported.nodes) > 4 and len(rows) < 40:
                rows.append((to_json(imported), x, y))
        texts, inputs, results = zip(*rows, strict=True)
        np.savez_compressed(
            Path(__file__).with_name(f"{kind}.npz"),
            genomes=np.array(texts),
            inputs=np.array(inputs),
            outputs=np.array(results),
        )


if __name__ == "__main__":
    main()
