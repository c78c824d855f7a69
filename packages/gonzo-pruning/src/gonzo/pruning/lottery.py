"""The lottery ticket experiment: train, prune, rewind, repeat (Frankle and Carbin, ICLR 2019).

Iterative pruning with resetting: (1) draw a network θ0, (2) train it, (3) prune a share of the
alive weights of every layer by final magnitude, (4) reset the others to θ0 (or to θk of early
training: Frankle, Dziugaite, Roy and Carbin, 2019), (5) repeat from 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .controls import Controls
from .criterion import Criterion
from .lottery_result import LotteryResult
from .magnitude import Magnitude
from .masks import Masks
from .network_draws import NetworkDraws
from .plan import PruningPlan, plan_pruning
from .ranks import from_first, is_first, rank, state_from_first, tensors_from_first
from .rates import Rate
from .round_pruning import next_masks, one_shot_masks, trained_scores, warn_of_emptied
from .run_config import (
    check_bool,
    check_choice,
    check_count,
    check_criterion,
    check_functions,
    check_metric,
    check_scope,
    described,
    differences,
    versions,
)
from .run_directory import RunDirectory, model_state, starting_file
from .seeds import derive_seed, seeded
from .training import Training
from .trial_keeper import RewindPoint, TrialKeeper
from .trials import Trial, early_stop, trial_name

__all__ = ["LotteryRun"]

FORMAT = 1


class LotteryRun:
    """Finds winning tickets of any network with any training function, and their controls.

    In each round the network is trained, its lowest weights are pruned, and those that stay are
    reset to their values at step ``rewind_to`` of the first training. Round 0 is the dense network,
    round r the ticket that was pruned r times. Every trial is finished or not in the folder
    ``directory``: a run that was interrupted goes on where it was, and ends with the same files.
    ``rounds`` and ``controls`` may grow when a run is taken up again. Its other arguments must be
    the same and ``build`` draw the same weights; ``train`` and its data must too, unchecked.

    Everything random follows from ``seed``: the weights that ``build`` draws, controls, the order
    of data and torch's global generators while ``train`` runs (dropout), which are put back after.

    In a process group of torch.distributed every process makes the same calls. The training
    function wraps the model in DistributedDataParallel; rank 0 decides and writes.

    Deviation: the paper draws the data's order anew in every training and so does ``data_order=
    "fresh"``; "same" gives all trainings of a run one order, so that they differ in masks alone.

    Args:
        build: Returns a new network at each call, drawn from torch's global generator.
        train: Trains a network, see `Training`.
        directory: Where everything is kept.
        rounds: How often to prune.
        rates: The share of alive weights that a round prunes: one, or by name (see `plan_pruning`).
        include: Parameters to prune although the rule would not.
        exclude: Parameters not to prune.
        scope: "layer" prunes every layer at its rate, "global" all together; or the name of a group
            for every pruned parameter.
        criterion: What a weight is worth.
        rewind_to: The step k to whose weights tickets are reset; 0 are those that were drawn. A
            ticket then trains from step k on.
        after_pruning: "rewind" resets the weights; "keep" keeps the trained ones and rewinds the
            steps, and with them the learning rate, alone (Renda, Frankle and Carbin, ICLR 2020).
        optimizer_state: "fresh" begins every training with an optimizer's empty state; "rewound"
            with the state at step k, without that of pruned weights. Controls that are drawn anew
            (reinit, dense) begin with an empty one.
        metric: The recorded metric whose first minimum is the early-stop step; lower is better.
        higher_is_better: Its first maximum instead, as of an accuracy.
        data_order: "fresh" for each training, or the "same" in all.
        controls: What else to train.
        seed: Of everything.
        keep_trained: Keep the trained networks too, for `LotteryResult.trained`.
        checkpoint_every: Write a state to go on from after this many steps; 0: an interrupted
            training begins again. What a step does must then follow from its number, from
            ``training.generator`` or from ``training.permutation``, and a learning rate from the
            step's number: what else the training function remembers is not restored.

    Raises:
        ValueError: An argument is not possible, or the network has nothing to prune.
        TypeError: ``build`` or ``train`` is no function, or another argument of a wrong type.

    Warns:
        LayerCollapseWarning: A ticket has a parameter without any alive weight.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        train: Callable[[nn.Module, Training], None],
        directory: str | Path,
        *,
        rounds: int = 15,
        rates: Rate | Mapping[str, Rate] = 0.2,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        scope: Literal["layer", "global"] | Mapping[str, str] = "layer",
        criterion: Criterion | None = None,
        rewind_to: int = 0,
        after_pruning: Literal["rewind", "keep"] = "rewind",
        optimizer_state: Literal["fresh", "rewound"] = "fresh",
        metric: str = "validation_loss",
        higher_is_better: bool = False,
        data_order: Literal["fresh", "same"] = "fresh",
        controls: Controls | None = None,
        seed: int = 0,
        keep_trained: bool = False,
        checkpoint_every: int = 0,
    ) -> None:
        check_functions(build, train)
        check_count("rounds", rounds, 1)
        check_count("rewind_to", rewind_to, 0)
        check_count("checkpoint_every", checkpoint_every, 0)
        check_count("seed", seed, 0)
        check_bool("keep_trained", keep_trained)
        check_metric(metric, higher_is_better)
        if not isinstance(scope, Mapping):
            check_choice("scope", scope, ("layer", "global"))
        check_choice("after_pruning", after_pruning, ("rewind", "keep"))
        check_choice("optimizer_state", optimizer_state, ("fresh", "rewound"))
        check_choice("data_order", data_order, ("fresh", "same"))
        self.criterion = Magnitude() if criterion is None else criterion
        check_criterion(self.criterion)
        self.controls = Controls() if controls is None else controls
        if not isinstance(self.controls, Controls):
            raise TypeError(f"LotteryRun: expected controls as Controls(…), got {controls!r}")
        if checkpoint_every and hasattr(self.criterion, "observe"):
            raise ValueError(
                f"{self.criterion!r} watches the training and cannot go on in the middle of it; "
                "leave checkpoint_every at 0"
            )
        beyond = [number for number in self.controls.rounds or () if number > rounds]
        if beyond:
            raise ValueError(f"controls are asked for in round {beyond[0]}, of {rounds} rounds")
        self.build = build
        self.train = train
        self.files = RunDirectory(directory)
        self.rounds = rounds
        self.scope = dict(scope) if isinstance(scope, Mapping) else scope
        self.rewind_to = rewind_to
        self.after_pruning = after_pruning
        self.optimizer_state = optimizer_state
        self.metric = metric
        self.higher_is_better = higher_is_better
        self.data_order = data_order
        self.seed = seed
        self.keep_trained = keep_trained
        self.checkpoint_every = checkpoint_every
        self._networks = NetworkDraws(build, seed)
        model = self._networks.first()
        self.plan: PruningPlan = plan_pruning(model, rates, include=include, exclude=exclude)
        check_scope(self.scope, self.plan)
        self._full = Masks.full(model, self.plan).to("cpu")
        self._trainable = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}

    def __repr__(self) -> str:
        return f"LotteryRun({str(self.files.path)!r}, rounds={self.rounds}, seed={self.seed})"

    @property
    def planned(self) -> list[tuple[str, int, int]]:
        """Kind, round and replicate of every trial, in order."""
        return [
            (kind, number, replicate)
            for number in range(self.rounds + 1)
            for kind, replicate in [("ticket", 0), *self.controls.of(number)]
        ]

    def run(self) -> LotteryResult:
        """Train what is not trained yet and return all.

        Raises:
            ValueError: The folder holds another run, or the training function does something that
                is not possible; the message says what.
        """
        return LotteryResult(self.files, tuple(self.trials()))

    def trials(self) -> Iterator[Trial]:
        """Yield the trials in order as they are finished, at once those that were before.

        Raises:
            ValueError: See `run`.
        """
        from_first(self._open)
        for kind, number, replicate in self.planned:
            name = trial_name(kind, number, replicate)
            done = from_first(lambda name=name: (t := self.files.trial(name)) and t.to_json())
            if done:
                yield Trial.from_json(done)
            else:
                yield self._trial(kind, number, replicate)

    def _open(self) -> None:
        config = self._config()
        found = self.files.config()
        if found is None:
            if self.files.strangers({"drawn.safetensors", "plan.txt"}):
                raise ValueError(
                    f"{self.files.path} has files of something else and no config.json; "
                    "name an empty folder"
                )
            self.files.sweep()
            initial = self._networks.initial
            self.files.begin({**config, "made_by": versions()}, str(self.plan), initial)
            return
        del found["made_by"]
        if "tied" not in found:  # an earlier version did not note it
            config.pop("tied", None)
        differing = differences(found, config)
        if differing:
            raise ValueError(
                f"{self.files.path} holds another run:\n  "
                + "\n  ".join(differing)
                + "\ngo on with that configuration, or name another folder"
            )
        self.files.sweep()
        if self.files.has("drawn"):
            self._networks.check_began(self.files.tensors("drawn"))
        else:
            self.files.write_tensors("drawn", self._networks.initial)

    def _config(self) -> dict[str, Any]:
        tied = {alias: p.name for p in self.plan.parameters for alias in p.aliases}
        return {
            "format": FORMAT,
            "seed": self.seed,
            "parameters": {
                p.name: {"shape": list(p.shape), "rate": str(p.rate)} for p in self.plan.parameters
            },
            "state": {n: list(tensor.shape) for n, tensor in self._networks.initial.items()},
            # Noted only where they say something, so that the folders of earlier versions go on.
            **({"tied": tied} if tied else {}),
            **({"higher_is_better": True} if self.higher_is_better else {}),
            "scope": self.scope,
            "criterion": described(self.criterion),
            "rewind_to": self.rewind_to,
            "after_pruning": self.after_pruning,
            "optimizer_state": self.optimizer_state,
            "metric": self.metric,
            "data_order": self.data_order,
        }

    def _masks(self, number: int) -> Masks:
        if number == 0:
            return self._full
        packed = tensors_from_first(lambda: self.files.masks(number).pack())
        return Masks.unpack(packed, {name: mask.shape for name, mask in self._full.items()})

    def _trial(self, kind: str, number: int, replicate: int) -> Trial:
        first = kind == "ticket" and number == 0
        place = f"{kind}/{number}/{replicate}"
        ticket_masks = self._masks(number)
        masks: Masks | None = ticket_masks
        if kind == "ticket":
            warn_of_emptied(ticket_masks, number)
        if kind == "dense":
            model, masks = self._small_dense(ticket_masks, place), None
        elif kind == "reinit":
            model = self._networks.anew(f"init/{place}", self.plan.names)
        else:
            model = self._networks.again()
            # Other masks than the ticket's meet the dense network's weights, not its zeros.
            model.load_state_dict(self._starting_state(number if kind == "ticket" else 1))
            if kind == "random-mask":
                generator = torch.Generator().manual_seed(derive_seed(self.seed, f"mask/{place}"))
                masks = ticket_masks.shuffled(generator)
            elif kind == "one-shot":
                scores = tensors_from_first(lambda: self.files.tensors("dense-scores"))
                masks = one_shot_masks(scores, ticket_masks)
        drawn = kind in ("reinit", "dense")
        rewound = {} if first else self._rewound()
        with_optimizers = self.optimizer_state == "rewound" and not drawn
        training = Training(
            model,
            masks,
            seed=derive_seed(self.seed, "data" if self.data_order == "same" else f"data/{place}"),
            first_step=0 if first else self.rewind_to,
            optimizer_states=rewound.get("optimizers") if with_optimizers else None,
            observer=TrialKeeper(
                self.files,
                trial_name(kind, number, replicate),
                capture_at=self.rewind_to if first and self.rewind_to else None,
                captured=self._captured,
                checkpoint_every=self.checkpoint_every,
                generator=rewound.get("generator") if self.data_order == "same" else None,
            ),
        )
        watched: AbstractContextManager[Any] = nullcontext()
        if kind == "ticket" and masks is not None:
            watched = getattr(self.criterion, "observe", lambda *_: nullcontext())(model, masks)
        # Other processes draw other dropout masks.
        noise = f"noise/{place}" + (f"/{rank()}" if rank() else "")
        with seeded(derive_seed(self.seed, noise)), training, watched:
            self.train(model, training)
        best = early_stop(training.history, self.metric, higher_is_better=self.higher_is_better)
        if kind == "ticket":
            self._prune(model, ticket_masks, number)
        trial = Trial(
            kind=kind,
            round=number,
            replicate=replicate,
            alive=ticket_masks.alive,
            total=ticket_masks.total,
            parameters=_trainable(model, masks),
            history=tuple(training.history),
            early_stop_step=int(best["step"]),
            at_early_stop=dict(best),
            at_end=dict(training.history[-1]),
        )

        def finish() -> str:
            self.files.write_trial(trial)
            return trial.to_json()

        return Trial.from_json(from_first(finish))

    def _starting_state(self, number: int) -> dict[str, Tensor]:
        """The network from which round `number` trains, before its masks are applied."""
        file = starting_file(number, self.rewind_to, self.after_pruning)
        return tensors_from_first(lambda: self.files.tensors(file))

    def _small_dense(self, masks: Masks, place: str) -> nn.Module:
        make = self.controls.dense
        assert make is not None
        wanted = sum(self._trainable.values()) - masks.total + masks.alive
        return self._networks.smaller(f"init/{place}", make, wanted)

    def _captured(self, point: RewindPoint) -> None:
        if not is_first():
            return
        if self._rewinds_training:
            state = {"optimizers": point.optimizers, "generator": point.generator}
            self.files.write_state(self.files.rewind_training, state)
        self.files.write_tensors("rewind", point.state)

    @property
    def _rewinds_training(self) -> bool:
        """Whether more than the network is known of step k."""
        return self.rewind_to > 0 and (
            self.optimizer_state == "rewound" or self.data_order == "same"
        )

    def _rewound(self) -> dict[str, Any]:
        """What is known of step k besides the network."""
        if not self._rewinds_training:
            return {}
        return state_from_first(self.files.rewound)

    def _prune(self, model: nn.Module, masks: Masks, number: int) -> None:
        """Decide the masks of the next round; rank 0 for all."""

        def decide() -> None:
            if number == 0 and self.rewind_to and not self.files.has("rewind"):
                raise ValueError(
                    f"the training ended before step {self.rewind_to}, to which "
                    f"rewind_to={self.rewind_to} resets tickets; train longer, or rewind to an "
                    "earlier step"
                )
            scores = trained_scores(self.criterion, model, masks, number)
            if number == 0:
                self.files.write_tensors("dense-scores", scores)
            try:
                pruned = next_masks(scores, masks, self.plan.rates, self.scope, number)
                self.files.write_masks(number + 1, pruned)
            except ValueError:
                # The masks after the last round are there for a run that is to have more rounds.
                if number < self.rounds:
                    raise
            if self.keep_trained or self.after_pruning == "keep":
                self.files.write_tensors(f"trained/{number:02}", model_state(model))

        from_first(decide)


def _trainable(model: nn.Module, masks: Masks | None) -> int:
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return count if masks is None else count - masks.total + masks.alive
