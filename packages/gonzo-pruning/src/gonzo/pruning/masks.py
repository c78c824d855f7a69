"""Which weights are alive: one boolean mask per pruned parameter, and all that is done with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .atomic_file import replacing
from .bit_packing import pack_bits, unpack_bits
from .plan import PruningPlan, unknown_name

__all__ = ["Masks"]

FORMAT = 1
_METADATA = "gonzo.pruning.masks"


class Masks(Mapping[str, Tensor]):
    """Boolean masks by parameter name, True where a weight is alive.

    Immutable: no method changes it, and nobody may write into its tensors. The order of the names
    is the plan's, by which ties are broken.

    Args:
        masks: bool, one per parameter, in the parameter's shape; copied.

    Raises:
        TypeError: A mask is not a bool tensor.
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        for name, mask in masks.items():
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
                raise TypeError(f"{name}: expected a bool tensor, got {got}; write weight != 0")
        self._masks = {
            name: mask.detach().clone(memory_format=torch.contiguous_format)
            for name, mask in masks.items()
        }
        self._alive: dict[str, int] = {}

    @classmethod
    def _own(cls, masks: dict[str, Tensor]) -> Self:
        """Masks of tensors that nobody else holds."""
        new = cls.__new__(cls)
        new._masks, new._alive = masks, {}
        return new

    @classmethod
    def full(cls, model: nn.Module, plan: PruningPlan | Iterable[str]) -> Self:
        """Everything alive, on the devices of the parameters.

        Args:
            model: Whose parameters.
            plan: A plan, or names.

        Raises:
            ValueError: The model has no parameter of a name.
        """
        return cls._own(
            {
                name: torch.ones(parameter.shape, dtype=torch.bool, device=parameter.device)
                for name, parameter in _parameters(model, _names(plan)).items()
            }
        )

    @classmethod
    def of_zeros(cls, model: nn.Module, plan: PruningPlan | Iterable[str]) -> Self:
        """Read masks off a model whose pruned weights are zero: alive where a weight is not 0.

        Args:
            model: Whose parameters.
            plan: A plan, or names.

        Raises:
            ValueError: The model has no parameter of a name.
        """
        parameters = _parameters(model, _names(plan))
        return cls._own({n: p.detach().contiguous() != 0 for n, p in parameters.items()})

    def __getitem__(self, name: str) -> Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __eq__(self, other: object) -> bool:
        """The same names, shapes and bits; neither order nor device matters."""
        if not isinstance(other, Masks):
            return NotImplemented
        return self.keys() == other.keys() and all(
            torch.equal(mask, other[name].to(mask.device)) for name, mask in self.items()
        )

    __hash__ = None

    def __repr__(self) -> str:
        return f"Masks({len(self)} parameters, {self.alive:,} of {self.total:,} alive)"

    def __str__(self) -> str:
        rows = [(name, f"{self.alive_of(name):,}", mask.numel()) for name, mask in self.items()]
        rows.append(("total", f"{self.alive:,}", self.total))
        name_width = max(len(name) for name, _, _ in rows)
        width = max(len("weights"), len(f"{self.total:,}"))
        lines = [f"{'':<{name_width}}  {'alive':>{width}}  {'weights':>{width}}  density"]
        for (name, alive, total), density in zip(rows, self._densities(), strict=True):
            lines.append(f"{name:<{name_width}}  {alive:>{width}}  {total:>{width},}  {density}")
        return "\n".join(lines)

    def _densities(self) -> Iterator[str]:
        pairs = [(self.alive_of(name), mask.numel()) for name, mask in self.items()]
        for alive, total in [*pairs, (self.alive, self.total)]:
            yield f"{100 * alive / total:6.2f} %" if total else "     -"

    def alive_of(self, name: str) -> int:
        """How many weights of one parameter are alive."""
        if name not in self._alive:
            self._alive[name] = int(self._masks[name].count_nonzero())
        return self._alive[name]

    @property
    def alive(self) -> int:
        """How many weights are alive."""
        return sum(self.alive_of(name) for name in self)

    @property
    def total(self) -> int:
        """How many weights there are, alive or pruned."""
        return sum(mask.numel() for mask in self.values())

    @property
    def density(self) -> float:
        """The part of the weights that is alive; 1.0 where there are no weights."""
        return self.alive / self.total if self.total else 1.0

    def check(self, model: nn.Module) -> None:
        """Check that every mask has its parameter in ``model``, in the mask's shape.

        Raises:
            ValueError: One has not; the message lists all that differ.
        """
        known = dict(model.named_parameters(remove_duplicate=False))
        problems = []
        first: dict[nn.Parameter, str] = {}
        for name, mask in self.items():
            if f"{name}_orig" in known:
                problems.append(
                    f"{name} is masked by torch.nn.utils.prune; remove_torch_prune(model) first"
                )
            elif name not in known:
                problems.append(unknown_name(name, type(model).__name__, known))
            elif known[name].shape != mask.shape:
                problems.append(
                    f"{name}: the mask has shape {tuple(mask.shape)}, "
                    f"the parameter {tuple(known[name].shape)}"
                )
            elif first.setdefault(known[name], name) != name:
                problems.append(f"{name} is tied to {first[known[name]]}; one mask is enough")
        if problems:
            raise ValueError("the masks do not fit the model:\n  " + "\n  ".join(problems))

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Set the pruned weights of ``model`` to 0, in place, wherever the model is.

        Raises:
            ValueError: The masks do not fit the model.
        """
        self.check(model)
        for name, parameter in _parameters(model, self).items():
            # Not a product with the mask, which would leave -0.0 and NaN.
            parameter.masked_fill_(~self[name].to(parameter.device), 0)

    def to(self, device: torch.device | str) -> Masks:
        """The same masks on another device."""
        moved = Masks._own({name: mask.to(device) for name, mask in self.items()})
        moved._alive = dict(self._alive)
        return moved

    def distance(self, other: Masks) -> float:
        """The normalised Hamming distance: the part of all weights on which the masks differ.

        Raises:
            ValueError: The two have other names or shapes.
        """
        self._check_alike(other)
        differing = sum(int((m ^ other[n].to(m.device)).count_nonzero()) for n, m in self.items())
        return differing / self.total if self.total else 0.0

    def overlap(self, other: Masks) -> float:
        """Intersection over union of the alive weights; 1.0 where neither has any.

        Raises:
            ValueError: The two have other names or shapes.
        """
        self._check_alike(other)
        common = sum(int((m & other[n].to(m.device)).count_nonzero()) for n, m in self.items())
        union = self.alive + other.alive - common
        return common / union if union else 1.0

    def _check_alike(self, other: Masks) -> None:
        mine = {name: tuple(mask.shape) for name, mask in self.items()}
        theirs = {name: tuple(mask.shape) for name, mask in other.items()}
        if mine != theirs:
            differing = [
                f"{name}: {mine.get(name, 'missing')} and {theirs.get(name, 'missing')}"
                for name in {**mine, **theirs}
                if mine.get(name) != theirs.get(name)
            ]
            raise ValueError("masks of different shapes:\n  " + "\n  ".join(differing))

    def shuffled(self, generator: torch.Generator) -> Masks:
        """A random mask of the same density: as many alive weights in every parameter.

        Args:
            generator: Drawn from once per parameter, in order.
        """
        new = {}
        for name, mask in self.items():
            places = torch.randperm(mask.numel(), generator=generator, device=generator.device)
            shuffled = torch.zeros(mask.numel(), dtype=torch.bool, device=mask.device)
            shuffled[places[: self.alive_of(name)].to(mask.device)] = True
            new[name] = shuffled.view(mask.shape)
        return Masks._own(new)

    def pack(self) -> dict[str, Tensor]:
        """The masks as bits, uint8 (ceil(n / 8),) by name; see `bit_packing.pack_bits`."""
        return {name: pack_bits(mask) for name, mask in self.items()}

    @classmethod
    def unpack(cls, packed: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> Self:
        """The masks that `pack` packed, in the order of ``shapes``.

        Args:
            packed: Bits by name.
            shapes: Shapes by name, of the same names.

        Raises:
            TypeError: Bits that are not uint8.
            ValueError: Other names, or bytes that do not fit a shape.
        """
        if packed.keys() != shapes.keys():
            raise ValueError(f"bits of {sorted(packed)} but shapes of {sorted(shapes)}")
        masks = {}
        for name, shape in shapes.items():
            try:
                masks[name] = unpack_bits(packed[name], shape)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{name}: {error}") from None
        return cls._own(masks)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the masks as a safetensors file of bits, whole or not at all.

        Equal masks in the same order are the same bytes.

        Args:
            path: The file; its folder must exist.
        """
        shapes = {name: list(mask.shape) for name, mask in self.items()}
        # One entry: safetensors does not keep the order of several.
        metadata = {_METADATA: json.dumps({"format": FORMAT, "shapes": shapes})}
        packed = {name: bits.cpu() for name, bits in self.pack().items()}
        with replacing(path) as temporary:
            save_file(packed, temporary, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read the masks that `save` wrote, onto the CPU.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, or not one of ``Masks.save``.
        """
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no file {os.fspath(path)}")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from None
        if _METADATA not in metadata:
            raise ValueError(f"{path} was not written by Masks.save: it says nothing of masks")
        try:
            described = json.loads(metadata[_METADATA])
            version, shapes = described["format"], described["shapes"]
            if version <= FORMAT:
                return cls.unpack(packed, shapes)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        raise ValueError(
            f"{path} has format {version} and this version reads up to {FORMAT}; "
            "pip install --upgrade gonzo-pruning"
        )


def _names(plan: PruningPlan | Iterable[str]) -> Iterable[str]:
    if isinstance(plan, str):
        raise TypeError(f"expected a plan or a list of names, got the string {plan!r}; [{plan!r}]")
    return plan.names if isinstance(plan, PruningPlan) else plan


def _parameters(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    known = dict(model.named_parameters(remove_duplicate=False))
    first: dict[nn.Parameter, str] = {}
    for name in (names := list(names)):
        if name not in known:
            raise ValueError(unknown_name(name, type(model).__name__, known))
        if first.setdefault(known[name], name) != name:
            raise ValueError(f"{name} is tied to {first[known[name]]}; one mask is enough")
    return {name: known[name] for name in names}
