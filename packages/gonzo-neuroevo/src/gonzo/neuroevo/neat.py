"""NEAT: networks evolve from small ones, their topology with their weights.

A generation is a `Population` of tensors. `tell` takes its fitness and makes the next one: species
compete with shared fitness, their best members cross over and mutate, and what is new is marked.

    neat = NEAT(inputs=2, outputs=1, seed=0)
    while not good_enough:
        fitness = evaluate(neat.networks())
        neat.tell(fitness)

`evolve` is this loop for a `Problem`, with evaluators, champions judged on held-out episodes, and
checkpoints.

Source:
    Stanley and Miikkulainen: Evolving Neural Networks through Augmenting Topologies (2002).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Generator, Tensor

from .config import NEATConfig
from .generation import Champion, Generation
from .genome import Genome
from .initial import descend, initial_population
from .innovation import Innovations
from .order import has_cycle
from .phenotypes import Networks, Phenotype
from .population import CONNECTION_FIELDS, NODE_FIELDS, Population
from .reproduction import rank, reproduce
from .speciation import divide
from .species import Species, offspring, survivors

_LARGEST = 1e300  # sums of fitness stay finite
_LARGEST_KEY = 2**30  # half of what innovations can count to


class NEAT:
    """A run of NEAT: its generation, and all that decides the next.

    Args:
        inputs: of the networks.
        outputs: of the networks.
        config: numbers and rules; `NEATConfig()` follows neat-python, `NEATConfig.canonical()`
            the paper.
        seed: of all random numbers, 0 … 2^63 - 1.
        device: of the genomes. Runs repeat on one kind of device.
        dtype: of weights and other numbers.
        phenotype: what networks genomes become; by default those of the config.
        ancestor: the first genomes are this one and mutants of its numbers, and not what the
            config's `initial_…` say.

    Raises:
        ValueError: numbers that cannot be, a first genome larger than the config allows, or an
            ancestor of other numbers of inputs or outputs, or with a cycle where none may be.

    Attributes:
        population: the present genomes.
        ids: (P,) int64, a new one for each genome that is not a copy.
        generation: its number, from 0.
        species: the present species.
        threshold: of the distance within a species.
        champion: the best genome so far; None before the first fitness.
        history: one `Generation` for each that was told.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        config: NEATConfig | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        phenotype: Callable[[Population], Networks] | None = None,
        ancestor: Genome | None = None,
    ) -> None:
        if inputs < 0 or outputs < 1:
            raise ValueError(
                f"NEAT: expected 0 or more inputs and 1 or more outputs, got {inputs}, {outputs}"
            )
        try:
            seed = operator.index(seed)
        except TypeError:
            raise TypeError(f"NEAT: expected a whole number as seed, got {seed!r}") from None
        if not 0 <= seed < 2**63:
            raise ValueError(f"NEAT: expected a seed in 0 … 2^63 - 1, got {seed}")
        if config is not None and not isinstance(config, NEATConfig):
            raise TypeError(
                f"NEAT: expected a NEATConfig, got {config!r}; NEATConfig(population=150), say"
            )
        self.config = config or NEATConfig()
        self.seed = seed
        self.phenotype = phenotype or Phenotype(
            self.config.kind, self.config.ticks, self.config.time_step
        )
        self._generator = Generator(device).manual_seed(seed)
        if ancestor is None:
            self.population = initial_population(
                inputs, outputs, self.config, self._generator, dtype=dtype
            )
        else:
            if (ancestor.inputs, ancestor.outputs) != (inputs, outputs):
                raise ValueError(
                    f"NEAT: expected an ancestor with {inputs} inputs and {outputs} outputs, got "
                    f"{ancestor.inputs} and {ancestor.outputs}"
                )
            self.population = descend(ancestor, self.config, self._generator, dtype=dtype)
        self.ids = torch.arange(self.config.population, device=self.population.device)
        self._next_id = self.config.population
        self._innovations = Innovations.after(self.population)
        self._widths = inputs, outputs
        self._check_first()
        self.generation = 0
        self.threshold = float(self.config.threshold)
        self.history: list[Generation] = []
        self.champion: Champion | None = None
        self._champion: Population | None = None
        self._refused = 0
        self._next_species = 1
        self.species: list[Species] = []
        self._divide(None, [])

    def networks(self) -> Networks:
        """The networks of the present generation."""
        return self.phenotype(self.population)

    @property
    def best_genome(self) -> Genome:
        """The champion's genome.

        Raises:
            ValueError: before the first fitness.
        """
        if self._champion is None:
            raise ValueError("NEAT: there is no champion before the first call of tell or evolve")
        return self._champion.genome(0)

    def best_networks(self) -> Networks:
        """The champion's network, alone."""
        if self._champion is None:
            raise ValueError("NEAT: there is no champion before the first call of tell or evolve")
        return self.phenotype(self._champion)

    def tell(self, fitness: Tensor) -> Generation:
        """Take the fitness of the present generation, and make the next one.

        Args:
            fitness: (P,) numbers within ±1e300, larger is better.

        Returns:
            What was kept about the generation that was told.

        Raises:
            ValueError: another shape, NaN or infinity. The generation stays as it was.
        """
        fitness = self._checked(fitness)
        config = self.config
        ranking = rank(fitness, self._member_of, len(self.species), config)
        told = self._note(fitness, ranking.size)
        stale = self.generation - self._champion_generation
        kept = survivors(self.species, ranking.score, config, self.generation, stale)
        counts = offspring(
            ranking.mean[kept],
            ranking.size[kept],
            float(ranking.least[kept].min()),
            float(ranking.most[kept].max()),
            config,
        )
        representatives = self._represent(ranking.order, ranking.start, ranking.size, kept)
        following = reproduce(
            self.population,
            fitness,
            ranking,
            kept,
            counts,
            config,
            self._innovations,
            self._generator,
        )
        born = len(following.population) - len(following.copied)
        new = torch.arange(self._next_id, self._next_id + born, device=self.ids.device)
        self._next_id += born
        self.ids = torch.cat([self.ids[following.copied], new])
        self.population = following.population
        self._refused = following.refused
        self.generation += 1
        self.history.append(told)
        self._divide(representatives, [self.species[at] for at in kept])
        return told

    def _checked(self, fitness: Tensor) -> Tensor:
        people = self.population
        if (len(people), people.inputs, people.outputs) != (len(self.ids), *self._widths):
            raise ValueError(
                f"NEAT: expected a population of {len(self.ids)} genomes with {self._widths[0]} "
                f"inputs and {self._widths[1]} outputs, got {len(people)} with {people.inputs} "
                f"and {people.outputs}; what replaces neat.population has the same sizes"
            )
        fitness = torch.as_tensor(fitness, device=self.population.device).detach().double()
        if fitness.shape != self.ids.shape:
            raise ValueError(
                f"NEAT: expected the fitness of {len(self.ids)} genomes, shape "
                f"({len(self.ids)},), got {tuple(fitness.shape)}"
            )
        good = fitness.abs() <= _LARGEST  # of NaN it is not
        if not bool(good.all()):
            row = int((~good).int().argmax())
            raise ValueError(
                f"NEAT: the fitness of genome {int(self.ids[row])} (position {row}) is "
                f"{float(fitness[row])}; expected numbers within ±{_LARGEST:g}: give a failure a "
                "low fitness such as -1e9"
            )
        return fitness

    def _note(self, fitness: Tensor, sizes: Any) -> Generation:
        top = int(fitness.argmax())
        best = float(fitness[top])
        if self.champion is None or best > self.champion.fitness:
            self.champion = Champion(best, int(self.ids[top]), self.generation)
            self._champion = self.population.select(slice(top, top + 1)).crop()
        people = self.population
        enabled = (people.connection_mask & people.enabled).sum(1).double().mean()
        return Generation(
            self.generation,
            best,
            float(fitness.mean()),
            float(people.node_mask.sum(1).double().mean()),
            float(enabled),
            {one.key: int(size) for one, size in zip(self.species, sizes, strict=True)},
            self._divided_at,
            self._refused,
        )

    @property
    def _champion_generation(self) -> int:
        return self.champion.generation if self.champion else 0

    def _represent(self, order: Tensor, start: Any, size: Any, kept: list[int]) -> Population:
        """What represents the species that go on, when the next generation is divided."""
        if self.config.representatives == "nearest":
            return self._representatives.select(torch.tensor(kept))
        device = self._generator.device
        chance = torch.rand(len(kept), generator=self._generator, device=device)
        begin = torch.from_numpy(start[kept]).to(device)
        members = torch.from_numpy(size[kept]).to(device)
        return self.population.select(order[begin + (chance * members).long()])

    def _divide(self, representatives: Population | None, species: list[Species]) -> None:
        """Divide the present generation, and move the threshold if it is to move."""
        self._divided_at = self.threshold
        division = divide(self.population, representatives, self.config, self.threshold)
        for _ in range(len(division.representatives) - division.old):
            species.append(Species(self._next_species, self.generation, self.generation))
            self._next_species += 1
        sizes = torch.bincount(division.member_of, minlength=len(species))
        live = sizes.nonzero()[:, 0]
        place = torch.zeros_like(sizes)
        place[live] = torch.arange(len(live), device=live.device)
        self._member_of = place[division.member_of]
        self._representatives = division.representatives.select(live)
        self.species = [
            replace(species[at], size=count)
            for at, count in zip(live.tolist(), sizes[live].tolist(), strict=True)
        ]
        wanted, step = self.config.target_species, self.config.threshold_step
        if wanted and len(self.species) != wanted:
            self.threshold += step if len(self.species) > wanted else -step
            self.threshold = max(step, self.threshold)

    def _check_first(self) -> None:
        nodes, edges = self.population.node_key.shape[1], self.population.weight.shape[1]
        most = self.config.max_nodes, self.config.max_connections
        if (most[0] and nodes > most[0]) or (most[1] and edges > most[1]):
            raise ValueError(
                f"NEAT: the first genomes have {nodes} nodes and {edges} connections, more than "
                f"max_nodes={most[0]} and max_connections={most[1]} allow; raise these, or start "
                'with fewer: initial_connections="one-input", initial_hidden=0'
            )
        if self._innovations.next_node > _LARGEST_KEY:
            raise ValueError(
                f"NEAT: the ancestor has the node key {self._innovations.next_node - 1}, expected "
                "below 2^30; give its nodes smaller keys"
            )
        first = self.population.select(slice(0, 1))
        if self.config.kind == "feed-forward" and bool(has_cycle(first)):
            raise ValueError(
                "NEAT: the ancestor has a cycle (connections that are disabled count), expected "
                'none in a feed-forward network: give the config kind="recurrent"'
            )

    def state_dict(self) -> dict[str, Any]:
        """All that decides how the run goes on, as tensors, numbers and containers of these."""
        return {
            "config": asdict(self.config),
            "seed": self.seed,
            "population": _tensors(self.population),
            "ids": self.ids,
            "next_id": self._next_id,
            "innovations": self._innovations.state_dict(),
            "generation": self.generation,
            "threshold": self.threshold,
            "history": [list(told) for told in self.history],
            "champion": list(self.champion) if self.champion else None,
            "champion_genome": _tensors(self._champion) if self._champion else None,
            "refused": self._refused,
            "divided_at": self._divided_at,
            "next_species": self._next_species,
            "species": [asdict(one) for one in self.species],
            "representatives": _tensors(self._representatives),
            "member_of": self._member_of,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, to the same numbers.

        Raises:
            ValueError: the state of a run with another config.
        """
        theirs, ours = state["config"], asdict(self.config)
        if different := sorted(k for k in {*theirs, *ours} if theirs.get(k) != ours.get(k)):
            raise ValueError(
                f"NEAT: the saved run has another config, in {', '.join(different)}; expected the "
                "same: make NEAT with the config it was saved with"
            )
        device = self.population.device

        def genomes(tensors: dict[str, Tensor]) -> Population:
            inputs, outputs = self.population.inputs, self.population.outputs
            return Population.from_arrays(inputs, outputs, tensors).to(device)

        self.seed = state["seed"]
        self.population = genomes(state["population"])
        self.ids = state["ids"].to(device)
        self._next_id = state["next_id"]
        self._innovations = Innovations(**state["innovations"])
        self.generation = state["generation"]
        self.threshold = state["threshold"]
        self.history = [Generation(*told) for told in state["history"]]
        self.champion = Champion(*state["champion"]) if state["champion"] else None
        best = state["champion_genome"]
        self._champion = genomes(best) if best else None
        self._refused = state["refused"]
        self._divided_at = state["divided_at"]
        self._next_species = state["next_species"]
        self.species = [Species(**one) for one in state["species"]]
        self._representatives = genomes(state["representatives"])
        self._member_of = state["member_of"].to(device)
        self._generator.set_state(state["generator"])


def _tensors(population: Population) -> dict[str, Tensor]:
    return {name: getattr(population, name) for name in NODE_FIELDS + CONNECTION_FIELDS}
