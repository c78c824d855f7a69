"""word2vec's binary format, with gensim as the judge in both directions."""

import gzip
import struct

import numpy as np
import pytest
import torch

from gonzo.translation import word2vec_format
from gonzo.translation.embeddings import (
    Embeddings,
    read_embeddings,
    read_embeddings_with_report,
    write_embeddings,
)


def entry(word, *numbers, end=b"\n"):
    return word + b" " + struct.pack(f"<{len(numbers)}f", *numbers) + end


PLAIN = b"3 2\n" + entry(b"the", 1, 2) + entry(b"of", -0.5, 0.25) + entry(b"and", 1e-3, 200)


@pytest.fixture
def put(tmp_path):
    def write(content, name="x.bin"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("block", [1, 9, 1 << 22])
@pytest.mark.parametrize("end", [b"", b"\n"], ids=["joined", "newlines"])
def test_entries_with_and_without_newlines(put, monkeypatch, block, end):
    monkeypatch.setattr(word2vec_format, "_BLOCK", block)
    # The bytes of a float may be spaces and newlines: 0x0a0a0a20 is a number like another.
    odd = struct.unpack("<f", b"\x0a\x0a\x0a\x20")[0]
    content = b"2 2\n" + entry(b"a", odd, odd, end=end) + entry("é\u00a0".encode(), 1, odd, end=end)
    path = put(content)
    # The first read must hold the line of counts; later ones may be as small as they like.
    if block < 4:
        monkeypatch.setattr(word2vec_format, "_BLOCK", 4)
    embeddings = read_embeddings(path)
    assert embeddings.words == ("a", "é\u00a0")
    expected = np.array([[odd, odd], [1, odd]], np.float32)
    assert embeddings.vectors.numpy().tobytes() == expected.tobytes()


def test_the_format_is_told_from_text_of_the_same_name(put):
    assert read_embeddings_with_report(put(PLAIN))[1].format == "word2vec"
    assert read_embeddings_with_report(put(b"1 2\na 0.5 1\n"))[1].format == "text"
    assert read_embeddings_with_report(put(PLAIN, "wrong.vec"))[1].format == "word2vec"


def test_compressed_limits_and_precision(put):
    path = put(gzip.compress(PLAIN), "x.bin.gz")
    embeddings, report = read_embeddings_with_report(path, max_words=2, dtype=torch.float64)
    assert embeddings.words == ("the", "of")
    assert embeddings.vectors.tolist() == [[1, 2], [-0.5, 0.25]]
    assert report == ("word2vec", 3, 2, 2, 0, 0, 0, 0, False)


def test_repeated_words_zeros_and_broken_words_are_counted(put):
    entries = [entry(b"A", 1), entry(b"a", 2), entry(b"\xff", 3), entry(b"", 4), entry(b"z", 0)]
    path = put(b"5 1\n" + b"".join(entries))
    embeddings, report = read_embeddings_with_report(path, lowercase=True)
    assert embeddings.words == ("a", "z")
    assert (report.repeated, report.zeros, report.undecodable, report.unnamed) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with .*, got ''; is this a file"),
        (b"\x01\x02\x03", "begins with .*words dimension.*, got"),
        (b"3 two\n" + PLAIN[4:], "begins with .*, got '3 two'"),
        (b"0 2\n" + PLAIN[4:], "begins with .*, got '0 2'"),
        (PLAIN[:-5], r"the file ends after 2 of 3 words: an interrupted download\?"),
        (b"3 2\n", "the file ends after 0 of 3 words"),
        (PLAIN + entry(b"more", 1, 2), "says 3 words, but the file goes on .* max_words=3"),
        (b"2 1\n" + entry(b"a", 1) + entry(b"b", float("nan")), "entry 2: the vector of 'b' holds"),
        (b"9 1\n" + entry(b"a", 1) + b"x" * 70_000, "entry 2: expected a word and a space, found"),
        (b"99999999 9999999\n" + entry(b"a", 1), "200,000 words of 9,999,999 numbers take"),
    ],
)
def test_a_damaged_file_is_refused(put, content, message):
    with pytest.raises(ValueError, match=message):
        read_embeddings(put(content))


def test_what_an_interrupted_download_has_can_be_kept(put):
    embeddings, report = read_embeddings_with_report(put(PLAIN[:-5]), allow_truncated=True)
    assert embeddings.words == ("the", "of")
    assert report.truncated


def test_a_word_with_a_space_is_refused_in_writing(tmp_path):
    embeddings = Embeddings(("a b",), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"cannot hold the word 'a b'.*; write \.vec, \.npz or"):
        write_embeddings(embeddings, tmp_path / "x.bin")
    assert not list(tmp_path.iterdir())


def test_gensim_reads_and_writes_the_same(tmp_path):
    gensim = pytest.importorskip("gensim.models")
    generator = torch.Generator().manual_seed(0)
    embeddings = Embeddings(
        tuple(f"wörd{i}" for i in range(500)), torch.randn(500, 9, generator=generator)
    )
    path = tmp_path / "x.bin"
    write_embeddings(embeddings, path)
    theirs = gensim.KeyedVectors.load_word2vec_format(path, binary=True)
    assert tuple(theirs.index_to_key) == embeddings.words
    assert np.array_equal(theirs.vectors, embeddings.vectors.numpy())
    theirs.save_word2vec_format(path, binary=True)
    again = read_embeddings(path)
    assert again.words == embeddings.words
    assert torch.equal(again.vectors, embeddings.vectors)
