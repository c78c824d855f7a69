"""Every number and rule of NEAT, with the two rule sets that exist by name.

`NEATConfig()` and `NEATConfig.neat_python()` follow neat-python; `NEATConfig.canonical()` is the
paper of 2002. Change single fields with `dataclasses.replace`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from gonzo.core.ops.population_forward.functions import ACTIVATIONS, AGGREGATIONS

from .phenotypes import KINDS

INITIAL_CONNECTIONS = ("unconnected", "one-input", "partial", "full")


def _check_probability(what: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{what}: expected {name} between 0 and 1, got {value}")


@dataclass(frozen=True)
class Number:
    """How a number of a gene starts and mutates.

    Attributes:
        mean: of the initial value.
        std: of the initial value.
        distribution: "normal", or "uniform" over two standard deviations each side.
        low: smallest value; what would be smaller is set to it.
        high: largest value.
        mutate: probability of adding noise.
        power: standard deviation of that noise.
        replace: probability of drawing a new initial value instead.
    """

    mean: float = 0.0
    std: float = 1.0
    distribution: str = "normal"
    low: float = -30.0
    high: float = 30.0
    mutate: float = 0.8
    power: float = 0.5
    replace: float = 0.1

    def __post_init__(self) -> None:
        if self.distribution not in ("normal", "uniform"):
            raise ValueError(
                f'Number: expected distribution "normal" or "uniform", got {self.distribution!r}'
            )
        values = (self.mean, self.std, self.low, self.high, self.power)
        if (
            not all(map(math.isfinite, values))
            or self.low > self.high
            or min(self.std, self.power) < 0
        ):
            raise ValueError(
                "Number: expected finite numbers with low <= high, std >= 0 and power >= 0, got "
                f"{self}"
            )
        if self.mutate < 0 or self.replace < 0 or self.mutate + self.replace > 1:
            raise ValueError(
                "Number: expected probabilities mutate and replace that add up to at most 1, got "
                f"{self.mutate} and {self.replace}"
            )

    @property
    def constant(self) -> bool:
        """Whether all genes have the mean, for ever."""
        return self.std == 0 and not (self.mutate and self.power) and not self.replace


@dataclass(frozen=True)
class Choice:
    """How a node's function starts and mutates.

    Attributes:
        options: names to choose from.
        initial: a name, or "random".
        mutate: probability of choosing again.
    """

    options: tuple[str, ...]
    initial: str = "random"
    mutate: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.options, str):
            raise TypeError(
                f"Choice: expected a tuple of names, got {self.options!r}; did you mean "
                f"Choice(({self.options!r},))?"
            )
        if not self.options:
            raise ValueError("Choice: expected at least one option, got none")
        if self.initial != "random" and self.initial not in self.options:
            raise ValueError(
                f'Choice: expected initial to be "random" or one of {self.options}, '
                f"got {self.initial!r}"
            )
        _check_probability("Choice", mutate=self.mutate)


@dataclass(frozen=True)
class NEATConfig:
    """Numbers and rules.

    Attributes:
        population: genomes in a generation.
        kind: "feed-forward", "recurrent" or "ctrnn".
        ticks: how many ticks a network with state sees an input, where there are no time steps.
        time_step: of a ctrnn.
        initial_hidden: hidden nodes of the first genomes.
        initial_connections: "unconnected"; "one-input": a random input to all others; "full":
            layer by layer; "partial": each of those with probability `initial_fraction`.
        initial_direct: also connect inputs to outputs where there are hidden nodes.
        initial_fraction: see `initial_connections`.
        weight: of connections.
        bias: of nodes.
        response: of nodes.
        time_constant: of nodes.
        activation: of nodes.
        aggregation: of nodes.
        weights_probability: that a child's weights mutate at all.
        enabled_mutate: probability that a connection is enabled or disabled by a coin.
        add_connection: probability of a new connection, per child.
        delete_connection: likewise.
        add_node: probability that a connection is split by a new node.
        delete_node: likewise.
        single_structural_mutation: at most one of these four per child.
        enable_existing: a connection that is to be added and exists is enabled.
        split: "any" connection, or an "enabled" one.
        split_activation: the new node's; "" for one as any new node has. With "identity" (and the
            aggregation "sum") the split of an enabled connection leaves a feed-forward network's
            function as it is.
        crossover: probability that a child has two parents.
        interspecies: probability that the second one is of any species.
        equal_parents: of two of equal fitness, whose disjoint and excess genes are inherited: the
            "first" one's, the "smaller" one's (fewer connections), or "both". With "both", genomes
            grow without bound where many have equal fitness.
        disabled: probability that a gene disabled in either parent is disabled in the child.
        distance: "neat-python" or "canonical".
        excess: coefficient of excess genes (in neat-python's distance, of all that do not match).
        disjoint: coefficient of disjoint genes; unused by neat-python's distance.
        difference: coefficient of the differences of matching genes.
        threshold: distance below which two genomes are of one species.
        target_species: the threshold moves so that there are about so many; 0: it stays. Nearest
            representatives keep every old species alive, so then only stagnation lowers the number.
        threshold_step: by how much, per generation.
        representatives: "nearest": of the new genomes, the one nearest to the old representative,
            and a genome joins the nearest species; "random": a random member of last generation's
            species, and a genome joins the first species that is near enough.
        max_species: no more are made; genomes then join the nearest. 0: as many as have room.
        species_fitness: "max", "mean", "median" or "min" of the members, for stagnation.
        stagnation: generations without progress after which a species goes.
        protected_species: the best so many do not go.
        refocus: each time the best fitness of all has not risen for so many generations, only the
            two best species reproduce; 0: never.
        spawn: "neat-python": half-way from the size before; "canonical": by shared fitness.
        elitism: best genomes of a species that are copied as they are.
        elitism_size: members that a species needs for that.
        survival: fraction of a species that may be parents; at least two genomes are.
        min_species_size: genomes that a species has at least.
        max_nodes: hidden and output nodes of a genome at most; 0: no limit. Mutations and
            crossovers that would exceed it are not made, and are counted.
        max_connections: likewise.
    """

    population: int = 150
    kind: str = "feed-forward"
    ticks: int = 10
    time_step: float = 0.1

    initial_hidden: int = 0
    initial_connections: str = "full"
    initial_direct: bool = True
    initial_fraction: float = 1.0

    weight: Number = Number()
    bias: Number = Number(mutate=0.7)
    response: Number = Number(mean=1.0, std=0.0, mutate=0.0, power=0.0, replace=0.0)
    time_constant: Number = Number(
        mean=1.0, std=0.0, low=0.01, high=10.0, mutate=0.0, power=0.0, replace=0.0
    )
    activation: Choice = Choice(("steep_sigmoid",))
    aggregation: Choice = Choice(("sum",))
    weights_probability: float = 1.0
    enabled_mutate: float = 0.01

    add_connection: float = 0.5
    delete_connection: float = 0.5
    add_node: float = 0.2
    delete_node: float = 0.2
    single_structural_mutation: bool = False
    enable_existing: bool = False
    split: str = "any"
    split_activation: str = ""

    crossover: float = 1.0
    interspecies: float = 0.0
    equal_parents: str = "first"
    disabled: float = 0.75

    distance: str = "neat-python"
    excess: float = 1.0
    disjoint: float = 1.0
    difference: float = 0.5
    threshold: float = 3.0
    target_species: int = 0
    threshold_step: float = 0.1
    representatives: str = "nearest"
    max_species: int = 0

    species_fitness: str = "max"
    stagnation: int = 20
    protected_species: int = 2
    refocus: int = 0
    spawn: str = "neat-python"
    elitism: int = 2
    elitism_size: int = 0
    survival: float = 0.2
    min_species_size: int = 2

    max_nodes: int = 0
    max_connections: int = 0

    def __post_init__(self) -> None:
        self._check_types()
        for name, allowed in _WORDS.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"NEATConfig: expected {name} to be one of {allowed}, "
                    f"got {getattr(self, name)!r}"
                )
        for what, names in (("activation", ACTIVATIONS), ("aggregation", AGGREGATIONS)):
            if unknown := [name for name in getattr(self, what).options if name not in names]:
                raise ValueError(
                    f"NEATConfig: there is no {what} {unknown[0]!r}; expected some of {names}"
                )
        _check_probability("NEATConfig", **{name: getattr(self, name) for name in _PROBABILITIES})
        for f in fields(self):
            value = getattr(self, f.name)
            least = 2 if f.name == "population" else 1 if f.name == "ticks" else 0
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= least):
                raise ValueError(f"NEATConfig: expected {f.name} of at least {least}, got {value}")
        if self.time_step == 0:
            raise ValueError("NEATConfig: expected time_step above 0, got 0")
        if self.time_constant.low <= 0:
            raise ValueError(
                f"NEATConfig: expected time constants above 0, got low={self.time_constant.low}"
            )
        if self.least_species_size > self.population:
            raise ValueError(
                f"NEATConfig: a species has at least {self.least_species_size} genomes "
                f"(min_species_size, elitism), the population only {self.population}"
            )

    def _check_types(self) -> None:
        for f in fields(self):
            value, wanted = getattr(self, f.name), type(f.default)
            if wanted is float and type(value) is int:
                continue
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
                hint = ""
                if wanted is Choice:
                    names = (value,) if isinstance(value, str) else value
                    hint = f"; did you mean Choice({names!r})?"
                raise TypeError(
                    f"NEATConfig: expected {f.name} to be of type {wanted.__name__}, got "
                    f"{value!r}{hint}"
                )

    @property
    def least_species_size(self) -> int:
        """Genomes that a species is given at least."""
        always = self.elitism if self.elitism_size <= 1 else 0
        return max(1, self.min_species_size, always)

    @property
    def most_species(self) -> int:
        """How many species there may be."""
        room = self.population // self.least_species_size
        return min(self.max_species, room) if self.max_species else room

    @classmethod
    def neat_python(cls, population: int = 150) -> NEATConfig:
        """neat-python's rules, with the rates of its XOR example."""
        return cls(population=population)

    @classmethod
    def canonical(cls, population: int = 150) -> NEATConfig:
        """The rules and numbers of Stanley and Miikkulainen (2002), section 4.1.

        Deviation: of equally fit parents the smaller one gives the structure, as in its authors'
        program; the text lets both give genes at random. Noise is normal, not uniform; the two best
        species do not stagnate; biases mutate whether the weights do or not. Biases are attributes
        of nodes, as everywhere since; there, a bias is a connection from an input that is 1. A
        species of one keeps one parent.
        """
        return cls(
            population=population,
            weight=Number(mutate=0.9, replace=0.1),
            bias=Number(mutate=0.9, replace=0.1),
            activation=Choice(("neat_sigmoid",)),
            weights_probability=0.8,
            enabled_mutate=0.0,
            add_connection=0.05,
            delete_connection=0.0,
            add_node=0.03,
            delete_node=0.0,
            split="enabled",
            crossover=0.75,
            interspecies=0.001,
            equal_parents="smaller",
            distance="canonical",
            difference=0.4,
            representatives="random",
            stagnation=15,
            refocus=20,
            spawn="canonical",
            elitism=1,
            elitism_size=6,
            min_species_size=0,
        )


_WORDS = {
    "kind": KINDS,
    "initial_connections": INITIAL_CONNECTIONS,
    "split": ("any", "enabled"),
    "split_activation": ("", *ACTIVATIONS),
    "equal_parents": ("first", "smaller", "both"),
    "distance": ("neat-python", "canonical"),
    "representatives": ("nearest", "random"),
    "species_fitness": ("max", "mean", "median", "min"),
    "spawn": ("neat-python", "canonical"),
}

_PROBABILITIES = (
    "initial_fraction",
    "weights_probability",
    "enabled_mutate",
    "add_connection",
    "delete_connection",
    "add_node",
    "delete_node",
    "crossover",
    "interspecies",
    "disabled",
    "survival",
)
