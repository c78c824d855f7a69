"""The error that training minimises, and the loss that teaches a model how far off it may be."""

from __future__ import annotations

import torch
from torch import Tensor

from gonzo.ithemal.model import Estimate

__all__ = ["interval_loss", "prediction_loss"]


def prediction_loss(cycles: Tensor, y: Tensor, kind: str) -> Tensor:
    """Return the loss of predicted against measured cycles, (blocks,), of a `TrainConfig.loss`."""
    if kind == "relative":
        return ((cycles - y).abs() / y).mean()
    if kind == "log":
        return (cycles.clamp_min(1e-3).log() - y.log()).abs().mean()
    return ((cycles - y).abs() / (y + 1e-3)).sum()


def interval_loss(out: Estimate, y: Tensor) -> Tensor:
    """Return the pinball losses of both ends in log cycles; the prediction gets no gradient."""
    loss = y.new_zeros(())
    # The network may output cycles below zero early on, where they have no logarithm.
    centre = out.cycles.detach()
    usable = centre > 1e-3
    for end, quantile in ((out.low, 0.05), (out.high, 0.95)):
        ratio = (end[usable] / out.cycles[usable]).log()
        error = (y[usable] / centre[usable]).log() - ratio
        loss = loss + torch.maximum(quantile * error, (quantile - 1) * error).sum() / len(y)
    return loss
