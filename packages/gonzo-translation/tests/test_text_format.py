"""Embeddings as text: every shape a real file has, and every way one is broken."""

import bz2
import gzip
import logging
import lzma
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gonzo.translation import text_format
from gonzo.translation.embeddings import (
    Embeddings,
    read_embeddings,
    read_embeddings_with_report,
    write_embeddings,
)

PLAIN = b"3 2\nthe 1 2\nof -0.5 .25\nand 1e-3 2E2\n"


@pytest.fixture
def put(tmp_path):
    def write(content, name="x.vec"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def test_a_file_as_fasttext_writes_it(put):
    embeddings, report = read_embeddings_with_report(put(PLAIN))
    assert embeddings.words == ("the", "of", "and")
    assert embeddings.vectors.dtype == torch.float32
    assert torch.equal(embeddings.vectors, torch.tensor([[1, 2], [-0.5, 0.25], [1e-3, 200]]))
    assert report == ("text", 3, 3, 3, 0, 0, 0, 0, False)
    assert not report.troubled


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.removesuffix(b"\n"),
        PLAIN + b"\n \n",
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.replace(b"2\n", b"2 \n"),
        PLAIN.replace(b" ", b"\t"),
        PLAIN.replace(b" ", b"  "),
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.removeprefix(b"3 2\n"),
        b"\xef\xbb\xbf" + PLAIN.removeprefix(b"3 2\n"),
        PLAIN.removeprefix(b"3 2\n").removesuffix(b"\n"),
        PLAIN.replace(b"1e-3", b"0.00100000000000000000000"),
        PLAIN.replace(b"1e-3", b"+0.1e-2"),
    ],
    ids=[
        "no-last-newline", "blank-lines-at-the-end", "crlf", "space-at-the-end", "tabs",
        "two-spaces", "byte-order-mark", "no-counts", "no-counts-mark", "no-counts-no-newline",
        "many-digits", "plus",
    ],
)  # fmt: skip
def test_the_same_vectors_in_other_clothes(put, content):
    embeddings = read_embeddings(put(content))
    expected = read_embeddings(put(PLAIN, "plain.vec"))
    assert embeddings.words == expected.words
    assert torch.equal(embeddings.vectors, expected.vectors)


@pytest.mark.parametrize("block", [1, 7, 16])
def test_blocks_may_end_anywhere(put, monkeypatch, block):
    monkeypatch.setattr(text_format, "_BLOCK", block)
    for content in (PLAIN, PLAIN.removeprefix(b"3 2\n"), PLAIN.removesuffix(b"\n")):
        embeddings, report = read_embeddings_with_report(put(content))
        assert embeddings.words == ("the", "of", "and")
        assert report.words == 3


def zipped(content):
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.vec", content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("x.vec.gz", gzip.compress), ("x.vec.xz", lzma.compress), ("x.vec.bz2", bz2.compress),
        ("x.vec.zip", zipped), ("wrong-name.vec", gzip.compress),
    ],
)  # fmt: skip
def test_compressed_files_are_told_by_their_content(put, name, pack):
    assert read_embeddings(put(pack(PLAIN), name)).words == ("the", "of", "and")


def test_words_of_every_unicode_kind(put):
    # A no-break space, a line separator, a next-line and a vertical tab end no word and no line.
    words = [
        "no\u00a0break",
        "line\u2028end",
        "next\u0085line",
        "\u3000",
        "a b",
        ". . .",
        "5",
        "\0",
    ]
    text = f"{len(words)} 2\n" + "".join(f"{w} 0.5 {i}\n" for i, w in enumerate(words))
    embeddings = read_embeddings(put(text.encode()))
    assert embeddings.words == tuple(words)
    assert embeddings.vectors[:, 1].tolist() == list(range(len(words)))


def test_repeated_words_keep_the_first_and_are_counted(put, caplog):
    path = put(b"4 1\na 1\nb 2\na 3\nc 4\n")
    with caplog.at_level(logging.INFO, "gonzo.translation"):
        embeddings = read_embeddings(path)
    assert embeddings.words == ("a", "b", "c")
    assert embeddings.vectors.flatten().tolist() == [1, 2, 4]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (f"{path}: 3 words kept of 4 read; 1 repeated words left out")


def test_lower_casing_keeps_the_first_spelling(put, caplog):
    path = put("4 1\nThe 1\nthe 2\nÉTÉ 3\nété 4\n".encode())
    with caplog.at_level(logging.INFO, "gonzo.translation"):
        embeddings = read_embeddings(path, lowercase=True)
    assert embeddings.words == ("the", "été")
    assert embeddings.vectors.flatten().tolist() == [1, 3]
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert read_embeddings(path).words == ("The", "the", "ÉTÉ", "été")


