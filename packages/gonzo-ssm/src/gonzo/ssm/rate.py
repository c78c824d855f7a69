"""A trained model at another sampling rate: every Δ times the ratio of the two rates.

The parameters describe a system in continuous time, so that inputs sampled half as often need no
new training, only steps twice as long: the S4 paper classifies speech at half the rate that way.

Deviation: the original multiplies Δ too, but reuses C̃ = C (I - Ā^L), which it stores and which was
made with the trained Δ; at rate 2 its kernel is off by some 0.5 %. Here C is what is stored.
"""

from __future__ import annotations

from torch import nn

from .ema import DampedEMA
from .h3 import H3
from .lssl import LSSL
from .s5 import S5Operator
from .state_space import SSMOperator


def set_rate(model: nn.Module, rate: float) -> None:
    """Discretise every S4, S4D, S5 and LSSL layer of a model for steps `rate` times as long.

    After training at 16 kHz, ``set_rate(model, 2)`` serves inputs at 8 kHz, and ``set_rate(model,
    1)`` those of before. Layers without a step size (attention, linear) stay as they are. States
    made before are stale. The rate is not saved with the weights.

    Args:
        model: any module that holds such layers.
        rate: length of a step in those of training, above 0: 2 at half the sampling rate.

    Raises:
        ValueError: `rate` is not above 0 and finite; the model has no such layer, or one whose
            memory counts steps and cannot be stretched (H3, Mega).
    """
    if not 0 < rate < float("inf"):
        raise ValueError(f"set_rate: expected a finite rate above 0, got {rate}")
    counting = [type(m).__name__ for m in model.modules() if isinstance(m, H3 | DampedEMA)]
    if counting:
        raise ValueError(
            f"set_rate: the model holds a {counting[0]}, whose memory counts steps; only S4, S4D, "
            "S5 and LSSL have a step size"
        )
    layers = [m for m in model.modules() if isinstance(m, SSMOperator | S5Operator | LSSL)]
    if not layers:
        raise ValueError(
            f"set_rate: expected a model with layers S4, S4D, S5 or LSSL, "
            f"got a {type(model).__name__} without any"
        )
    for layer in layers:
        layer.rate = float(rate)
