"""MNIST: 70,000 handwritten digits of 28 × 28 pixels (LeCun, Cortes and Burges, 1998).

The package ships the first 10,000 training and the first 2,000 test images, in the original
order and under the original licence (see `shipped/mnist/SOURCE.md`); all of it is downloaded
on first use, or found in `--data-dir`, `GONZO_DATA_DIR` or the cache.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import torch

from gonzo.lab.data.files import DataFile, download, find, search_path
from gonzo.lab.data.idx import parse_idx

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

FILES = {
    "train": (
        DataFile(
            "train-images-idx3-ubyte.gz",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            47_040_016,
        ),
        DataFile(
            "train-labels-idx1-ubyte.gz",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            60_008,
        ),
    ),
    "test": (
        DataFile(
            "t10k-images-idx3-ubyte.gz",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            7_840_016,
        ),
        DataFile(
            "t10k-labels-idx1-ubyte.gz",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            10_008,
        ),
    ),
}

SHIPPED = Path(__file__).parent / "shipped" / "mnist"
SHIPPED_FILES = {
    "train": (
        DataFile(
            "train-10k-images-idx3-ubyte.gz",
            "2889698e6bc3614913e76901316712919d1998fc2b44512451bfe65bc1e668b1",
            7_840_016,
        ),
        DataFile(
            "train-10k-labels-idx1-ubyte.gz",
            "651e38e2ac0632f5113ec18f1df4977117f953197819034009971a6675a0df78",
            10_008,
        ),
    ),
    "test": (
        DataFile(
            "t10k-2k-images-idx3-ubyte.gz",
            "3f6bd66dee48df299584c67669bceee490faa25f931496bd7473b42106d7daed",
            1_568_016,
        ),
        DataFile(
            "t10k-2k-labels-idx1-ubyte.gz",
            "7b098e5f6a3065807cebeabf36fb1724a8aff19f2673ac08b4923e0e8c715bce",
            2_008,
        ),
    ),
}


class Images(NamedTuple):
    """Labelled grey images.

    Attributes:
        images: (n, 28, 28) uint8, 0 is background and 255 is ink.
        labels: (n,) uint8, the digit.
    """

    images: torch.Tensor
    labels: torch.Tensor


def mnist(
    split: Literal["train", "test"], *, subset: bool = False, data_dir: Path | None = None
) -> Images:
    """Load MNIST.

    Args:
        split: `"train"` (60,000 images) or `"test"` (10,000).
        subset: only the first 10,000 or 2,000 images, which ship with this package.
        data_dir: where to look first, usually `run.data_dir`; the files may lie in it or in
            its folder `mnist`, compressed or not.

    Returns:
        The images and labels, on the CPU and in the original order.

    Raises:
        LabError: a file is damaged, `data_dir` is not a folder, or a download failed.
        ValueError: `split` is neither of the two.
    """
    if split not in FILES:
        raise ValueError(f"mnist: expected the split 'train' or 'test', got {split!r}")
    if subset:
        images, labels = (file.read(SHIPPED / file.name) for file in SHIPPED_FILES[split])
    else:
        folders = search_path("mnist", data_dir)
        images, labels = (_content(file, folders) for file in FILES[split])
    return Images(torch.from_numpy(parse_idx(images)), torch.from_numpy(parse_idx(labels)))


def _content(file: DataFile, folders: list[Path]) -> bytes:
    path = find(file, folders)
    if path is not None:
        return file.read(path)
    return download(file, MIRRORS, folders[-1] / file.name)
