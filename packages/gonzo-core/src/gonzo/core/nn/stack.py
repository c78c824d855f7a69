"""The pre-norm residual stack over any sequence layers.

With m_i the layers and f_i optional position-wise networks (He et al., 2016; Xiong et al., "On
Layer Normalization in the Transformer Architecture", 2020):

    x ← x + m_i(norm(x)),   x ← x + f_i(norm(x)),   y = norm(x).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from gonzo.core.nn.dropout import Dropout
from gonzo.core.nn.feed_forward import FeedForward
from gonzo.core.sequence import SequenceModule, check_step, mask_padding

__all__ = ["ResidualStack", "StackState"]

_NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


class StackState(NamedTuple):
    """The states of a stack's layers, first to last."""

    layers: tuple[Any, ...]


class ResidualStack(SequenceModule):
    """Layers one after another, each with its own norm, residual branch and dropout.

    It keeps the contract of its layers: it streams if all of them do, and is itself a layer. One
    layer given several times shares its weights and keeps a state for each place.

    Args:
        layers: The layers, all of one ``d_model``.
        norm: ``"layer"`` or ``"rms"``, before every branch and once at the end.
        feed_forward: The hidden size of a ``FeedForward`` after each layer; None for none.
        activation: Of the feed-forward networks: ``"gelu"`` or ``"swiglu"``.
        dropout: Probability, on the output of every branch.
        tied_dropout: One dropout mask for all time steps.
        checkpoint: Store the input of each layer alone and compute the rest of it once more in the
            backward pass (activation checkpointing): memory for time, with the same results.
    """

    def __init__(
        self,
        layers: Sequence[SequenceModule],
        *,
        norm: Literal["layer", "rms"] = "layer",
        feed_forward: int | None = None,
        activation: Literal["gelu", "swiglu"] = "gelu",
        dropout: float = 0.0,
        tied_dropout: bool = False,
        checkpoint: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {layer.d_model for layer in layers}
        if len(sizes) != 1:
            raise ValueError(
                "ResidualStack: expected at least one layer and all of one d_model, got "
                f"{[layer.d_model for layer in layers]}"
            )
        if norm not in _NORMS:
            raise ValueError(f"ResidualStack: expected norm 'layer' or 'rms', got {norm!r}")
        self.d_model = sizes.pop()
        self.checkpoint = checkpoint

        def new_norm() -> nn.LayerNorm | nn.RMSNorm:
            return _NORMS[norm](self.d_model, device=device, dtype=dtype)

        # A ModuleList, in words that say what it holds.
        self.layers = cast("Sequence[SequenceModule]", nn.ModuleList(layers))
        self.norms = nn.ModuleList(new_norm() for _ in layers)
        self.feed_forwards: nn.ModuleList | None = None
        self.feed_forward_norms: nn.ModuleList | None = None
        if feed_forward is not None:
            self.feed_forwards = nn.ModuleList(
                FeedForward(
                    self.d_model,
                    feed_forward,
                    activation=activation,
                    dropout=dropout,
                    device=device,
                    dtype=dtype,
                )
                for _ in layers
            )
            self.feed_forward_norms = nn.ModuleList(new_norm() for _ in layers)
        self.final_norm = new_norm()
        self.dropout = Dropout(dropout, tied=tied_dropout)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, those of the layers included."""
        groups = (self.layers, self.norms, self.feed_forwards, self.feed_forward_norms)
        for group in groups:
            for module in cast("Iterable[Any]", group or ()):
                module.reset_parameters()
        self.final_norm.reset_parameters()

    @property
    def streams(self) -> bool:
        """Whether every layer streams."""
        return all(layer.streams for layer in self.layers)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (batch, time, d_model) to (batch, time, d_model); see ``SequenceModule.forward``."""
        self.check(x, lengths)
        for index in range(len(self.layers)):
            x = self._maybe_recomputed(self._forward_layer, index, x, lengths)
        return mask_padding(self.final_norm(x), lengths)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> StackState:
        """Return the states of all layers before the first step."""
        self._check_streams()
        return StackState(
            tuple(layer.init_state(batch, device=device, dtype=dtype) for layer in self.layers)
        )

    def scan(
        self, x: Tensor, state: StackState, lengths: Tensor | None = None
    ) -> tuple[Tensor, StackState]:
        """Run a chunk (batch, time, d_model); see ``SequenceModule.scan``."""
        self._check_streams()
        self.check(x, lengths, state)
        self._check_layers(state)
        states = []
        for index, before in enumerate(state.layers):
            x, after = self._maybe_recomputed(self._scan_layer, index, x, before, lengths)
            states.append(after)
        return mask_padding(self.final_norm(x), lengths), StackState(tuple(states))

    def step(self, x_t: Tensor, state: StackState) -> tuple[Tensor, StackState]:
        """Run one time step (batch, d_model); see ``SequenceModule.step``."""
        self._check_layers(state)
        # Not self.check_step: each layer checks its own state, and twice would take too long.
        check_step("ResidualStack", x_t, self.d_model)
        states = []
        for index, before in enumerate(state.layers):
            y_t, after = self.layers[index].step(self.norms[index](x_t), before)
            x_t = self._after(index, x_t, y_t)
            states.append(after)
        return self.final_norm(x_t), StackState(tuple(states))

    def _forward_layer(self, index: int, x: Tensor, lengths: Tensor | None) -> Tensor:
        return self._after(index, x, self.layers[index](self.norms[index](x), lengths))

    def _scan_layer(
        self, index: int, x: Tensor, state: Any, lengths: Tensor | None
    ) -> tuple[Tensor, Any]:
        y, state = self.layers[index].scan(self.norms[index](x), state, lengths)
        return self._after(index, x, y), state

    def _maybe_recomputed(self, run: Callable[..., Any], *arguments: Any) -> Any:
        if self.checkpoint and torch.is_grad_enabled():
            return recomputed(run, *arguments, use_reentrant=False)
        return run(*arguments)

    def _after(self, index: int, x: Tensor, y: Tensor) -> Tensor:
        """Add the branch y of one layer to x, then its feed-forward branch."""
        x = x + self.dropout(y)
        if self.feed_forwards is None or self.feed_forward_norms is None:
            return x
        return x + self.dropout(self.feed_forwards[index](self.feed_forward_norms[index](x)))

    def _check_layers(self, state: StackState) -> None:
        if isinstance(state, StackState) and len(state.layers) == len(self.layers):
            return
        self._check_streams()
        if not isinstance(state, StackState):
            raise TypeError(
                f"ResidualStack: expected a state made by init_state, got {type(state).__name__}"
            )
        raise ValueError(
            f"ResidualStack: expected the states of {len(self.layers)} layers, "
            f"got those of {len(state.layers)}; use init_state of this stack"
        )

    def _check_streams(self) -> None:
        for layer in self.layers:
            if not layer.streams:
                raise TypeError(
                    f"ResidualStack cannot stream: it holds a {type(layer).__name__}, "
                    "which has forward only"
                )