def test_everything_odd_is_counted_and_nothing_more(put, caplog):
    lines = [b"a 1 2", b"zero 0 0", b"\xff\xfe 1 2", b" 1 2", b"a 3 4", b"-zero -0.0 0", b"b 1 1"]
    path = put(b"7 2\n" + b"\n".join(lines) + b"\n")
    embeddings, report = read_embeddings_with_report(path)
    assert embeddings.words == ("a", "zero", "-zero", "b")
    assert report.entries == 7
    assert (report.repeated, report.zeros, report.undecodable, report.unnamed) == (1, 2, 1, 1)
    assert report.entries == report.words + report.repeated + report.undecodable + report.unnamed
    assert str(report) == (
        "4 words kept of 7 read; 1 repeated words left out; 1 words left out that are not UTF-8; "
        "1 entries left out without a word; 2 vectors of zeros kept"
    )
    assert embeddings.vectors[1].tolist() == [0, 0]


def test_nothing_is_logged_about_a_clean_file(put, caplog):
    with caplog.at_level(logging.DEBUG, "gonzo.translation"):
        read_embeddings(put(PLAIN))
    assert not caplog.records


def test_max_words_counts_the_words_kept(put):
    path = put(b"5 1\na 1\na 2\nb 3\nc 4\nd 5\n")
    embeddings, report = read_embeddings_with_report(path, max_words=2)
    assert embeddings.words == ("a", "b")
    assert report.entries == 3
    assert len(read_embeddings(path, max_words=None)) == 4


def test_what_lies_beyond_max_words_is_not_looked_at(put):
    path = put(b"9 1\na 1\nb 2\nragged 1 2 3\n")
    assert read_embeddings(path, max_words=2).words == ("a", "b")


def test_a_file_without_counts_grows_as_it_must(put):
    text = "".join(f"w{i} {i}.5 {-i}\n" for i in range(5000))
    path = put(text.encode(), "glove.txt")
    embeddings, report = read_embeddings_with_report(path)
    assert report.claimed is None
    assert embeddings.vectors[:, 1].tolist() == [float(-i) for i in range(5000)]
    assert len(read_embeddings(path, max_words=4321)) == 4321
    with pytest.raises(ValueError, match="more than max_bytes"):
        read_embeddings(path, max_bytes=4000 * 8)
    assert len(read_embeddings(path, max_bytes=5000 * 8)) == 5000


def test_float64_keeps_all_digits(put):
    path = put(b"1 2\na 0.1 1.23456789012345678\n")
    embeddings = read_embeddings(path, dtype=torch.float64)
    assert embeddings.vectors.dtype == torch.float64
    assert embeddings.vectors.tolist() == [[0.1, 1.2345678901234568]]


