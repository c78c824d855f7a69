"""The laws that every sequence layer keeps, as functions, one test each.

A package writes:

    @pytest.mark.parametrize("law", LAWS)
    def test_s4_keeps(law):
        law(SequenceCase(lambda: S4(8, d_state=4)))

and ``FORWARD_LAWS`` for a layer that cannot stream.
"""

from collections.abc import Callable
from typing import Any

from gonzo.core.sequence import SequenceModule
from gonzo.core.testing.forward_laws import FORWARD_LAWS
from gonzo.core.testing.sequence_case import SequenceCase
from gonzo.core.testing.stream_laws import STREAM_LAWS

__all__ = ["FORWARD_LAWS", "LAWS", "SequenceCase", "check_sequence_module"]

LAWS = (*FORWARD_LAWS, *STREAM_LAWS)
"""The laws of a layer that streams."""


def check_sequence_module(make: Callable[[], SequenceModule], **sizes: Any) -> None:
    """Check all laws that apply to the layer; ``sizes`` are those of `SequenceCase`."""
    case = SequenceCase(make, **sizes)
    for law in LAWS if case.layer().streams else FORWARD_LAWS:
        law(case)
