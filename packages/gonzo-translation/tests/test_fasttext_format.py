"""fastText's models: told from word2vec's files, read through the library where it is installed."""

import struct
import sys

import pytest
import torch

from gonzo.core.require import MissingExtraError
from gonzo.translation.embeddings import read_embeddings, read_embeddings_with_report

# fastText 0.9.3 fills a tenth of its matrix at random per thread, and leaves what the threads do
# not reach as it was in memory: from 11 threads on nothing is left.
THREADS = 11
MAGIC = struct.pack("<ii", 793712314, 12)


def test_without_the_library_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "x.bin").write_bytes(MAGIC)
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(MissingExtraError, match=r'pip install "gonzo-translation\[fasttext\]"'):
        read_embeddings(tmp_path / "x.bin")


def test_a_large_model_is_refused_before_it_is_loaded(tmp_path):
    (tmp_path / "x.bin").write_bytes(MAGIC + bytes(3 << 20))
    with pytest.raises(ValueError, match="has 3 MiB, more than max_bytes = 2 MiB; allow more"):
        read_embeddings(tmp_path / "x.bin", max_bytes=2 << 20)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    fasttext = pytest.importorskip("fasttext")
    folder = tmp_path_factory.mktemp("fasttext")
    text = "the cat sat on the mat . été naïve the dog\n" * 50
    (folder / "text").write_text(text, encoding="utf-8")
    model = fasttext.train_unsupervised(
        str(folder / "text"), dim=6, minCount=1, epoch=1, thread=THREADS, verbose=0, bucket=100
    )
    model.save_model(str(folder / "x.bin"))
    # Quantising groups rows into 256 clusters and refuses fewer rows.
    labels = "".join(f"__label__{i % 2} word{i} word{i // 2}\n" for i in range(400))
    (folder / "labels").write_text(labels, encoding="utf-8")
    classifier = fasttext.train_supervised(
        str(folder / "labels"), dim=6, epoch=1, thread=THREADS, verbose=0
    )
    classifier.quantize(input=str(folder / "labels"), retrain=False)
    classifier.save_model(str(folder / "x.ftz"))
    return folder, model, classifier


def test_a_model_gives_the_vectors_of_the_library(model):
    folder, theirs, _ = model
    embeddings, report = read_embeddings_with_report(folder / "x.bin")
    assert report.format == "fasttext"
    assert embeddings.words[0] == "the"
    assert set(embeddings.words) >= {"été", "naïve", "</s>"}
    for word, vector in zip(embeddings.words, embeddings.vectors, strict=True):
        assert vector.tolist() == theirs.get_word_vector(word).tolist()


def test_max_words_and_a_name_that_says_nothing(model):
    folder, theirs, _ = model
    (folder / "copy.dat").write_bytes((folder / "x.bin").read_bytes())
    embeddings = read_embeddings(folder / "copy.dat", max_words=2, dtype=torch.float64)
    assert embeddings.words == tuple(theirs.get_words()[:2])
    assert embeddings.vectors.dtype == torch.float64


def test_a_quantised_model(model):
    folder, _, theirs = model
    embeddings = read_embeddings(folder / "x.ftz")
    assert embeddings.words
    word = embeddings.words[0]
    assert embeddings.vectors[0].tolist() == theirs.get_word_vector(word).tolist()


def test_a_compressed_model_is_refused(model):
    import gzip

    folder, _, _ = model
    (folder / "x.bin.gz").write_bytes(gzip.compress((folder / "x.bin").read_bytes()))
    with pytest.raises(ValueError, match="loads a model only from a file that is not compressed"):
        read_embeddings(folder / "x.bin.gz")


def test_a_model_of_an_unknown_version_is_refused(tmp_path):
    pytest.importorskip("fasttext")
    (tmp_path / "x.bin").write_bytes(struct.pack("<ii", 793712314, 99))
    with pytest.raises(ValueError, match="fastText cannot load this model"):
        read_embeddings(tmp_path / "x.bin")
