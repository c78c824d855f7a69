"""The bilingual tables: found, checked and split; without a copy the way to one is said."""

import gzip
import hashlib
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gonzo.lab import LabError
from gonzo.lab.data import files, lohelp, tatoeba, wiktdict
from gonzo.lab.data.files import DataFile
from gonzo.lab.data.lohelp import HelpParagraph
from gonzo.lab.data.tatoeba import SentencePair

SHARED = os.environ.get("GONZO_DATA_DIR", "")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set on this machine."""
    monkeypatch.delenv("GONZO_DATA_DIR", raising=False)
    monkeypatch.setattr(files, "cache_dir", lambda: tmp_path / "cache")


def needs(data_set: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (SHARED and (Path(SHARED) / data_set).is_dir()),
        reason=f"GONZO_DATA_DIR names no folder with {data_set}/",
    )


def put(path: Path, text: str) -> DataFile:
    """Write `text` compressed as the name says, and describe the file."""
    content = text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    compress: Callable[[bytes], bytes] = {
        ".xz": lzma.compress,
        ".gz": gzip.compress,
        ".tsv": bytes,
    }[path.suffix]
    path.write_bytes(compress(content))
    return DataFile(path.name, hashlib.sha256(content).hexdigest(), len(content))


@needs("wiktdict")
@pytest.mark.parametrize(
    ("languages", "pairs", "headwords", "some"),
    [
        ("fr-en", 49_285, 32_997, ("chien", "dog")),
        ("en-de", 51_803, 26_061, ("dog", "hund")),
        ("en-es", 41_850, 24_240, ("dog", "perro")),
        ("es-en", 42_377, 26_788, ("perro", "dog")),
    ],
)
def test_the_word_lists(languages: str, pairs: int, headwords: int, some: tuple[str, str]) -> None:
    rows = wiktdict.wiktdict(languages, data_dir=Path(SHARED))  # ty: ignore[invalid-argument-type]
    assert len(rows) == len(set(rows)) == pairs
    assert len({headword for headword, _ in rows}) == headwords
    assert some in rows
    assert not any(" " in word or word != word.lower() for row in rows for word in row)


@needs("tatoeba")
@pytest.mark.parametrize(
    ("languages", "counts"),
    [
        ("en-fr", {"train": 161_360, "valid": 2_845, "test": 2_925}),
        ("en-de", {"train": 164_809, "valid": 2_508, "test": 2_496}),
    ],
)
def test_the_sentence_pairs(languages: str, counts: dict[str, int]) -> None:
    seen: set[str] = set()
    for split, count in counts.items():
        rows = tatoeba.tatoeba(languages, split, data_dir=Path(SHARED))  # ty: ignore[invalid-argument-type]
        assert len(rows) == count
        assert {row.half for row in rows} == ({"a", "b"} if split == "train" else {""})
        english = {row.english for row in rows}
        assert not english & seen
        seen |= english
        assert all(row.english and row.other for row in rows)
        if split == "train":
            a, b = ({row.english for row in rows if row.half == half} for half in "ab")
            assert len(a & b) == 0
            assert 0.95 < len(a) / len(b) < 1.05


@needs("lohelp")
def test_the_help_paragraphs() -> None:
    counts = {"train": 25_315, "valid": 1_271, "test": 1_426}
    parts = {split: lohelp.lohelp(split, data_dir=Path(SHARED)) for split in counts}  # ty: ignore[invalid-argument-type]
    assert {split: len(rows) for split, rows in parts.items()} == counts
    assert parts["valid"][1] == HelpParagraph(
        "Choose Format - Text.", "Choisissez Format - Texte.", "Wählen Sie Format – Text."
    )


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz", ".tsv.xz"])
def test_search_order_compressed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    text = "chat\tcat\nchien\tdog\n"
    whole = put(tmp_path / "whole" / "fr-en.tsv.xz", text)
    monkeypatch.setitem(wiktdict.FILES, "fr-en", whole)
    name = "fr-en" + (suffix if suffix != ".tsv.gz" else ".tsv.xz")  # found by its name
    for folder in ("named/wiktdict", "named", "cache/wiktdict"):
        path = tmp_path / folder / name
        put(path.with_suffix(".gz") if suffix == ".tsv.gz" else path, text)
        if suffix == ".tsv.gz":
            path.with_suffix(".gz").rename(path)  # told by its content, not by its name
        data_dir = tmp_path / "named" if folder.startswith("named") else None
        assert wiktdict.wiktdict("fr-en", data_dir=data_dir) == [("chat", "cat"), ("chien", "dog")]
        path.unlink()
    with pytest.raises(LabError):
        wiktdict.wiktdict("fr-en")


def test_rows_may_hold_what_unicode_calls_line_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "en-fr.test.tsv.xz"
    file = put(path, "a\u2028b\tc\x85d\ne f\tg\r\n")
    monkeypatch.setitem(tatoeba.FILES["en-fr"], "test", file)
    assert tatoeba.tatoeba("en-fr", "test", data_dir=tmp_path) == [
        SentencePair("a\u2028b", "c\x85d", ""),
        SentencePair("e f", "g\r", ""),
    ]


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (
            lambda: wiktdict.wiktdict("fr-en"),
            ["fr-en.tsv.xz is not on this machine", "folder wiktdict", "or as fr-en.tsv:",
             "fr TAB en", "1d8cd5b5f1fc95ba", "open-dsl-dict/wiktionary-dict"],
        ),
        (
            lambda: tatoeba.tatoeba("en-de", "train"),
            ["en-de.train.tsv.xz is not on this machine", "folder tatoeba",
             "half (a or b) TAB en TAB de", "12,286,239 bytes", "www.manythings.org/anki"],
        ),
        (
            lambda: lohelp.lohelp("test"),
            ["help.test.en-fr-de.tsv.xz is not on this machine", "folder lohelp",
             "en TAB fr TAB de", "libreoffice-help-en-us"],
        ),
    ],
)  # fmt: skip
def test_without_a_copy_the_way_to_one_is_said(
    load: Callable[[], object], said: list[str], tmp_path: Path
) -> None:
    with pytest.raises(LabError) as caught:
        load()
    message = str(caught.value)
    for part in [*said, str(tmp_path / "cache"), "--data-dir or GONZO_DATA_DIR"]:
        assert part in message


def test_a_damaged_file_is_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "wiktdict" / "fr-en.tsv.xz"
    put(path, "chat\tcat\n")
    with pytest.raises(LabError, match=r"fr-en\.tsv\.xz is damaged \(expected 924,981 bytes"):
        wiktdict.wiktdict("fr-en", data_dir=tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(LabError, match=r"is damaged \(the xz file is damaged"):
        wiktdict.wiktdict("fr-en", data_dir=tmp_path)
    assert path.is_file()


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (lambda: wiktdict.wiktdict("en-fr"), "wiktdict: expected the languages to be one of "
         r"'fr-en', 'en-de', 'en-es', 'es-en', got 'en-fr'\. Did you mean"),
        (lambda: tatoeba.tatoeba("fr-en", "test"), "languages to be one of 'en-fr', 'en-de'"),
        (lambda: tatoeba.tatoeba("en-fr", "dev"), "split to be one of 'train', 'valid', 'test'"),
        (lambda: lohelp.lohelp("dev"), "lohelp: expected the split to be one of 'train', 'valid'"),
    ],
)  # fmt: skip
def test_names_that_there_are_not(load: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load()


def test_a_folder_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"--data-dir: .*absent is not a folder"):
        lohelp.lohelp("test", data_dir=tmp_path / "absent")
