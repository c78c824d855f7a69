"""A lottery ticket as one file: the network to train, its masks, and where it comes from.

A ticket holds the weights at the rewind point, not the trained ones. In the file, of a pruned
parameter the alive weights alone are stored, with the mask as bits: in float32 about
(32 · density + 1) / 32 of the dense network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .atomic_file import replacing
from .masks import Masks

__all__ = ["Ticket"]

FORMAT = 1
_METADATA = "gonzo.pruning.ticket"
Model = TypeVar("Model", bound=nn.Module)


class Ticket:
    """A network that is worth training: values, masks and provenance; `into` puts it into a model.

    Args:
        state: Every parameter and buffer by its name in ``Module.state_dict()``. Copied.
        masks: True where a weight is alive; the others become 0 in ``state``, under every name of
            a tied weight.
        provenance: Whatever JSON can say of where the ticket comes from.

    Attributes:
        state: Of the CPU, pruned weights 0.
        masks: See above.
        provenance: See above; `LotteryRun` notes round, seed, rates, the step to which the network
            was rewound, what it reached when it was trained, and the rounds before.

    Raises:
        ValueError: A mask has no parameter of its shape in ``state``, or JSON cannot say the
            provenance.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        masks: Masks,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.masks = masks.to("cpu")
        self.state: dict[str, Tensor] = {}
        masked = {_place(state[name]): name for name in self.masks if name in state}
        for name, tensor in state.items():
            copy = tensor.detach().to("cpu", copy=True).contiguous()
            mask = self.masks.get(name if name in self.masks else masked.get(_place(tensor), ""))
            if mask is not None and copy.shape == mask.shape:
                copy.masked_fill_(~mask, 0)
            self.state[name] = copy
        for name, mask in self.masks.items():
            shape = tuple(self.state[name].shape) if name in self.state else "none"
            if shape != tuple(mask.shape):
                raise ValueError(
                    f"expected a tensor of shape {tuple(mask.shape)} for the mask of {name}, "
                    f"got {shape}"
                )
        try:
            self.provenance: dict[str, Any] = json.loads(json.dumps(dict(provenance or {})))
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected a provenance that JSON can say: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ticket as one safetensors file, whole or not at all.

        The same ticket is the same bytes. Tensors of equal bits, as those of tied weights are, are
        stored once.

        Args:
            path: The file; its folder must exist.
        """
        tensors, same = {}, {}
        stored: dict[bytes, str] = {}
        # Masked ones first, so that what is tied to one follows it.
        for name in [*self.masks, *(name for name in self.state if name not in self.masks)]:
            value = self.state[name]
            first = stored.setdefault(_content(value), name)
            if first != name and name not in self.masks:
                same[name] = first
            elif name in self.masks:
                tensors[f"alive:{name}"] = value[self.masks[name]]
            else:
                tensors[f"whole:{name}"] = value
        tensors |= {f"bits:{name}": bits for name, bits in self.masks.pack().items()}
        description = {
            "format": FORMAT,
            "names": list(self.state),
            "masked": {name: list(mask.shape) for name, mask in self.masks.items()},
            "same": same,
            "provenance": self.provenance,
        }
        with replacing(path) as temporary:
            # One entry: safetensors does not keep the order of several.
            save_file(tensors, temporary, {_METADATA: json.dumps(description)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read the ticket that `save` wrote. Nothing in the file is run.

        Args:
            path: The file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, was written by a newer version, is no ticket, or is a
                folder.
        """
        path = Path(path)
        if path.is_dir():
            raise ValueError(
                f"expected a file that Ticket.save wrote, got the folder {path}; that of a run "
                "has tickets by LotteryResult.read(folder).ticket(number)"
            )
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from None
        if _METADATA not in metadata:
            raise ValueError(
                f"{path} is a safetensors file but not a ticket: expected one of Ticket.save"
            )
        try:
            description = json.loads(metadata[_METADATA])
            version = description["format"]
            if version <= FORMAT:
                return cls(*_decoded(description, tensors), description["provenance"])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is damaged: {error}; get the file again") from None
        raise ValueError(
            f"{path} has format {version} and this version reads up to {FORMAT}; "
            "pip install --upgrade gonzo-pruning"
        )

    def into(self, model: Model) -> Model:
        """Set every parameter and buffer of ``model`` to the ticket's, pruned weights to 0.

        To train it, keep pruned weights at zero: ``Training.of_ticket(model, ticket)``, which also
        begins at the step that the ticket was rewound to, or ``guard_masks(model, ticket.masks,
        optimizer)``.

        Args:
            model: Of the architecture, on any device but meta; changed in place.

        Returns:
            The same model.

        Raises:
            ValueError: It has other names, shapes, dtypes or ties, or no values; the message lists
                them, and the model is as it was.
            TypeError: ``model`` is no module.
        """
        if not isinstance(model, nn.Module):
            called = callable(model) and getattr(model, "__name__", "")
            raise TypeError(
                f"expected a module to put the ticket into, got {model!r}"
                + (f"; call it first: ticket.into({called}(…))" if called else "")
            )
        target = model.state_dict()
        problems = [f"missing in the ticket: {name}" for name in target if name not in self.state]
        problems += [f"missing in the model: {name}" for name in self.state if name not in target]
        for name, value in self.state.items():
            if name not in target:
                continue
            if target[name].is_meta:
                problems.append(
                    f"{name} of the model is on the meta device and has no values; "
                    "model.to_empty(device='cpu') first"
                )
            elif target[name].shape != value.shape:
                problems.append(
                    f"{name}: the ticket has shape {tuple(value.shape)}, the model "
                    f"{tuple(target[name].shape)}"
                )
            elif target[name].dtype != value.dtype:
                problems.append(
                    f"{name}: the ticket has {value.dtype}, the model {target[name].dtype}; "
                    f"model.to({value.dtype}) first"
                )
        problems += self._untied(model)
        if problems:
            raise ValueError(
                f"the ticket does not fit {type(model).__name__}:\n  " + "\n  ".join(problems)
            )
        with torch.no_grad():
            for name, value in self.state.items():
                target[name].copy_(value)
        self.masks.apply_(model)  # a file may say of a tied weight's other name what it likes
        return model

    def __str__(self) -> str:
        lines = [
            f"{name}: {value}"
            for name, value in self.provenance.items()
            if not isinstance(value, dict | list)
        ]
        return "\n".join([f"Ticket of {len(self.state)} tensors", str(self.masks), *lines])

    def __repr__(self) -> str:
        return f"Ticket({self.masks!r})"

    def _untied(self, model: nn.Module) -> list[str]:
        """Parameters that are one in the ticket and two in the model: one would be unmasked."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        return [
            f"{name} and {other} are one tied weight in the ticket and two in the model"
            for name in self.masks
            for other, value in self.state.items()
            if other not in self.masks
            and {name, other} <= parameters.keys()
            and parameters[name] is not parameters[other]
            and bool(value.any())
            and torch.equal(value, self.state[name])
        ]


def _place(value: Tensor) -> tuple[Any, ...]:
    """What is equal for tensors that are the same memory, as tied weights are."""
    if value.is_meta or not value.numel():
        return (id(value),)
    return value.device, value.data_ptr(), value.dtype, tuple(value.shape), value.stride()


def _content(value: Tensor) -> bytes:
    """What is equal for tensors of equal type, shape and bits."""
    data = value.reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{value.dtype} {tuple(value.shape)} ".encode() + data


def _decoded(description: Any, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], Masks]:
    masked, same = description["masked"], description["same"]
    bits = {n.removeprefix("bits:"): t for n, t in tensors.items() if n.startswith("bits:")}
    masks = Masks.unpack(bits, masked)
    state = {}
    for name in description["names"]:
        source = same.get(name, name)
        if source in masked:
            alive = tensors[f"alive:{source}"]
            if alive.shape != (masks.alive_of(source),):
                raise ValueError(
                    f"{source} has {alive.numel()} values, {masks.alive_of(source)} are alive"
                )
            whole = torch.zeros(masked[source], dtype=alive.dtype)
            whole[masks[source]] = alive
            state[name] = whole
        else:
            state[name] = tensors[f"whole:{source}"]
    return state, masks
