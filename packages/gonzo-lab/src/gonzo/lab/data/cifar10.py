"""CIFAR-10: 60,000 colour images of 32 × 32 pixels in ten classes (Krizhevsky, 2009).

Read from one of two archives that lie on this machine: the binary version of the authors, or a
copy of all images as JPEG files, whose pixels differ a little because JPEG is lossy. No licence
is stated for the images, so that none ships with the package, and nothing is downloaded.
"""

import hashlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from gonzo.core.require import require
from gonzo.lab import console
from gonzo.lab.atomic import write_bytes
from gonzo.lab.data.files import DATA_DIR_VARIABLE, cache_dir, search_path
from gonzo.lab.data.tables import pick
from gonzo.lab.errors import LabError

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
COUNTS = {"train": 50_000, "test": 10_000}

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


class ColourImages(NamedTuple):
    """Labelled colour images.

    Attributes:
        images: (n, 3, 32, 32) uint8, red, green and blue.
        labels: (n,) uint8, an index of `CLASSES`.
        source: `"binary"`, the authors' pixels, or `"jpeg"`, pixels that went through JPEG.
    """

    images: torch.Tensor
    labels: torch.Tensor
    source: Literal["binary", "jpeg"]


# split -> (images, labels)
_Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class _Archive:
    """An archive of all images, known by the SHA-256 and the bytes of the file as it is published.

    Args:
        name: its file name.
        sha256: of the file, compressed.
        size: of the file, in bytes.
        members: how many files are read out of it.
        read: turns the wanted members, by name and in the order of their names, into arrays.
    """

    name: str
    sha256: str
    size: int
    members: int
    read: Callable[[dict[str, bytes]], _Arrays]

    def decode(self, path: Path) -> _Arrays:
        """Return what the archive at `path` holds.

        Raises:
            LabError: it is damaged, or another file of the same name.
        """
        try:
            content = path.read_bytes()
            if len(content) != self.size:
                raise ValueError(f"expected {self.size:,} bytes, got {len(content):,}")
            digest = hashlib.sha256(content).hexdigest()
            if digest != self.sha256:
                raise ValueError(f"expected SHA-256 {self.sha256}, got {digest}")
            files = dict(sorted(_files(content)))
            if len(files) != self.members:
                raise ValueError(f"expected {self.members:,} files of images, got {len(files):,}")
            return self.read(files)
        except (OSError, EOFError, ValueError, tarfile.TarError, lzma.LZMAError, zlib.error) as e:
            raise LabError(
                f"{path} is damaged ({e}). Remove it and start again, or put a good copy there."
            ) from e


def _files(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the files of images in a tar file, compressed with xz or gzip or not."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*") as opened:
        for member in opened:
            if member.isreg() and member.name.endswith((".bin", ".jpg")):
                file = opened.extractfile(member)
                assert file is not None
                yield member.name, file.read()


def _read_binary(files: dict[str, bytes]) -> _Arrays:
    """Read records of one byte of label and 3 × 32 × 32 bytes of pixels, 10,000 a file."""
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for name, content in files.items():
        records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
        parts["test" if "test_batch" in name else "train"].append(records)
    arrays = {}
    for split, records in parts.items():
        table = np.concatenate(records)
        arrays[split] = (table[:, 1:].reshape(-1, 3, _SIDE, _SIDE), table[:, 0])
    return arrays


