"""Several kinds of layers in one stack, in the order that a pattern spells.

A few attention layers among many others are what hybrids are made of: two suffice for H3 (Fu et
al., "Hungry Hungry Hippos", 2023).
"""

from collections.abc import Callable, Mapping

from gonzo.core.sequence import SequenceModule

__all__ = ["interleave"]


def interleave(
    pattern: str, layers: Mapping[str, Callable[[], SequenceModule]]
) -> list[SequenceModule]:
    """Return new layers, one for each letter of ``pattern``, for a ``ResidualStack``.

    ::

        make = {"s": lambda: S4D(256), "a": lambda: CausalAttention(256, n_head=4)}
        stack = ResidualStack(interleave("sasssass", make), feed_forward=1024)

    Args:
        pattern: A letter for each layer, first to last.
        layers: What makes a layer, by its letter. Every letter is used.

    Raises:
        ValueError: ``pattern`` is empty, or its letters and those of ``layers`` differ.
    """
    wrong = [letter for letter in layers if len(letter) != 1]
    if wrong:
        raise ValueError(f"interleave: expected one letter for each layer, got {wrong[0]!r}")
    unknown, unused = set(pattern) - set(layers), set(layers) - set(pattern)
    if not pattern or unknown:
        raise ValueError(
            f"interleave: expected a pattern of the letters {_listed(layers)}, got {pattern!r}"
        )
    if unused:
        raise ValueError(f"interleave: no place in {pattern!r} for {_listed(unused)}")
    return [layers[letter]() for letter in pattern]


def _listed(letters: Mapping[str, object] | set[str]) -> str:
    return ", ".join(repr(letter) for letter in sorted(letters))
