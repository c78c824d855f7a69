"""Ctrl-C between two steps instead of in the middle of one."""

import signal
import sys
import threading
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Raised between two steps, after the state was saved."""


class StepwiseInterrupt:
    """Turns the first Ctrl-C inside a loop into a request that the loop honours when it can.

    A step that is cut in the middle leaves a model with half an update, which must not be
    saved. So inside a loop (`deferring`) the first Ctrl-C only sets `requested`; the second,
    and any outside a loop, interrupts at once as always.
    """

    def __init__(self) -> None:
        self.requested = False
        self.deferring = False
        self._previous: signal.Handlers | object = None
        self._installed = False

    def install(self) -> None:
        """Take over SIGINT, where that is possible: in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
            self._installed = True

    def remove(self) -> None:
        """Give SIGINT back."""
        if self._installed:
            signal.signal(signal.SIGINT, self._previous)  # ty: ignore[invalid-argument-type]
            self._installed = False

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        if not self.deferring or self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("\nStopping after this step; Ctrl-C again stops at once.", file=sys.stderr)
