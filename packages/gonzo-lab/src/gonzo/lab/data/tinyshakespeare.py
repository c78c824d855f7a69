"""Tiny Shakespeare: 1,115,394 characters of Shakespeare's plays (Karpathy's char-rnn, 2015).

The package ships all of it (see `shipped/tinyshakespeare/SOURCE.md`), so that nothing is looked for
or downloaded. It is cut by position: the first 90 % are for training, the next 5 % to choose by,
the last 5 % to judge by.
"""

from pathlib import Path
from typing import Literal

from gonzo.lab.data.files import DataFile

SHIPPED = Path(__file__).parent / "shipped" / "tinyshakespeare"
FILE = DataFile(
    "input.txt.gz",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    1_115_394,
)

SPLITS = {
    "train": slice(0, 1_003_854),
    "valid": slice(1_003_854, 1_059_624),
    "test": slice(1_059_624, 1_115_394),
}


def tinyshakespeare(split: Literal["train", "valid", "test"]) -> str:
    """Load a part of Tiny Shakespeare.

    Args:
        split: `"train"` (the first 1,003,854 characters), `"valid"` (the 55,770 after them) or
            `"test"` (the last 55,770). All 65 different characters occur in `"train"`.

    Returns:
        The text, ASCII, with its line ends.

    Raises:
        LabError: the file that the package ships is damaged.
        ValueError: `split` is none of the three.
    """
    if split not in SPLITS:
        raise ValueError(
            f"tinyshakespeare: expected the split 'train', 'valid' or 'test', got {split!r}"
        )
    return FILE.read(SHIPPED / FILE.name).decode("ascii")[SPLITS[split]]
