"""Shuffled mini-batches whose order is a pure function of the seed and the step."""

import torch

from gonzo.lab.seeding import derive_seed


class Batches:
    """Mini-batches of tensors that share their first dimension.

    Every epoch is a permutation of its own; the rest of an epoch that does not fill a batch
    is left out. Since `at` depends on nothing but the seed and the step, a loop that resumes
    at step k sees the very batches it would have seen.

    Args:
        *tensors: each (n, …), on any device.
        batch_size: rows per batch, at most n.
        seed: where the order comes from.

    Raises:
        ValueError: no tensors, different first dimensions, or a batch_size outside 1 … n.
    """

    def __init__(self, *tensors: torch.Tensor, batch_size: int, seed: int) -> None:
        sizes = {len(tensor) for tensor in tensors}
        if len(sizes) != 1:
            raise ValueError(f"Batches: expected tensors of one length, got {sorted(sizes)}")
        (self._n,) = sizes
        if not 1 <= batch_size <= self._n:
            raise ValueError(f"Batches: batch_size {batch_size} is not within 1 … {self._n}")
        self._tensors = tensors
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def steps_per_epoch(self) -> int:
        """How many full batches an epoch has."""
        return self._n // self._batch_size

    def indices(self, step: int) -> torch.Tensor:
        """Return the rows of the batch at `step`, (batch_size,) int64."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, f"epoch {epoch}"))
            self._order = torch.randperm(self._n, generator=generator)
            self._epoch = epoch
        begin = position * self._batch_size
        return self._order[begin : begin + self._batch_size]

    def at(self, step: int) -> tuple[torch.Tensor, ...]:
        """Return the batch at `step`: of each tensor (batch_size, …), in the order given."""
        rows = self.indices(step)
        return tuple(tensor[rows.to(tensor.device)] for tensor in self._tensors)
