"""TensorBoard, used when it is installed (`pip install 'gonzo-lab[tensorboard]'`)."""

import importlib.util
from pathlib import Path
from typing import Protocol


class ScalarWriter(Protocol):
    """The part of TensorBoard's writer that runs use."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Note one number."""
        ...

    def close(self) -> None:
        """Write what is pending."""
        ...


def open_writer(directory: Path, *, first_step: int) -> ScalarWriter | None:
    """Return a writer into `directory`, or None when TensorBoard is not installed.

    Whatever an interrupted process wrote at `first_step` or later is taken back.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(directory), purge_step=first_step)
