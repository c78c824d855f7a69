"""Writing embeddings: every format reads back, and no file is ever half written."""

import gzip

import pytest
import torch

from gonzo.translation.atomic_file import replacing
from gonzo.translation.embeddings import Embeddings, read_embeddings, write_embeddings

NAMES = ["x.vec", "x.txt", "x.vec.gz", "x.bin", "x.npz", "x.safetensors", "X.VEC"]


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    vectors[7] = 0
    return Embeddings(tuple(f"mot{i}é" for i in range(60)), vectors * 1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_written_reads_back(tmp_path, embeddings, name, dtype):
    path = tmp_path / "new" / "folder" / name
    write_embeddings(embeddings.to(dtype), path)
    again = read_embeddings(path, dtype=dtype)
    assert again.words == embeddings.words
    kept = torch.float32 if name == "x.bin" else dtype  # word2vec's numbers are float32
    assert torch.equal(again.vectors, embeddings.vectors.to(kept).to(dtype))
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_digits(tmp_path, embeddings):
    write_embeddings(embeddings, tmp_path / "x.vec", digits=5)
    first = (tmp_path / "x.vec").read_text(encoding="utf-8").split("\n")[1].split(" ")
    assert first == ["mot0é", *(f"{x:.5f}" for x in embeddings.vectors[0].tolist())]


def test_the_same_embeddings_give_the_same_bytes(tmp_path, embeddings):
    for name in NAMES:
        write_embeddings(embeddings, tmp_path / name)
        before = (tmp_path / name).read_bytes()
        write_embeddings(embeddings, tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    packed = (tmp_path / "x.vec.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "x.vec").read_bytes()


def test_vectors_that_require_gradients_are_written(tmp_path):
    vectors = torch.ones(1, 2, requires_grad=True)
    write_embeddings(Embeddings(("a",), vectors), tmp_path / "x.vec")
    assert (tmp_path / "x.vec").read_text() == "1 2\na 1.0 1.0\n"


@pytest.mark.parametrize("word", ["a\nb", " a", "a ", "\ta", "a\r", "a 0.5", "a -1e5"])
def test_words_that_text_cannot_hold(tmp_path, word):
    (tmp_path / "x.vec").write_text("old")
    with pytest.raises(ValueError, match=r"text format cannot hold the word .* write \.npz"):
        write_embeddings(Embeddings((word,), torch.ones(1, 2)), tmp_path / "x.vec")
    assert (tmp_path / "x.vec").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "digits", "message"),
    [
        (
            "x.pth",
            None,
            r"ends in \.vec, \.vec\.gz, \.txt, \.bin, \.npz or \.safetensors, got 'x\.p",
        ),
        ("x", None, "got 'x'"),
        ("x.bin", 5, "for text alone, got 5 for 'x.bin'"),
        ("x.vec", -1, "digits of at least 0 .* got -1"),
    ],
)
def test_what_is_refused(tmp_path, embeddings, name, digits, message):
    with pytest.raises(ValueError, match=message):
        write_embeddings(embeddings, tmp_path / name, digits=digits)
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def interrupted():
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
