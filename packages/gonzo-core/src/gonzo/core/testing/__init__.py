"""What tests share: the tolerance table, the laws of a sequence layer, backends against the judge.

It needs torch and numpy alone, and no test runner.
"""

from gonzo.core.testing.agreement import compare_backends
from gonzo.core.testing.folder_imports import imports_from
from gonzo.core.testing.poison import poisoned_allocations
from gonzo.core.testing.sequence_laws import FORWARD_LAWS, LAWS, SequenceCase, check_sequence_module
from gonzo.core.testing.tolerance import TOLERANCE, assert_close, relative_rms

__all__ = [
    "FORWARD_LAWS",
    "LAWS",
    "TOLERANCE",
    "SequenceCase",
    "assert_close",
    "check_sequence_module",
    "compare_backends",
    "imports_from",
    "poisoned_allocations",
    "relative_rms",
]
