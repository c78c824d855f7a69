"""The networks of a lottery run, each drawn from a seed of its own, and checked to be new ones."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from .run_directory import model_state
from .seeds import derive_seed, seeded

__all__ = ["NetworkDraws"]


class NetworkDraws:
    """Calls ``build`` with torch's global generators seeded by name.

    Args:
        build: Returns a new network at each call.
        seed: Of the run.

    Attributes:
        initial: Parameters and buffers of the first network; empty before `first`.
    """

    def __init__(self, build: Callable[[], nn.Module], seed: int) -> None:
        self._build = build
        self._seed = seed
        self._known: dict[int, weakref.ref[nn.Parameter]] = {}
        self.initial: dict[str, Tensor] = {}

    def first(self) -> nn.Module:
        """Return the network that the run begins with."""
        model = self._drawn("init", self._build, "build()")
        self.initial = model_state(model)
        return model

    def again(self, name: str = "init") -> nn.Module:
        """Return a network of the first one's architecture.

        Args:
            name: What it is drawn for; "init" is the first one once more.

        Raises:
            ValueError: It has other tensors, or is not new.
        """
        model = self._drawn(name, self._build, "build()")
        here, there = _kinds(model.state_dict()), _kinds(self.initial)
        different = sorted(n for n in here.keys() | there.keys() if here.get(n) != there.get(n))
        if different:
            got, expected = (kinds.get(different[0], "missing") for kinds in (here, there))
            raise ValueError(
                f"build() returned a network of another architecture than before: {different[0]} "
                f"has shape {got}, expected {expected}; "
                "it must build the same network each time, with weights from torch's generator"
            )
        return model

    def anew(self, place: str, names: Iterable[str]) -> nn.Module:
        """Return a network with other weights than the first one has.

        Args:
            place: What it is drawn for.
            names: Of the parameters that are pruned.

        Raises:
            ValueError: A parameter has the same weights, so ``build`` does not draw them.
        """
        model = self.again(place)
        parameters = dict(model.named_parameters())
        for name in names:
            weight = parameters[name].detach().cpu()
            # A weight that starts as a constant or as an identity is not drawn in any network.
            if torch.equal(weight, self.initial[name]) and weight.unique().numel() > 2:
                raise ValueError(
                    f"build() drew the same {name} for another seed, so that a re-initialised "
                    "control would be the ticket itself; draw weights from torch's global "
                    "generator, and set no seed in build()"
                )
        return model

    def smaller(self, place: str, make: Callable[[int], nn.Module], count: int) -> nn.Module:
        """Return what ``make(count)`` builds, a network with about ``count`` parameters.

        Args:
            place: What it is drawn for.
            make: Of `Controls`.
            count: Trainable numbers.

        Raises:
            ValueError: It has over 10 % more or less.
        """
        model = self._drawn(place, lambda: make(count), f"dense({count})")
        got = sum(p.numel() for p in model.parameters() if p.requires_grad)
        if abs(got - count) > count / 10:
            raise ValueError(
                f"dense({count}) returned a network with {got:,} trainable parameters, expected "
                f"{count:,} within 10 %, as many as the ticket has; choose its widths by the "
                "count, or name the rounds for which it can in Controls(rounds=…)"
            )
        return model

    def check_began(self, drawn: Mapping[str, Tensor]) -> None:
        """Make sure that a folder began with the first network.

        Args:
            drawn: What was kept of it.

        Raises:
            ValueError: It has other weights, beyond what another machine's rounding changes.
        """
        for name, value in drawn.items():
            ours = self.initial.get(name)
            if ours is None or ours.shape != value.shape or ours.dtype != value.dtype:
                now = "missing" if ours is None else f"{tuple(ours.shape)} of {ours.dtype}"
                said = f"{name} was {tuple(value.shape)} of {value.dtype} and is {now}"
            elif not _close(ours, value):
                said = f"{name} has other values"
            else:
                continue
            raise ValueError(
                f"build() draws other weights than this folder began with: {said}; go on with the "
                "build function it began with, or name another folder"
            )

    def _drawn(self, name: str, build: Callable[[], nn.Module], call: str) -> nn.Module:
        with seeded(derive_seed(self._seed, name)):
            model = build()
        if not isinstance(model, nn.Module):
            raise TypeError(f"expected {call} to return a module, got {type(model).__name__}")
        self._known = {key: known for key, known in self._known.items() if known() is not None}
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        for parameter_name, parameter in trained.items():
            known = self._known.get(id(parameter))
            if known is not None and known() is parameter:
                raise ValueError(
                    f"{call} returned a network that it returned before, which a training may have "
                    f"changed ({parameter_name} is the same parameter); it must build a new one at "
                    "each call"
                )
        self._known |= {id(parameter): weakref.ref(parameter) for parameter in trained.values()}
        return model


def _kinds(state: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tuple(t.shape)} of {t.dtype}" for name, t in state.items()}


def _close(ours: Tensor, theirs: Tensor) -> bool:
    if not ours.is_floating_point():
        return torch.equal(ours, theirs)
    difference = (ours.double() - theirs.double()).nan_to_num().square().sum()
    return bool(difference <= 1e-6 * theirs.double().nan_to_num().square().sum())
