"""What HyperNEAT and ES-HyperNEAT share: genomes are CPPNs, from which networks are made."""

from __future__ import annotations

import torch

from .config import NEATConfig
from .cppn import cppn_config
from .genome import Genome
from .neat import NEAT
from .phenotypes import Networks
from .population import Population


class Encoding:
    """Turns a population of CPPNs into networks; a run of NEAT takes it as its `phenotype`."""

    @property
    def cppn_inputs(self) -> int:
        """Number of inputs of the genomes."""
        raise NotImplementedError

    @property
    def cppn_outputs(self) -> int:
        """Number of outputs of the genomes."""
        raise NotImplementedError

    def __call__(self, population: Population) -> Networks:
        """The networks of P CPPNs."""
        raise NotImplementedError

    def neat(
        self,
        config: NEATConfig | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        ancestor: Genome | None = None,
    ) -> NEAT:
        """Start to evolve CPPNs whose networks these are.

        A run that was saved goes on with ``load_run(path, phenotype=self)``.

        Args:
            config: numbers and rules of NEAT; by default `cppn_config()`.
            seed: see `NEAT`.
            device: see `NEAT`.
            dtype: see `NEAT`.
            ancestor: see `NEAT`; `locality_seed`, say.
        """
        config = config or cppn_config()
        if config.kind != "feed-forward":
            raise ValueError(
                f'{type(self).__name__}: expected a config of kind "feed-forward", for CPPNs are, '
                f"got {config.kind!r}; networks are recurrent by their substrate, recurrent=True"
            )
        return NEAT(
            self.cppn_inputs,
            self.cppn_outputs,
            config,
            seed=seed,
            device=device,
            dtype=dtype,
            phenotype=self,
            ancestor=ancestor,
        )
