"""How many parameters a model has, and how wide another must be to have as many."""

from collections.abc import Callable

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers training can change; a matrix with two uses counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def equal_width(wanted: int, build: Callable[[int], nn.Module]) -> int:
    """Return the width at which a model has as nearly as possible `wanted` parameters.

    Args:
        wanted: the number of parameters of the model to compare with.
        build: makes a model of a width of 1 or more; its size grows linearly with the width, as
            that of a feed-forward network does with its hidden layer. It is called with 1 and 2.

    Raises:
        ValueError: even a width of 1 is too large.
    """
    one, two = (count_parameters(build(width)) for width in (1, 2))
    width = 1 + round((wanted - one) / (two - one))
    if width < 1:
        raise ValueError(
            f"equal_width: expected a model of at most {wanted} parameters at width 1, got {one}; "
            "make the other one larger"
        )
    return width