DAMAGED = {
    "empty": (b"", "found an empty file"),
    "html": (b"<!DOCTYPE html>\n<p>Not found\n", "line 1: expected .* got '<!DOC"),
    "blank": (b"\n\n", "line 1: expected .* got an empty line"),
    "words only": (b"one\ntwo\n", "got 'one'; is this a file of word vectors"),
    "no words": (b"0 5\n", "line 1: .* both at least 1, got '0 5'"),
    "no numbers": (b"5 0\n", "line 1: .* both at least 1, got '5 0'"),
    "negative": (b"-5 3\na 1 2 3\n", "line 1: .* both at least 1, got '-5 3'"),
    "too wide": (b"2 2\na 1 2\nb 0.1 0.2 0.3\n", "line 3: expected 2 numbers .* word 'b', found 3"),
    "too narrow": (b"2 2\na 1\nb 1 2\n", "line 2: expected 2 numbers after the word 'a', found 1"),
    "compensating": (
        b"2 2\na 0.1\nb 0.2 0.3 0.4\n", "line 2: expected 2 numbers after the word 'a', found 1"
    ),
    "word alone": (b"2 2\na\nb 1 2\n", "line 2: expected 2 numbers after the word 'a', found 0"),
    "no number": (b"2 2\na 1 x2\nb 1 2\n", "line 2: expected 2 .* found 'x2' among them"),
    "comma": (b"1 2\na 1,5 2\n", "line 2: .* found '1,5' among them"),
    "underscore": (b"1 2\na 1_0 2\n", "line 2: .* found '1_0' among them"),
    "two points": (b"1 2\na 1.0.0 2\n", r"line 2: .* found '1\.0\.0' among them"),
    "bare exponent": (b"1 2\na 1e 2\n", "line 2: .* found '1e' among them"),
    "sign alone": (b"1 2\na - 2\n", "line 2: .* found '-' among them"),
    "nan": (b"2 2\na 1 2\nb 1 nan\n", "line 3: the vector of 'b' holds nan, expected finite"),
    "inf": (b"2 2\na 1 2\nb -inf 1\n", "line 3: the vector of 'b' holds -inf"),
    "too large": (b"2 2\na 1 2\nb 1 1e39\n", "line 3: the vector of 'b' holds inf, .* of float32"),
    "too large for any": (b"1 2\na 1 1e999\n", "line 2: the vector of 'a' holds inf"),
    "after blanks": (b"2 2\n\n\na 1\n", "line 4: expected 2 numbers"),
    "cut": (b"3 2\na 1 2\nb 3 4\n", r"the file ends after 2 of 3 words: an interrupted download\?"),
    "counts alone": (b"3 2\n", "the file ends after 0 of 3 words"),
    "counts cut": (b"3 2", "the file ends after 0 of 3 words"),
    "cut in a line": (b"3 2\na 1 2\nb 3", "the file ends after 1 of 3 words"),
    "cut in a number": (b"3 2\na 1 2\nb 3 4", "the file ends after 1 of 3 words"),
    "cut without counts": (b"a 1 2\nb 3", "the file ends after 1 words: an interrupted"),
    "surplus": (b"2 1\na 1\nb 2\nc 3\n\nd 4", "says 2 words, but 4 follow; .* max_words=2"),
    "nothing left": (b"1 1\n\xff 1\n", "expected at least one word with a vector, found none"),
    "utf-16": (PLAIN.decode().encode("utf-16"), "found a text in UTF-16"),
}  # fmt: skip


