"""Embeddings as arrays, and that nothing in them is unpickled."""

import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from gonzo.translation.embeddings import (
    Embeddings,
    read_embeddings,
    read_embeddings_with_report,
    write_embeddings,
)

WORDS = ["the", "été", "a b", "no\u00a0break"]
VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3) / 8


def as_npz(path, words=WORDS, vectors=VECTORS):
    np.savez(path, words=np.array(words), vectors=vectors)


def as_safetensors(path, words=WORDS, vectors=VECTORS):
    text = np.frombuffer("\n".join(words).encode(), np.uint8)
    save_file({"words": text, "vectors": vectors}, path)


KINDS = pytest.mark.parametrize(
    ("name", "write"), [("x.npz", as_npz), ("x.safetensors", as_safetensors)]
)


@KINDS
@pytest.mark.parametrize("stored", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_precision_is_widened_or_rounded_to_what_was_asked(
    tmp_path, name, write, stored, dtype
):
    write(tmp_path / name, vectors=VECTORS.astype(stored))
    embeddings, report = read_embeddings_with_report(tmp_path / name, dtype=dtype)
    assert embeddings.words == tuple(WORDS)
    assert embeddings.vectors.dtype == dtype
    assert embeddings.vectors.tolist() == VECTORS.tolist()
    assert report.format == name.removeprefix("x.")


@KINDS
def test_the_rules_of_all_formats(tmp_path, name, write):
    write(tmp_path / name, ["A", "a", "z", "b"], np.array([[1.0], [2], [0], [3]], np.float32))
    path = tmp_path / name
    embeddings, report = read_embeddings_with_report(path, lowercase=True)
    assert embeddings.words == ("a", "z", "b")
    assert (report.claimed, report.repeated, report.zeros) == (4, 1, 1)
    assert read_embeddings(path, max_words=2).words == ("A", "a")
    with pytest.raises(ValueError, match="4 words of 1 numbers take 0 MiB, more than max_bytes"):
        read_embeddings(path, max_bytes=15)


@KINDS
def test_files_are_told_by_their_content(tmp_path, name, write):
    write(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "x.dat")
    assert read_embeddings_with_report(tmp_path / "x.dat")[1].format == name.removeprefix("x.")


@KINDS
def test_what_is_not_finite_is_named_by_its_row(tmp_path, name, write):
    write(tmp_path / name, vectors=np.array([[1], [2], [np.nan], [3]]))
    with pytest.raises(ValueError, match="row 3: the vector of 'a b' holds nan"):
        read_embeddings(tmp_path / name)


@KINDS
@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (
            np.ones(4, np.float32),
            r"expected vectors of shape \(words, dimension\) .* got shape \(4,",
        ),
        (np.ones((4, 2), np.int32), "float16, float32 or float64, got shape .* type"),
        (np.ones((0, 2), np.float32), r"got shape \(0, 2\)"),
        (np.ones((3, 2), np.float32), "expected 3 words"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, name, write, vectors, message):
    write(tmp_path / name, vectors=vectors)
    if "3 words" in message and name == "x.npz":
        message = r"expected 3 words as Unicode strings .* shape \(4,\)"
    with pytest.raises(ValueError, match=message):
        read_embeddings(tmp_path / name)


@KINDS
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_an_interrupted_download(tmp_path, name, write, part):
    write(tmp_path / name, vectors=np.ones((4, 300), np.float32))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"not a whole \.\w+ file .* interrupted download\?"):
        read_embeddings(tmp_path / name)


def test_missing_arrays_are_named(tmp_path):
    np.savez(tmp_path / "x.npz", vocab=np.array(WORDS), vectors=VECTORS)
    with pytest.raises(
        ValueError, match=r"arrays \"words\" and \"vectors\", found \['vectors', 'vo"
    ):
        read_embeddings(tmp_path / "x.npz")
    save_file({"vectors": VECTORS}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"tensors \"words\" .* found \['vectors'\]"):
        read_embeddings(tmp_path / "x.safetensors")


def test_arrays_of_objects_are_refused_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    as_npz(tmp_path / "x.npz", words=np.array([Trap()] * 4, dtype=object))
    with pytest.raises(ValueError, match="words is an array of Python objects, which is a pickle"):
        read_embeddings(tmp_path / "x.npz")
    as_npz(tmp_path / "y.npz", vectors=np.array([[Trap()]] * 4, dtype=object))
    with pytest.raises(ValueError, match="vectors is an array of Python objects"):
        read_embeddings(tmp_path / "y.npz")
    assert not (tmp_path / "sprung").exists()


def test_other_layouts_of_npz(tmp_path):
    as_npz(tmp_path / "x.npz", vectors=np.asfortranarray(VECTORS))
    with pytest.raises(ValueError, match=r"vectors is stored by columns; save it as np.ascontig"):
        read_embeddings(tmp_path / "x.npz")
    as_npz(tmp_path / "y.npz", vectors=VECTORS.astype(">f4"))
    assert read_embeddings(tmp_path / "y.npz").vectors.tolist() == VECTORS.tolist()
    np.savez_compressed(tmp_path / "z.npz", words=np.array(WORDS), vectors=VECTORS)
    assert read_embeddings(tmp_path / "z.npz").vectors.tolist() == VECTORS.tolist()


def test_words_of_absurd_length_are_refused_before_they_are_read(tmp_path):
    as_npz(tmp_path / "x.npz", words=["a", "b", "c", "d" * 1000])
    with pytest.raises(ValueError, match="4 words of up to 1,000 characters take more than max_b"):
        read_embeddings(tmp_path / "x.npz", max_bytes=1000)


def test_words_that_a_format_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match=r"safetensors format cannot hold .*'a\\nb'.* write \.npz"):
        write_embeddings(Embeddings(("a\nb",), torch.ones(1, 2)), tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"npz format cannot hold .* ends in NUL"):
        write_embeddings(Embeddings(("a\0",), torch.ones(1, 2)), tmp_path / "x.npz")
    write_embeddings(Embeddings(("a\nb",), torch.ones(1, 2)), tmp_path / "x.npz")
    assert read_embeddings(tmp_path / "x.npz").words == ("a\nb",)


def test_words_that_are_no_characters_are_refused(tmp_path):
    words = np.array([0x110000, 0x61, 0x62, 0x63], np.uint32).view("U1")
    as_npz(tmp_path / "x.npz", words=words)
    with pytest.raises(ValueError, match=r"x\.npz: a word is not Unicode .* is damaged"):
        read_embeddings(tmp_path / "x.npz")


def test_a_shape_below_nothing_is_refused(tmp_path):
    as_npz(tmp_path / "x.npz")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 3), }"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "x.npz") as whole:
        words = whole.read("words.npy")
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as new:
        new.writestr("words.npy", words)
        new.writestr("vectors.npy", array)
    with pytest.raises(ValueError, match=r"y\.npz: expected vectors .*got shape \(-4, 3\)"):
        read_embeddings(tmp_path / "y.npz")