def _read_jpeg(files: dict[str, bytes]) -> _Arrays:
    """Decode files called `<split>/<class>/<number>.jpg`."""
    image = require("PIL.Image", extra="pillow")
    images: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    for name, content in files.items():
        split, kind, _ = name.removeprefix("./").split("/")
        with image.open(io.BytesIO(content)) as picture:
            images[split].append(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
        labels[split].append(CLASSES.index(kind))
    return {split: (np.stack(images[split]), np.array(labels[split], np.uint8)) for split in images}


# The authors' pixels first. Their page gives the MD5 c32a1d4ab5d03f1284b67883e8d87530.
ARCHIVES: dict[Literal["binary", "jpeg"], _Archive] = {
    "binary": _Archive(
        "cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170_052_171,
        6,
        _read_binary,
    ),
    "jpeg": _Archive(
        "cifar10_jpeg.tar.xz",
        "a449fb6cc44428e868a490c2443a9d9dbaa2d053b0717c2e736a1e34ec13c2b6",
        18_443_132,
        60_000,
        _read_jpeg,
    ),
}


def cifar10(split: Literal["train", "test"], *, data_dir: Path | None = None) -> ColourImages:
    """Load CIFAR-10.

    The first call decodes the archive, half a minute for the JPEG files, and keeps the pixels in
    the cache (184 MB); from then on the archive is not needed.

    Args:
        split: `"train"` (50,000 images) or `"test"` (10,000).
        data_dir: where to look first, usually `run.data_dir`; an archive may lie in it, or in its
            folder `cifar10` or `cifar10_jpeg`.

    Returns:
        The images and labels, on the CPU: in the authors' order from their archive, by class
        from the JPEG files. With both at hand, the authors' pixels.

    Raises:
        LabError: no archive is on this machine (the message says how to get one), it is damaged,
            or `data_dir` is not a folder.
        MissingExtraError: the JPEG files are to be decoded, and Pillow is not installed.
        ValueError: `split` is neither of the two.
    """
    pick("cifar10", "split", COUNTS, split)
    looked = []
    for source, archive in ARCHIVES.items():
        kept = cache_dir() / "cifar10" / f"{source}-{archive.sha256[:12]}.safetensors"
        if kept.is_file():
            return _kept(kept, split, source)
        folders = search_path(f"cifar10_{source}", data_dir) + search_path("cifar10", data_dir)
        path = next((f / archive.name for f in folders if (f / archive.name).is_file()), None)
        if path is not None:
            images, labels = _keep(archive.decode(path), kept)[split]
            return ColourImages(torch.from_numpy(images), torch.from_numpy(labels), source)
        looked += folders
    listed = "".join(f"\n  {folder}" for folder in dict.fromkeys(looked))
    raise LabError(
        f"cifar10: the images are not on this machine; their archives, "
        f"{' or '.join(archive.name for archive in ARCHIVES.values())}, were looked for in{listed}"
        f"\nDownload {ADDRESS} (170 MB) into the folder cifar10 of a folder that you name with "
        f"--data-dir or {DATA_DIR_VARIABLE}. It is not shipped, because no licence is stated."
    )


def _keep(arrays: _Arrays, path: Path) -> _Arrays:
    tensors = {}
    for split, (images, labels) in arrays.items():
        tensors[f"{split}.images"] = torch.from_numpy(np.ascontiguousarray(images))
        tensors[f"{split}.labels"] = torch.from_numpy(np.ascontiguousarray(labels))
    try:
        write_bytes(path, safetensors.torch.save(tensors))
    except OSError as error:
        console.remarks().print(f"cifar10: decoded, but not kept: {error}", soft_wrap=True)
    return {s: (tensors[f"{s}.images"].numpy(), tensors[f"{s}.labels"].numpy()) for s in arrays}


def _kept(path: Path, split: str, source: Literal["binary", "jpeg"]) -> ColourImages:
    try:
        with safetensors.safe_open(path, "pt") as opened:
            images, labels = (opened.get_tensor(f"{split}.{what}") for what in ("images", "labels"))
        if images.shape != (COUNTS[split], 3, _SIDE, _SIDE) or labels.shape != (COUNTS[split],):
            raise ValueError(f"it holds images of shape {tuple(images.shape)}")
    except (OSError, ValueError, SafetensorError) as error:
        raise LabError(f"{path} is damaged ({error}). Remove it and start again.") from error
    return ColourImages(images, labels, source)
