"""Linear mode connectivity (Frankle et al. 2020): the error on the line between two networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gonzo.pruning.undisturbed import undisturbed


@dataclass(frozen=True)
class Connectivity:
    """An error, or a loss, along the line between two networks.

    Attributes:
        alphas: places on the line, 0 at the first network and 1 at the second.
        values: the error at each.
    """

    alphas: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def barrier(self) -> float:
        """The highest error on the line above the mean of the two ends, the paper's measure."""
        return max(self.values) - (self.values[0] + self.values[-1]) / 2

    @property
    def rise(self) -> float:
        """The highest error above the straight line between the errors of the ends.

        Where the ends differ, this is zero along a line without a hill, and `barrier` is not.
        """
        first, last = self.values[0], self.values[-1]
        # Written as differences, so that the ends give zero exactly.
        inside = [
            (value - first) - alpha * (last - first)
            for alpha, value in zip(self.alphas[1:-1], self.values[1:-1], strict=True)
        ]
        return max(0.0, *inside) if inside else 0.0

    def __str__(self) -> str:
        return (
            f"error {self.values[0]:.4g} and {self.values[-1]:.4g} at the ends, "
            f"at most {max(self.values):.4g} between; barrier {self.barrier:.4g}"
        )


def linear_mode_connectivity(
    model: nn.Module,
    state_a: Mapping[str, Tensor],
    state_b: Mapping[str, Tensor],
    evaluate: Callable[[nn.Module], float],
    *,
    points: int = 11,
    recalibrate: Callable[[nn.Module], object] | None = None,
) -> Connectivity:
    """Evaluate networks on the line between two states, which have the same masks or none.

    Two states of the same masks stay in them along the whole line: what is zero in both is zero
    between.

    Source: Frankle, Dziugaite, Roy and Carbin, Linear Mode Connectivity and the Lottery Ticket
    Hypothesis, ICML 2020, section 2. The paper takes 30 points, and re-estimates the statistics
    of batch normalisation, which `recalibrate` is for.

    Args:
        model: of the states' architecture; it is left as it was, its own weights included.
        state_a: what `model.state_dict()` gave of the first network.
        state_b: of the second.
        evaluate: takes the model and returns its error or loss; lower is better. It is called in
            eval mode and without gradients.
        points: on the line, both ends included.
        recalibrate: re-estimates the running statistics of the model in place, at every point,
            the ends too: a function that resets them and runs the model over training data. It is
            called in training mode and without gradients. Without it statistics lie on the line,
            as the weights do.

    Raises:
        ValueError: the states do not fit the model or each other, fewer than two points, or an
            error that is not finite.
    """
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise ValueError(f"linear_mode_connectivity: expected at least two points, got {points!r}")
    _check(model, state_a, "state_a")
    _check(model, state_b, "state_b")
    # Copies, since `model.state_dict()` shares memory with the buffers that are written below.
    state_a, state_b = (
        {name: value.clone() for name, value in state.items()} for state in (state_a, state_b)
    )
    alphas = tuple(index / (points - 1) for index in range(points))
    values = []
    with undisturbed(model):
        # Storage of its own to write into; `undisturbed` gives the model its own back.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        for alpha in alphas:
            model.load_state_dict(_between(state_a, state_b, alpha))
            if recalibrate is not None:
                model.train()
                with torch.no_grad():
                    recalibrate(model)
            model.eval()
            with torch.no_grad():
                value = float(evaluate(model))
            if not abs(value) < float("inf"):
                raise ValueError(
                    f"linear_mode_connectivity: expected a finite error, got {value} at {alpha:g} "
                    "of the line"
                )
            values.append(value)
    return Connectivity(alphas, tuple(values))


def instability(
    model: nn.Module,
    state: Mapping[str, Tensor],
    train: Callable[[nn.Module, int], object],
    evaluate: Callable[[nn.Module], float],
    *,
    seeds: Sequence[int] = (0, 1),
    points: int = 11,
    recalibrate: Callable[[nn.Module], object] | None = None,
) -> Connectivity:
    """Train twice from one state with different noise, and look at the line between the outcomes.

    The paper's instability analysis: the network is stable from step k on when the barrier
    between two trainings that part at step k is about zero. With states of several k:

        barriers = {k: instability(model, states[k], ..., evaluate).barrier for k in states}

    Args:
        model: of the state's architecture; it is left as it was.
        state: what `model.state_dict()` gave at step k.
        train: `train(model, seed)` trains the model in place from step k to the end, with the
            order of data, augmentation and other noise of the seed. A ticket is trained under
            its masks, here.
        evaluate: as for `linear_mode_connectivity`.
        seeds: two different ones.
        points: as for `linear_mode_connectivity`.
        recalibrate: as for `linear_mode_connectivity`.

    Raises:
        ValueError: not two different seeds, or what `linear_mode_connectivity` refuses.
    """
    if len(seeds) != 2 or seeds[0] == seeds[1]:
        raise ValueError(f"instability: expected two different seeds, got {tuple(seeds)}")
    _check(model, state, "state")
    outcomes = []
    for seed in seeds:
        with undisturbed(model, seed=seed):
            for parameter in model.parameters():
                parameter.data = parameter.data.clone()
            model.load_state_dict(state)
            model.train()
            train(model, seed)
            outcomes.append({name: v.detach().clone() for name, v in model.state_dict().items()})
    return linear_mode_connectivity(
        model, *outcomes, evaluate, points=points, recalibrate=recalibrate
    )


def _check(model: nn.Module, state: Mapping[str, Tensor], which: str) -> None:
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    if list(state) != list(wanted) and set(state) != set(wanted):
        odd = sorted(set(state) ^ set(wanted))
        raise ValueError(
            f"{which} is not one of {type(model).__name__}: {', '.join(odd)} is in only one of "
            "the two"
        )
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise ValueError(
                f"{which} is not one of this model: {name} has shape {tuple(state[name].shape)} "
                f"there and {tuple(shape)} here"
            )


def _between(a: Mapping[str, Tensor], b: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    if alpha in (0, 1):
        return dict(b if alpha else a)
    # Counters and other integers have no middle; those of the first network will do.
    return {
        name: torch.lerp(value, b[name].to(value), alpha) if value.is_floating_point() else value
        for name, value in a.items()
    }
