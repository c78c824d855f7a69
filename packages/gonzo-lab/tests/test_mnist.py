"""MNIST: found, downloaded and checked; whatever a mirror or a disk does wrong is said."""

import gzip
import hashlib
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gonzo.lab import Images, LabError, mnist
from gonzo.lab.data import files
from gonzo.lab.data import mnist as module
from gonzo.lab.data.files import DataFile, download
from gonzo.lab.data.idx import format_idx, parse_idx

FULL = Path(os.environ.get("GONZO_DATA_DIR", "")) / "mnist"
needs_full_set = pytest.mark.skipif(
    not (os.environ.get("GONZO_DATA_DIR") and FULL.is_dir()),
    reason="GONZO_DATA_DIR names no folder with the full MNIST set in mnist/",
)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set on this machine, and no mirror but what a test says."""
    monkeypatch.delenv("GONZO_DATA_DIR", raising=False)
    monkeypatch.setattr(files, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(module, "MIRRORS", ())


def test_the_subset_ships_with_the_package() -> None:
    train, test = mnist("train", subset=True), mnist("test", subset=True)
    for part, count in ((train, 10_000), (test, 2_000)):
        assert isinstance(part, Images)
        assert part.images.shape == (count, 28, 28)
        assert part.labels.shape == (count,)
        assert part.images.dtype == part.labels.dtype == torch.uint8
        assert part.labels.bincount().min() > 0.08 * count
    assert train.labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert test.labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert (module.SHIPPED / "SOURCE.md").read_text().count("CC BY-SA 3.0") == 1


@needs_full_set
@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_the_full_set_begins_with_the_subset(split: str, count: int) -> None:
    full, subset = mnist(split, data_dir=FULL.parent), mnist(split, subset=True)
    assert full.images.shape == (count, 28, 28)
    assert torch.equal(full.images[: len(subset.images)], subset.images)
    assert torch.equal(full.labels[: len(subset.labels)], subset.labels)


@needs_full_set
def test_search_order_and_uncompressed_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in module.FILES["test"]:
        content = gzip.decompress((FULL / file.name).read_bytes())
        (plain / file.name.removesuffix(".gz")).write_bytes(content)
    assert len(mnist("test", data_dir=plain).labels) == 10_000
    monkeypatch.setenv("GONZO_DATA_DIR", str(plain))
    assert len(mnist("test").labels) == 10_000
    monkeypatch.delenv("GONZO_DATA_DIR")
    shutil.copytree(plain, tmp_path / "cache" / "mnist")
    assert len(mnist("test").labels) == 10_000


def test_a_damaged_file_is_named_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    images, labels = module.FILES["test"]
    (folder / labels.name).write_bytes(b"")
    for content, complaint in (
        (gzip.compress(bytes(100))[:-9], "the gzip file is damaged"),
        (gzip.compress(bytes(100)), "expected 7,840,016 bytes of content, got 100"),
        (gzip.compress(bytes(images.size)), "expected content of SHA-256 0fa7898d"),
    ):
        (folder / images.name).write_bytes(content)
        with pytest.raises(LabError, match=complaint) as caught:
            mnist("test", data_dir=tmp_path)
        assert str(folder / images.name) in str(caught.value)
        assert (folder / images.name).read_bytes() == content


def test_bad_folders_and_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match=r"--data-dir: .*absent is not a folder"):
        mnist("train", data_dir=tmp_path / "absent")
    with pytest.raises(ValueError, match="expected the split 'train' or 'test', got 'valid'"):
        mnist("valid")  # ty: ignore[invalid-argument-type]
    monkeypatch.setenv("GONZO_DATA_DIR", str(tmp_path / "gone"))
    with pytest.raises(LabError, match=r"GONZO_DATA_DIR: .*gone is not a folder"):
        mnist("train")


CONTENT = bytes(range(256)) * 64
GOOD = gzip.compress(CONTENT)
FILE = DataFile("digits.gz", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


class Mirror(http.server.BaseHTTPRequestHandler):
    """A server on this machine whose folders misbehave as their names say."""

    stalled = threading.Event()

    def do_GET(self) -> None:
        fault = self.path.split("/")[1]
        if fault == "missing":
            self.send_error(404)
            return
        wrong = gzip.compress(CONTENT[::-1])
        body = {"wrong": wrong, "html": b"<html>", "long": bytes(10 * len(CONTENT))}.get(
            fault, GOOD
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "stalled":
            self.stalled.wait(10)
        self.wfile.write(body[: len(body) // 2] if fault == "truncated" else body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as running:
        running.handle_error = lambda *_: None  # a client that hangs up is part of the test
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        Mirror.stalled.set()
        running.shutdown()
        thread.join()
        Mirror.stalled.clear()


def test_a_good_mirror_is_kept_atomically(server: str, tmp_path: Path) -> None:
    target = tmp_path / "cache" / FILE.name
    assert download(FILE, (server + "good/",), target) == CONTENT
    assert target.read_bytes() == GOOD
    assert [path.name for path in target.parent.iterdir()] == [FILE.name]


FAULTS = {
    "missing": "404",
    "truncated": "",
    "wrong": "expected content of SHA-256",
    "html": "expected 16,384 bytes of content, got 6",
    "long": "longer than",
    "stalled": "timed out",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_mirror_is_passed_over_for_the_next(server: str, tmp_path: Path, fault: str) -> None:
    target = tmp_path / FILE.name
    mirrors = (f"{server}{fault}/", f"{server}good/")
    assert download(FILE, mirrors, target, timeout=0.5) == CONTENT
    assert target.read_bytes() == GOOD


def test_without_any_mirror_every_failure_and_the_way_out_are_said(
    server: str, tmp_path: Path
) -> None:
    target = tmp_path / FILE.name
    mirrors = (*(f"{server}{fault}/" for fault in FAULTS), "http://127.0.0.1:1/")
    with pytest.raises(LabError) as caught:
        download(FILE, mirrors, target, timeout=0.5)
    message = str(caught.value)
    for mirror, complaint in zip(mirrors, [*FAULTS.values(), "refused"], strict=True):
        line = next(line for line in message.splitlines() if mirror in line)
        assert complaint in line
    assert f"put the file at {target}" in message
    assert "--data-dir or GONZO_DATA_DIR" in message
    assert not target.exists()


def test_mnist_downloads_what_is_missing(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands for the real files: the code path is the same, the content is small.
    monkeypatch.setattr(module, "MIRRORS", (server + "missing/", server + "good/"))
    monkeypatch.setitem(module.FILES, "test", (FILE, FILE))
    monkeypatch.setattr(
        module, "parse_idx", lambda content: np.frombuffer(content, np.uint8).copy()
    )
    assert mnist("test").labels[:3].tolist() == [0, 1, 2]
    assert (tmp_path / "cache" / "mnist" / FILE.name).read_bytes() == GOOD


@pytest.mark.parametrize("shape", [(0,), (3,), (2, 4, 5)])
def test_idx_round_trip(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    assert np.array_equal(parse_idx(format_idx(array)), array)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "at least 4 bytes"),
        (b"PNG!", "unsigned bytes"),
        (b"\0\0\x08\x03\0\0", "within its header"),
        (b"\0\0\x08\x01\0\0\0\x05ab", "expected 5 values, got 2"),
    ],
)
def test_idx_says_what_is_wrong(content: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_idx(content)
