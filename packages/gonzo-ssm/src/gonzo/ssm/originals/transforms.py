"""How the originals keep a number positive: a parameter and a function of it, an option by name."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Transform = Literal["none", "exp", "relu", "sigmoid", "softplus"]


def log_of(reader: str, option: str, raw: Tensor, transform: Transform) -> Tensor:
    """Return the logarithm of what the original makes of `raw`: for exp, `raw` itself."""
    if transform == "exp":
        return raw
    number = value_of(reader, option, raw, transform)
    if not (number > 0).all():
        raise ValueError(
            f"{reader}: {option}={transform!r} makes {number.min().item():.3g} of a weight where "
            f"only numbers above 0 have a meaning; was it trained with another {option}?"
        )
    return number.log()


def value_of(reader: str, option: str, raw: Tensor, transform: Transform) -> Tensor:
    """Return what the original makes of `raw`, in float64 unless it is `raw` itself."""
    match transform:
        case "none":
            return raw
        case "exp":
            return raw.double().exp()
        case "relu":
            return F.relu(raw.double()) + 1e-4
        case "sigmoid":
            return raw.double().sigmoid()
        case "softplus":
            return F.softplus(raw.double())
    names = "'none', 'exp', 'relu', 'sigmoid' or 'softplus'"
    raise ValueError(f"{reader}: expected {option} {names}, got {transform!r}")
