"""From the state dict of a whole model to the tensors of one module, all of them and no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def select(
    reader: str,
    weights: Mapping[str, Tensor],
    prefix: str,
    names: Sequence[str],
    *,
    optional: Sequence[str] = (),
    elsewhere: str | None = None,
    foreign: Mapping[str, str] | None = None,
    absent: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Return the tensors under `prefix`, on the CPU: all of `names`, and perhaps of `optional`.

    Args:
        reader: whose error it would be.
        weights: the state dict.
        prefix: what the names begin with; others are passed over.
        names: what must be there.
        optional: what may be there.
        elsewhere: the beginning of names under the prefix that somebody else selects.
        foreign: beginnings of names, and what it means if there are such.
        absent: some of `names`, and what it means if only others are there.
    """
    if not isinstance(weights, Mapping):
        raise TypeError(
            f"{reader}: expected a mapping of names to tensors, as safetensors.torch.load_file or "
            f"torch.load(path, weights_only=True) return it, got {_a(weights)}"
        )
    own = {str(k).removeprefix(prefix): v for k, v in weights.items() if str(k).startswith(prefix)}
    if elsewhere is not None:
        own = {name: value for name, value in own.items() if not name.startswith(elsewhere)}
    for name, value in own.items():
        if not isinstance(value, Tensor):
            way_out = f"; did you mean weights[{name!r}]?" if isinstance(value, Mapping) else ""
            raise TypeError(
                f"{reader}: expected tensors, got {_a(value)} under {prefix + name!r}{way_out}"
            )
    for start, meaning in (foreign or {}).items():
        for name in own:
            if name.startswith(start):
                raise ValueError(f"{reader}: found {prefix + name}: {meaning}")
    missing = [name for name in names if name not in own]
    for name, meaning in (absent or {}).items():
        if name in missing and len(missing) < len(names):
            raise ValueError(f"{reader}: found no {prefix + name}: {meaning}")
    unknown = [name for name in own if name not in {*names, *optional}]
    if missing or unknown:
        raise ValueError(
            f"{reader}: of the names under the prefix {prefix!r}, {_listed('missing', missing)}; "
            f"{_listed('unknown', unknown)}{_hint(weights, prefix, names)}"
        )
    return {name: tensor.detach().cpu() for name, tensor in own.items()}


def check_shapes(
    reader: str, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise unless the tensors have the shapes that the others imply."""
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(
                f"{reader}: beside the other sizes, expected {name} of shape {shape}, got "
                f"{tuple(tensors[name].shape)}"
            )


def made(
    kind: type[Module], state: dict[str, Tensor], dtype: torch.dtype, **arguments: Any
) -> Module:
    """Return a module of these weights; the random state of the process is left as it was."""
    with torch.random.fork_rng(devices=[]):
        module = kind(**arguments, dtype=dtype)
    module.load_state_dict(state)
    return module


def _a(value: object) -> str:
    return f"an object of type {type(value).__name__}"


def _listed(word: str, names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{word}: {', '.join(names[:most]) or 'none'}{more}"


def _hint(weights: Mapping[str, Tensor], prefix: str, names: Sequence[str]) -> str:
    """The prefixes under which all of `names` are there."""
    starts = [key.removesuffix(names[0]) for key in weights if key.endswith(names[0])]
    fitting = [s for s in starts if s != prefix and all(s + name in weights for name in names)]
    return f"; did you mean prefix={' or '.join(map(repr, fitting[:3]))}?" if fitting else ""
