"""One contract for every causal sequence layer: ``forward``, ``init_state``, ``scan``, ``step``.

A layer maps (batch, time, d_model) to (batch, time, d_model) in three ways that agree:

- ``forward(x)``: the whole sequence at once, from the start;
- ``scan(x, state)``: a chunk, from wherever the state is; ``forward(x) == scan(x, init_state)[0]``
  and a sequence may be split anywhere;
- ``step(x_t, state)``: one time step; the loop of ``step`` equals ``scan``.

`gonzo.core.testing.LAWS` tests all of it for any layer.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from gonzo.core.pretrained import Pretrained

__all__ = [
    "SequenceModule",
    "check_lengths",
    "check_sequence",
    "check_state",
    "check_step",
    "last_step",
    "map_state",
    "mask_padding",
    "renew_state",
    "select_batch",
    "time_mask",
]

State = TypeVar("State")


class SequenceModule(Pretrained):
    """A causal sequence layer.

    Subclasses write ``reset_parameters``, ``init_state``, ``scan`` and ``step``.

    ``forward`` may be left out where nothing faster than ``scan`` from the initial state exists. A
    layer that cannot stream (a bidirectional one, say) writes ``forward`` alone, and ``streams`` is
    False.

    A state is a NamedTuple of tensors (or of further states). It is returned, never changed in
    place, so it can be kept, branched and compared. The first dimension of its tensors is the
    batch, but for those that it lists in a class attribute ``shared``: what ``init_state`` computed
    from the parameters alone and carries along for the steps. Such a state is stale once the
    parameters change: make a new one after an optimizer step. An example:

        class S4State(NamedTuple):
            h: Tensor  # (batch, d_model, d_state)
            dA: Tensor  # (d_model, d_state)

            shared = frozenset({"dA"})

    Attributes:
        d_model: The size of the last dimension of input and output.
    """

    d_model: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        contract = ("init_state", "scan", "step")
        missing = [name for name in contract if getattr(cls, name) is getattr(SequenceModule, name)]
        if 0 < len(missing) < len(contract):
            raise TypeError(
                f"{cls.__name__} has no {' and no '.join(missing)}: a layer that streams defines "
                "init_state, scan and step; one that cannot defines none of them"
            )

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        raise NotImplementedError(f"{type(self).__name__} does not define reset_parameters")

    @property
    def streams(self) -> bool:
        """Whether the layer has ``init_state``, ``scan`` and ``step``."""
        return type(self).scan is not SequenceModule.scan

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run the whole sequence.

        Args:
            x: (batch, time, d_model), at least one time step.
            lengths: (batch,) integers in 0…time for right-padded sequences; by default all full.

        Returns:
            (batch, time, d_model), zero past each length.

        Raises:
            ValueError: ``x`` or ``lengths`` has the wrong shape.
            TypeError: ``x`` is not floating point, or ``lengths`` is not integer.
        """
        self.check(x, lengths)
        state = self.init_state(x.shape[0], device=x.device)
        return self.scan(x, state, lengths)[0]

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Any:
        """Return the state before the first step.

        Args:
            batch: The number of sequences.
            device: By default that of the parameters.
            dtype: By default that of the parameters.
        """
        raise TypeError(self._cannot_stream())

    def scan(self, x: Tensor, state: Any, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Run a chunk of any length from ``state``.

        Args:
            x: (batch, time, d_model), at least one time step.
            state: From ``init_state`` or an earlier chunk; not changed.
            lengths: (batch,) integers in 0…time for right-padded chunks; by default all full.

        Returns:
            The outputs (batch, time, d_model), zero past each length, and the state after the last
            valid step of each sequence.
        """
        raise TypeError(self._cannot_stream())

    def step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Run one time step from ``state``.

        Args:
            x_t: (batch, d_model).
            state: From ``init_state``, ``scan`` or an earlier step; not changed.

        Returns:
            The output (batch, d_model) and the state after it.
        """
        raise TypeError(self._cannot_stream())

    def check(self, x: Tensor, lengths: Tensor | None = None, state: Any = None) -> None:
        """Raise unless the arguments of ``forward`` or ``scan`` fit this layer and one another."""
        name = type(self).__name__
        check_sequence(name, x, self.d_model)
        if lengths is not None:
            check_lengths(name, lengths, x)
        if state is not None:
            check_state(name, state, x)

    def check_step(self, x_t: Tensor, state: Any) -> None:
        """Raise unless the arguments of ``step`` fit this layer and one another."""
        name = type(self).__name__
        check_step(name, x_t, self.d_model)
        check_state(name, state, x_t)

    def _cannot_stream(self) -> str:
        return (
            f"{type(self).__name__} cannot stream: it needs the whole sequence and has forward only"
        )


def check_sequence(name: str, x: Tensor, d_model: int) -> None:
    """Raise unless ``x`` is a floating-point (batch, time, d_model) with at least one time step.

    Args:
        name: What the message begins with, usually the name of the layer.
        x: The input.
        d_model: Its expected last dimension.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected x to be a tensor, got {type(x).__name__}")
    shape = x.shape
    if len(shape) != 3 or shape[2] != d_model:
        hint = ""
        if len(shape) == 3 and shape[1] == d_model:
            hint = "; did you mean x.transpose(1, 2)?"
        elif len(shape) == 2 and shape[1] == d_model:
            hint = "; did you mean x.unsqueeze(0), a batch of one?"
        raise ValueError(
            f"{name}: expected x of shape (batch, time, {d_model}), got {tuple(shape)}{hint}"
        )
    if shape[1] == 0:
        raise ValueError(f"{name}: expected at least one time step, got x of shape {tuple(shape)}")
    _check_floating(name, "x", x)


def check_step(name: str, x_t: Tensor, d_model: int) -> None:
    """Raise unless ``x_t`` is a floating-point (batch, d_model)."""
    if not isinstance(x_t, Tensor):
        raise TypeError(f"{name}: expected x_t to be a tensor, got {type(x_t).__name__}")
    shape = x_t.shape
    if len(shape) != 2 or shape[1] != d_model:
        hint = "; step takes one time step, scan a chunk" if len(shape) == 3 else ""
        raise ValueError(
            f"{name}: expected x_t of shape (batch, {d_model}), got {tuple(shape)}{hint}"
        )
    _check_floating(name, "x_t", x_t)


def check_lengths(name: str, lengths: Tensor, x: Tensor) -> None:
    """Raise unless ``lengths`` is (batch,) integers in 0…time, beside ``x`` (batch, time, …).

    Values are read on the CPU alone: on a GPU that would make every call wait for the device.
    """
    batch, time = x.shape[:2]
    if not isinstance(lengths, Tensor):
        raise TypeError(f"{name}: expected lengths to be a tensor, got {type(lengths).__name__}")
    if lengths.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name}: expected integer lengths, got {_short(lengths.dtype)}")
    if lengths.shape != (batch,):
        raise ValueError(
            f"{name}: expected lengths of shape ({batch},), one for each sequence, "
            f"got {tuple(lengths.shape)}"
        )
    if lengths.device != x.device:
        raise ValueError(
            f"{name}: lengths are on {lengths.device} and x is on {x.device}; "
            "use lengths.to(x.device)"
        )
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling() and batch > 0:
        low, high = (int(value) for value in lengths.aminmax())
        if low < 0 or high > time:
            raise ValueError(
                f"{name}: expected lengths between 0 and {time}, got {low if low < 0 else high}"
            )


def check_state(name: str, state: Any, x: Tensor) -> None:
    """Raise unless ``state`` is one of this batch and device, that of ``x`` (batch, …)."""
    if not isinstance(state, tuple):
        raise TypeError(f"{name}: expected a state made by init_state, got {type(state).__name__}")
    shared = getattr(state, "shared", ())
    # A state of states (of a stack) is a plain tuple somewhere inside and has no field names.
    fields = getattr(state, "_fields", None) or range(len(state))
    for field, value in zip(fields, state, strict=True):
        if isinstance(value, tuple):
            check_state(name, value, x)
            continue
        if value.device != x.device:
            raise ValueError(
                f"{name}: the state is on {value.device} and the input on {x.device}; "
                "use init_state(batch, device=x.device)"
            )
        if field not in shared and value.shape[0] != x.shape[0]:
            raise ValueError(
                f"{name}: the state is of a batch of {value.shape[0]} and the input of a batch of "
                f"{x.shape[0]}; use init_state({x.shape[0]})"
            )


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Apply ``function`` to every tensor of a state: ``map_state(Tensor.detach, state)``."""
    return _map(function, function, state)


def select_batch(state: State, index: Tensor) -> State:
    """Return the states of the sequences ``index`` (n,), in that order, as beam search needs."""
    return _map(lambda tensor: tensor[index], lambda tensor: tensor, state)


def renew_state(state: State, fresh: State) -> State:
    """Return ``state`` as the parameters are now, cut off from the gradients of its past.

    Training goes on from a carried state with it, after an optimizer step or a backward pass
    (truncated backpropagation through time)::

        state = renew_state(state, layer.init_state(batch))

    Args:
        state: After an earlier chunk.
        fresh: From ``init_state`` of the same layer; what the state calls ``shared`` comes from it.
    """
    state_type = cast(Any, type(state))
    shared = getattr(state_type, "shared", ())
    names = getattr(state_type, "_fields", None)
    old, new = cast("tuple[Any, ...]", state), cast("tuple[Any, ...]", fresh)
    renewed = []
    for name, value, fresh_value in zip(names or range(len(old)), old, new, strict=True):
        if isinstance(value, tuple):
            renewed.append(renew_state(value, fresh_value))
        else:
            renewed.append(fresh_value if name in shared else value.detach())
    return state_type(renewed) if names is None else state_type(*renewed)


def time_mask(lengths: Tensor, time: int) -> Tensor:
    """Return the (batch, time) mask that is True at the valid steps of right-padded sequences."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]


def mask_padding(y: Tensor, lengths: Tensor | None) -> Tensor:
    """Return ``y`` (batch, time, …) with zeros past each length; all of it where there is none."""
    if lengths is None:
        return y
    mask = time_mask(lengths, y.shape[1])
    return y.masked_fill(~mask.unflatten(1, (-1, *(1,) * (y.ndim - 2))), 0)


def last_step(y: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the last valid step (batch, …) of ``y`` (batch, time, …).

    Where a length is 0, that is the first step, which a layer has made zero.
    """
    if lengths is None:
        return y[:, -1]
    return y[torch.arange(y.shape[0], device=y.device), (lengths - 1).clamp(min=0)]


def _map(
    of_batch: Callable[[Tensor], Tensor], of_shared: Callable[[Tensor], Tensor], state: State
) -> State:
    state_type = cast(Any, type(state))
    shared = getattr(state_type, "shared", ())
    names = getattr(state_type, "_fields", None)
    values = cast("tuple[Any, ...]", state)
    mapped = []
    for name, value in zip(names or range(len(values)), values, strict=True):
        if isinstance(value, tuple):
            mapped.append(_map(of_batch, of_shared, value))
        else:
            mapped.append((of_shared if name in shared else of_batch)(value))
    return state_type(mapped) if names is None else state_type(*mapped)


def _check_floating(name: str, variable: str, x: Tensor) -> None:
    if not x.dtype.is_floating_point:
        hint = "" if x.dtype.is_complex else f"; use {variable}.float() if it holds numbers"
        raise TypeError(
            f"{name}: expected {variable} to be floating point, got {_short(x.dtype)}{hint}"
        )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