@pytest.mark.parametrize("block", [5, 1 << 22])
@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_with_its_place(put, monkeypatch, content, message, block):
    monkeypatch.setattr(text_format, "_BLOCK", block)
    path = put(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_embeddings(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"3 2\na 1 2\nb 3 4\n", ("a", "b")),
        (b"3 2\na 1 2\nb 3", ("a",)),
        (b"3 2\na 1 2\nb 3 4", ("a",)),
        (b"a 1 2\nb 3", ("a",)),
    ],
)
def test_what_an_interrupted_download_has_can_be_kept(put, caplog, content, words):
    path = put(content)
    embeddings, report = read_embeddings_with_report(path, allow_truncated=True)
    assert embeddings.words == words
    assert report.truncated
    read_embeddings(path, allow_truncated=True)
    assert "the file ends" in caplog.text


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_a_compressed_file_cut_short(put, pack):
    numbers = np.random.default_rng(0).normal(size=(3000, 4))
    text = "3000 4\n" + "".join(
        f"w{i} {' '.join(f'{x:.5f}' for x in row)}\n" for i, row in enumerate(numbers)
    )
    packed = pack(text.encode())
    path = put(packed[: len(packed) * 2 // 3])
    if pack is bz2.compress:  # one block of 900 kB holds it all: nothing comes before the cut
        with pytest.raises(ValueError, match="found one cut off before its first line"):
            read_embeddings(path)
        return
    with pytest.raises(ValueError, match=r"the file ends after [\d,]+ of 3,000 words: an interr"):
        read_embeddings(path)
    embeddings, report = read_embeddings_with_report(path, allow_truncated=True)
    assert 1000 < len(embeddings) < 2500
    assert report.truncated
    rows = [embeddings.row(f"w{i}") for i in range(len(embeddings))]
    assert rows == list(range(len(embeddings)))
    np.testing.assert_allclose(embeddings.vectors[-1], numbers[len(embeddings) - 1], atol=1e-5)


def test_damaged_compression_is_not_called_a_cut(put):
    packed = bytearray(gzip.compress(PLAIN * 100, mtime=0))
    packed[40] ^= 0xFF
    with pytest.raises(ValueError, match=r"the compressed data are damaged \("):
        read_embeddings(put(bytes(packed)), allow_truncated=True)


def test_a_zip_of_several_files_is_refused(put, tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.vec", PLAIN)
        archive.writestr("b.vec", PLAIN)
    with pytest.raises(ValueError, match=r"zip archive of one file, found 2 \(a\.vec, b\.vec\)"):
        read_embeddings(tmp_path / "two.zip")
    cut = (tmp_path / "two.zip").read_bytes()[:60]
    with pytest.raises(ValueError, match="the zip archive is damaged or cut off"):
        read_embeddings(put(cut, "cut.zip"))


@pytest.mark.parametrize("at", [6, 8])
def test_a_zip_that_cannot_be_unpacked_is_refused(put, at):
    packed = bytearray(zipped(PLAIN))
    for header, shift in ((0, 0), (packed.find(b"PK\x01\x02"), 2)):
        packed[header + at + shift] = 99 if at == 8 else packed[header + at + shift] | 1
    with pytest.raises(ValueError, match=r"zip archive cannot be read \(.*(encrypt|not supported)"):
        read_embeddings(put(bytes(packed), "x.zip"))


def test_blank_lines_take_no_room_for_numbers(put):
    content = b"1 200000\n" + b"\n" * (1 << 20) + b"a" + b" 0.5" * 200_000 + b"\n"
    embeddings = read_embeddings(put(content))
    assert embeddings.words == ("a",)
    assert (embeddings.vectors == 0.5).all()
    line = (1 << 20) + 2
    with pytest.raises(ValueError, match=rf"line {line:,}: expected 200,000 numbers"):
        read_embeddings(put(content[:-5] + b"\n"))


def test_absurd_counts_are_refused_before_anything_is_allocated(put):
    path = put(b"999999999999 1000000\na 1 2\n")
    with pytest.raises(ValueError, match=r"200,000 words of 1,000,000 numbers take 762,939 MiB, "):
        read_embeddings(path)
    with pytest.raises(ValueError, match=r"keep fewer with max_words=, or allow more with max_byt"):
        read_embeddings(path, max_words=None)
    with pytest.raises(ValueError, match=r"3 words of 2 numbers take .* max_bytes = 0 MiB"):
        read_embeddings(put(PLAIN), max_bytes=23)
    assert len(read_embeddings(put(PLAIN), max_bytes=24)) == 3


def test_a_line_without_an_end_is_not_gathered_for_ever(put, monkeypatch):
    monkeypatch.setattr(text_format, "_BLOCK", 16)
    monkeypatch.setattr(text_format, "_LONGEST_LINE", 64)
    with pytest.raises(ValueError, match="found 80 bytes without a line end, expected a text file"):
        read_embeddings(put(b"x" * 500))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_words": 0}, ValueError, "max_words of at least 1, or None for all, got 0"),
        ({"dtype": torch.float16}, TypeError, r"torch\.float32 or torch\.float64, got torch\.f"),
    ],
)
def test_options_that_are_refused(put, options, error, message):
    with pytest.raises(error, match=message):
        read_embeddings(put(PLAIN), **options)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_embeddings(tmp_path / "nothing.vec")


WORDS = st.text(
    st.characters(exclude_characters="\n\r\t ", exclude_categories=["Cs"]), min_size=1, max_size=8
)


@given(st.lists(WORDS, min_size=1, max_size=6, unique=True), st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_written_text_reads_back_as_the_same_bits(tmp_path, words, data):
    floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
    rows = data.draw(st.lists(st.tuples(floats, floats), min_size=len(words), max_size=len(words)))
    embeddings = Embeddings(tuple(words), torch.tensor(rows, dtype=torch.float32))
    for dtype in (torch.float32, torch.float64):
        write_embeddings(embeddings.to(dtype), tmp_path / "x.vec")
        again = read_embeddings(tmp_path / "x.vec", dtype=dtype)
        assert again.words == embeddings.words
        assert torch.equal(again.vectors, embeddings.vectors.to(dtype))


def test_gensim_reads_the_same(put):
    gensim = pytest.importorskip("gensim.models")
    generator = torch.Generator().manual_seed(0)
    embeddings = Embeddings(
        tuple(f"w{i}" for i in range(50)), torch.randn(50, 7, generator=generator)
    )
    path = put(b"")
    write_embeddings(embeddings, path)
    theirs = gensim.KeyedVectors.load_word2vec_format(path)
    assert tuple(theirs.index_to_key) == embeddings.words
    assert np.array_equal(theirs.vectors, embeddings.vectors.numpy())
    theirs.save_word2vec_format(path)
    assert torch.equal(read_embeddings(path).vectors, embeddings.vectors)


def test_words_that_are_all_in_another_encoding(tmp_path):
    path = tmp_path / "cp1252.vec"
    path.write_bytes("2 2\n\xe9t\xe9 1 2\nfa\xe7on 3 4\n".encode("cp1252"))
    with pytest.raises(ValueError, match="all 2 words are in another encoding than UTF-8"):
        read_embeddings(path)
