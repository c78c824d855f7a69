"""CIFAR-10: two archives, decoded once; what is missing or damaged is said."""

import hashlib
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from gonzo.lab import LabError
from gonzo.lab.data import cifar10 as module
from gonzo.lab.data import files
from gonzo.lab.data.cifar10 import ARCHIVES, CLASSES, cifar10

FULL = Path(os.environ.get("GONZO_DATA_DIR", "")) / "cifar10_jpeg" / ARCHIVES["jpeg"].name
needs_images = pytest.mark.skipif(
    not (os.environ.get("GONZO_DATA_DIR") and FULL.is_file()),
    reason="GONZO_DATA_DIR names no folder with cifar10_jpeg/cifar10_jpeg.tar.xz",
)
SIZES = {"train": 20, "test": 10}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set and an empty cache on this machine."""
    monkeypatch.delenv("GONZO_DATA_DIR", raising=False)
    monkeypatch.setattr(files, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(module, "cache_dir", lambda: tmp_path / "cache")


def tar(members: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{mode}") as archive:  # ty: ignore[no-matching-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Drawn images of the layout of CIFAR-10, in place of the real ones."""
    generator = np.random.default_rng(0)
    monkeypatch.setattr(module, "COUNTS", SIZES)
    return {
        split: generator.integers(0, 256, (count, 3, 32, 32), np.uint8)
        for split, count in SIZES.items()
    }


def publish(source: str, content: bytes, members: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make `content` the archive that is expected; return its file name."""
    archive = replace(
        ARCHIVES[source],  # ty: ignore[invalid-argument-type]
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        members=members,
    )
    monkeypatch.setitem(ARCHIVES, source, archive)
    return archive.name


def binary(images: dict[str, np.ndarray]) -> bytes:
    """The authors' format: a label, then the red, the green and the blue plane; labels i mod 10."""

    def records(split: str, begin: int, end: int) -> bytes:
        return b"".join(bytes([i % 10]) + images[split][i].tobytes() for i in range(begin, end))

    folder = "cifar-10-batches-bin"
    return tar(
        {
            f"{folder}/data_batch_2.bin": records("train", 10, 20),
            f"{folder}/batches.meta.txt": "\n".join(CLASSES).encode(),
            f"{folder}/data_batch_1.bin": records("train", 0, 10),
            f"{folder}/test_batch.bin": records("test", 0, 10),
        },
        "gz",
    )


def test_the_binary_archive_keeps_every_pixel_and_is_read_once(
    small: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = binary(small)
    name = publish("binary", content, 3, monkeypatch)
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / name).write_bytes(content)
    first = cifar10("train", data_dir=tmp_path)
    assert first.source == "binary"
    (tmp_path / "cifar10" / name).unlink()
    kept = cifar10("train", data_dir=tmp_path)
    for images, labels, _ in (first, kept):
        assert images.dtype == labels.dtype == torch.uint8
        assert np.array_equal(images.numpy(), small["train"])
        assert labels.tolist() == [i % 10 for i in range(20)]
    assert np.array_equal(cifar10("test").images.numpy(), small["test"])


def test_jpeg_files_are_ordered_by_class_and_number(
    small: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pil = pytest.importorskip("PIL.Image", reason="the JPEG files need pillow")
    members = {}
    for split, count in SIZES.items():
        for i in reversed(range(count)):  # the archive's order does not matter
            # One colour an image, and so hardly changed by JPEG.
            small[split][i] = small[split][i, :, :1, :1]
            buffer = io.BytesIO()
            picture = pil.fromarray(small[split][i].transpose(1, 2, 0).copy())
            picture.save(buffer, "JPEG", quality=100, subsampling=0)
            per_class = count // 10
            members[f"{split}/{CLASSES[i // per_class]}/{i % per_class:04d}.jpg"] = (
                buffer.getvalue()
            )
    content = tar(members, "xz")
    name = publish("jpeg", content, 30, monkeypatch)
    (tmp_path / name).write_bytes(content)
    for split, count in SIZES.items():
        images, labels, source = cifar10(split, data_dir=tmp_path)  # ty: ignore[invalid-argument-type]
        assert source == "jpeg"
        assert labels.tolist() == [i * 10 // count for i in range(count)]
        difference = np.abs(images.numpy().astype(int) - small[split])
        assert difference.max() <= 3


def test_the_authors_pixels_come_first(
    small: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = binary(small)
    (tmp_path / publish("jpeg", b"not opened", 30, monkeypatch)).write_bytes(b"not opened")
    (tmp_path / publish("binary", content, 3, monkeypatch)).write_bytes(content)
    assert cifar10("test", data_dir=tmp_path).source == "binary"


def test_without_an_archive_the_way_to_one_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        cifar10("train", data_dir=tmp_path)
    message = str(caught.value)
    for part in (
        "cifar-10-binary.tar.gz or cifar10_jpeg.tar.xz, were looked for in",
        f"\n  {tmp_path / 'cifar10'}\n",
        f"Download {module.ADDRESS} (170 MB) into the folder cifar10 of a folder that you name",
        "--data-dir or GONZO_DATA_DIR",
    ):
        assert part in message
    with pytest.raises(ValueError, match="expected the split to be one of 'train', 'test'"):
        cifar10("valid")  # ty: ignore[invalid-argument-type]


def test_damaged_archives_and_caches(
    small: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = binary(small)
    path = tmp_path / publish("binary", content, 3, monkeypatch)
    for damaged, complaint in (
        (content[:-9], f"expected {len(content):,} bytes, got {len(content) - 9:,}"),
        (content[:-1] + b"x", "expected SHA-256"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(LabError, match=complaint):
            cifar10("train", data_dir=tmp_path)
        assert path.read_bytes() == damaged
    path.write_bytes(content)
    publish("binary", content, 6, monkeypatch)
    with pytest.raises(LabError, match="expected 6 files of images, got 3"):
        cifar10("train", data_dir=tmp_path)
    publish("binary", content, 3, monkeypatch)
    cifar10("train", data_dir=tmp_path)
    (kept,) = (tmp_path / "cache" / "cifar10").iterdir()
    for damaged in (
        kept.read_bytes()[:-9],
        safetensors.torch.save({"train.images": torch.zeros(3), "train.labels": torch.zeros(3)}),
    ):
        kept.write_bytes(damaged)
        with pytest.raises(LabError, match=r"safetensors is damaged \(.*Remove it and start again"):
            cifar10("train")


def test_a_cache_that_cannot_be_written_is_remarked(
    small: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    content = binary(small)
    (tmp_path / publish("binary", content, 3, monkeypatch)).write_bytes(content)
    (tmp_path / "cache").write_text("a file where the folder should be")
    images = cifar10("test", data_dir=tmp_path).images
    assert np.array_equal(images.numpy(), small["test"])
    assert "cifar10: decoded, but not kept" in capfd.readouterr().err


@needs_images
def test_the_real_images(monkeypatch: pytest.MonkeyPatch) -> None:
    # Decoded into the real cache, once: 184 MB.
    monkeypatch.undo()
    train, test = cifar10("train"), cifar10("test")
    assert train.images.shape == (50_000, 3, 32, 32)
    assert train.labels.bincount().tolist() == [5000] * 10
    assert test.labels.bincount().tolist() == [1000] * 10
    # The well-known means of the training images, which JPEG hardly moves.
    means = train.images.double().mean((0, 2, 3))
    assert torch.allclose(means, torch.tensor([125.31, 122.95, 113.87]).double(), atol=0.1)
