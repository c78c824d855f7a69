"""Embeddings from text: streamed, repeatable, judged by a language with known classes of words."""

import gzip
import lzma
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gonzo.core.require import MissingExtraError
from gonzo.translation import text_corpus
from gonzo.translation.embeddings import Embeddings
from gonzo.translation.fasttext_training import train_fasttext
from gonzo.translation.text_corpus import write_corpus
from gonzo.translation.text_training import train_embeddings
from gonzo.translation.tokenizing import Tokenizer

ENGINES = ("gensim", "fasttext")
MODULES = {"gensim": "gensim", "fasttext": "fasttext_pybind"}
SMALL = {"dim": 8, "epochs": 1, "buckets": 100}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(MODULES[request.param])
    return request.param


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of four classes of ten words; a sentence keeps to one class."""
    draw = random.Random(seed)
    words = [[f"{name}{chr(97 + i)}" for i in range(10)] for name in ("ba", "ke", "ti", "mo")]
    return [" ".join(draw.choices(words[draw.randrange(4)], k=8)) for _ in range(count)]


# Subsampling drops most of the words of so small a vocabulary, so that there is much text.
LINES = sentences(4_000)


def test_words_of_a_class_are_near_each_other(engine: str) -> None:
    found = train_embeddings(LINES, dim=16, epochs=5, subwords=None, engine=engine)
    assert len(found) == 40
    assert found.vectors.shape == (40, 16)
    assert found.vectors.dtype == torch.float32
    unit = found.vectors / found.vectors.norm(dim=1, keepdim=True)
    cosines = (unit @ unit.T).fill_diagonal_(-1)
    nearest = [found.words[row] for row in cosines.argmax(dim=1).tolist()]
    assert [word[:2] for word in nearest] == [word[:2] for word in found.words]


def test_the_same_seed_gives_the_same_vectors(engine: str) -> None:
    first = train_embeddings(LINES[:500], **SMALL, engine=engine)
    again = train_embeddings(LINES[:500], **SMALL, engine=engine)
    other = train_embeddings(LINES[:500], **SMALL, seed=1, engine=engine)
    assert first.words == again.words == other.words
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.allclose(first.vectors, other.vectors)


def run_python(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_hash_seed_of_python_changes_nothing(tmp_path: Path) -> None:
    """The other engine runs no Python while it trains."""
    pytest.importorskip("gensim")
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES[:200]))
    code = (
        "import sys; from gonzo.translation.text_training import train_embeddings as train\n"
        "found = train(sys.argv[1], dim=4, epochs=1, buckets=50)\n"
        "print(found.words, found.vectors.tolist())"
    )
    here = train_embeddings(path, dim=4, epochs=1, buckets=50)
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    said = run_python(code, str(path), PYTHONHASHSEED=seed)
    assert said == f"{here.words} {here.vectors.tolist()}\n"


def test_order_counts_and_least_count(engine: str) -> None:
    lines = ["b a c b", "a b rare d é", "É d D"] * 5 + ["rarest"]
    found = train_embeddings(lines, **SMALL, engine=engine)
    assert found.words == ("b", "d", "a", "é", "c", "rare")
    fewer = train_embeddings(lines, **SMALL, min_count=6, engine=engine)
    assert fewer.words == ("b", "d", "a", "é")


def test_what_the_settings_change(engine: str) -> None:
    default = train_embeddings(LINES[:300], **SMALL, engine=engine)
    for change in ({"subwords": None}, {"subwords": (2, 2)}, {"window": 1}, {"epochs": 2}):
        other = train_embeddings(LINES[:300], **{**SMALL, **change}, engine=engine)
        assert other.words == default.words
        assert not torch.allclose(other.vectors, default.vectors), change


def test_progress_is_told(engine: str) -> None:
    told: list[tuple[int, int]] = []
    train_embeddings(
        LINES[:100],
        dim=4,
        epochs=3,
        buckets=50,
        engine=engine,
        on_epoch=lambda finished, epochs: told.append((finished, epochs)),
    )
    assert told == {"gensim": [(1, 3), (2, 3), (3, 3)], "fasttext": [(3, 3)]}[engine]


def test_fasttext_is_what_its_own_function_trains(tmp_path: Path) -> None:
    pytest.importorskip("fasttext")
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES[:500]) + "\n")
    ours = train_embeddings(path, dim=8, epochs=2, buckets=400, engine="fasttext")
    code = (
        "import fasttext, sys\n"
        "model = fasttext.train_unsupervised(sys.argv[1], model='skipgram', dim=8, epoch=2,"
        " bucket=400, thread=1, verbose=0)\n"
        "for word in model.get_words(): print(word, *model.get_word_vector(word).tolist())"
    )
    lines = run_python(code, str(path), MALLOC_PERTURB_="255").splitlines()
    theirs = {word: [float(x) for x in vector] for word, *vector in map(str.split, lines)}
    assert set(theirs) - {"</s>"} == set(ours.words)
    expected = np.array([theirs[word] for word in ours.words], np.float32)
    assert np.array_equal(ours.vectors.numpy(), expected)


def test_a_failure_of_fasttext_is_told_in_its_own_words(tmp_path: Path) -> None:
    pytest.importorskip("fasttext_pybind")
    path = tmp_path / "empty.txt"
    path.write_text("")
    with pytest.raises(RuntimeError, match=r"fasttext failed with exit code 1: .*Empty vocabulary"):
        train_fasttext(path, [], {"dim": 4, "maxn": 0}, tmp_path)


def test_nothing_stays_in_the_temporary_folder(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    train_embeddings(LINES[:100], **SMALL, engine=engine)
    with pytest.raises(ValueError, match="no text"):
        train_embeddings([], **SMALL, engine=engine)
    assert list(tmp_path.iterdir()) == []


def corpus_text(text: text_corpus.Text, folder: Path) -> tuple[str, text_corpus.Corpus]:
    corpus = write_corpus(text, folder / "corpus.txt", Tokenizer())
    return corpus.path.read_text(encoding="utf-8"), corpus


def test_paths_lines_and_compressed_files_are_the_same_text(tmp_path: Path) -> None:
    text = "Un café, s’il vous plaît!\n\n42\r\nL'été\nsans fin"
    expected = "un café s il vous plaît\nl été\nsans fin\n"
    plain, packed, pressed = (tmp_path / f"text.{end}" for end in ("txt", "gz", "xz"))
    plain.write_bytes(text.encode())
    packed.write_bytes(gzip.compress(text.encode()))
    pressed.write_bytes(lzma.compress(text.encode()))
    for given in (str(plain), plain, packed, pressed, text.split("\n"), iter(text.split("\n"))):
        written, corpus = corpus_text(given, tmp_path)
        assert written == expected
        assert corpus.lines == 5
    written, corpus = corpus_text([plain, pressed], tmp_path)
    assert written == 2 * expected
    assert corpus.counts == dict.fromkeys(expected.split(), 2)
    assert corpus.lines == 10


def test_long_lines_are_cut_where_no_engine_would(tmp_path: Path) -> None:
    written, corpus = corpus_text(["a " * 2_500, "b"], tmp_path)
    assert [len(line.split()) for line in written.splitlines()] == [1_000, 1_000, 500, 1]
    assert corpus.counts == {"a": 2_500, "b": 1}


@pytest.mark.parametrize("separator", ["\n", " "])
def test_files_come_in_pieces_that_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str
) -> None:
    monkeypatch.setattr(text_corpus, "_CHUNK_BYTES", 16)
    words = [chr(97 + i % 26) * (1 + i % 9) + "é" for i in range(500)]
    path = tmp_path / "text.txt"
    path.write_text(separator.join(words), encoding="utf-8")
    written, corpus = corpus_text(path, tmp_path)
    assert written.split() == words
    if separator == "\n":
        assert corpus.lines == 500


def test_a_text_without_line_ends_does_not_come_into_memory_whole(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("word " * 2_000_000)
    longest = 0

    def tokenize(line: str) -> list[str]:
        nonlocal longest
        longest = max(longest, len(line))
        return []

    corpus = write_corpus(path, tmp_path / "corpus.txt", tokenize)  # ty: ignore[invalid-argument-type]
    assert corpus.lines >= 4
    assert 0 < longest < 3 * (1 << 20)


def test_a_run_without_an_end_is_not_gathered_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_corpus, "_CHUNK_BYTES", 16)
    monkeypatch.setattr(text_corpus, "_LONGEST_RUN", 64)
    path = tmp_path / "text.txt"
    path.write_bytes(b"word " * 100 + b"x" * 500)
    with pytest.raises(ValueError, match=r"text\.txt: found \d+ bytes without a space or a line"):
        corpus_text(path, tmp_path)


def test_text_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    with pytest.raises(ValueError, match="no text: there is no word in the 0 lines read"):
        train_embeddings([])
    with pytest.raises(ValueError, match="there is no word in the 2 lines read"):
        train_embeddings(["42", "?!"])
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        train_embeddings(tmp_path / "absent.txt")
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        train_embeddings("absent.txt")
    with pytest.raises(
        ValueError,
        match=r"at least two words that occur 5 times or more, got 0; of the 7 words read the "
        r"most frequent, 'a', occurs 3 times\. Give more text or a smaller min_count",
    ):
        train_embeddings(["a b a", "c b a d"])


def test_text_that_is_something_else(tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    with pytest.raises(ValueError, match=r"one string of several lines .*text\.splitlines\(\)"):
        train_embeddings("one line\nand another")
    for given, complaint in (
        (b"bytes", "expected a path, paths, or lines of text, got bytes"),
        (3, "expected a path, paths, or lines of text, got int"),
        (["line", 3], r"expected lines of text \(str\) or paths \(pathlib\.Path\), got int"),
        ([["a", "b"]], r"or paths \(pathlib\.Path\), got list"),
    ):
        with pytest.raises(TypeError, match=complaint):
            train_embeddings(given)  # ty: ignore[invalid-argument-type]
    latin = tmp_path / "latin.txt"
    latin.write_bytes("un\ndeux\nété\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt, line 3: expected text in UTF-8, .* 0xe9; "):
        train_embeddings(latin)
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress("\n".join(LINES).encode())[:-2_000])
    with pytest.raises(ValueError, match=r"cut\.gz: the compressed text ends early"):
        train_embeddings(cut)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"engine": "fastext"}, "engine 'gensim' or 'fasttext', got 'fastext'. Did you mean 'fas"),
        ({"engine": None}, "engine 'gensim' or 'fasttext', got None"),
        ({"dim": 0}, "expected dim to be a whole number of at least 1, got 0"),
        ({"epochs": 1.5}, "expected epochs to be a whole number of at least 1, got 1.5"),
        ({"min_count": -1}, "expected min_count to be"),
        ({"window": True}, "expected window to be"),
        ({"threads": 0}, "expected threads to be"),
        ({"buckets": 0}, "expected buckets to be"),
        ({"seed": -1}, "expected seed to be a whole number of at least 0, got -1"),
        ({"seed": 2**31 - 1}, r"expected seed below 2\*\*31 - 1"),
        ({"subwords": (6, 3)}, r"such as \(3, 6\), or None, got \(6, 3\)"),
        ({"subwords": (0, 3)}, "expected subwords"),
        ({"subwords": 3}, "expected subwords"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        train_embeddings(["text"], **settings)  # ty: ignore[invalid-argument-type]


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def lines() -> Iterator[str]:
        raise AssertionError("the text was read first")
        yield ""

    for name, extra in (("gensim", "train"), ("fasttext", "fasttext")):
        monkeypatch.setitem(sys.modules, MODULES[name], None)
        with pytest.raises(MissingExtraError, match=rf'pip install "gonzo-translation\[{extra}\]"'):
            train_embeddings(lines(), engine=name)


def test_the_tokenizer_can_be_another(engine: str) -> None:
    lines = ["L'Été l'été"] * 10
    tokenizer = Tokenizer(lowercase=False, apostrophes="left")
    found = train_embeddings(lines, **SMALL, engine=engine, tokenizer=tokenizer)
    assert isinstance(found, Embeddings)
    assert found.words == ("L'", "l'", "Été", "été")
