"""Documentation of Debian packages: found or fetched, cleaned, cached, and redone when due."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gonzo.lab import LabError
from gonzo.lab.data import debian_docs as module
from gonzo.lab.data import files
from gonzo.lab.data.debian_docs import debian_docs, debian_docs_versions

PAGES = {
    "fr": {
        "a-doc": r".*/fr/.*\.html",
        "manpages-fr": r"usr/share/man/fr/man\d/.*\.gz",
    }
}
HTML = """<h1>Titre court</h1><p>Le chat est  sur la table.</p><p>Un deux trois</p>
<p>The rest of the page is not translated.</p><p>LE CHAT EST (sur la table)</p>"""
MAN = ".SH NOM\nls \\- lister les fichiers\n.PP\nLe chat est sur la table !\n"


def build(path: Path, pages: dict[str, bytes]) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in pages.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    size = len(data.getvalue())
    header = f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{size:<10}`\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"!<arch>\n" + header.encode() + data.getvalue())


def build_both(folder: Path) -> None:
    build(
        folder / "a-doc_1%3a2.0-1_all.deb",
        {"usr/share/doc/a/fr/x.html": HTML.encode(), "usr/share/doc/a/de/x.html": b"<p>a b c d"},
    )
    build(
        folder / "manpages-fr_4-1_all.deb",
        {"usr/share/man/fr/man1/ls.1.gz": gzip.compress(MAN.encode())},
    )


LINES = ["Le chat est sur la table.", "Un deux trois", "ls - lister les fichiers"]
VERSIONS = {"a-doc": "1:2.0-1", "manpages-fr": "4-1"}


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No packages, no apt-get, and two small packages for French."""
    monkeypatch.delenv("GONZO_DATA_DIR", raising=False)
    monkeypatch.setattr(files, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(module, "PAGES", PAGES)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def apt_get(tmp_path: Path, script: str) -> None:
    program = tmp_path / "bin" / "apt-get"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_paragraphs_are_cleaned_and_kept_with_their_versions(tmp_path: Path) -> None:
    build_both(tmp_path / "data" / "debian_docs")
    assert debian_docs("fr", data_dir=tmp_path / "data") == LINES
    assert debian_docs_versions("fr", data_dir=tmp_path / "data") == VERSIONS
    cache = tmp_path / "cache" / "debian_docs"
    assert (cache / "fr.txt").read_text().splitlines() == LINES
    assert json.loads((cache / "fr.json").read_text())["packages"] == VERSIONS
    assert sorted(path.name for path in cache.iterdir()) == ["fr.json", "fr.txt"]
    # The text alone is enough from now on.
    assert debian_docs("fr") == LINES
    assert debian_docs_versions("fr") == VERSIONS


def test_the_text_is_made_again_when_it_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_both(tmp_path)
    assert debian_docs("fr", data_dir=tmp_path) == LINES
    read: list[str] = []
    inner = module.read_deb

    def watched(path: Path, wanted: Callable[[str], bool]) -> object:
        read.append(path.name)
        return inner(path, wanted)

    monkeypatch.setattr(module, "read_deb", watched)
    assert debian_docs("fr", data_dir=tmp_path) == LINES
    assert read == []
    (tmp_path / "manpages-fr_4-1_all.deb").rename(tmp_path / "manpages-fr_5-1_all.deb")
    assert debian_docs_versions("fr", data_dir=tmp_path)["manpages-fr"] == "5-1"
    assert len(read) == 2
    monkeypatch.setattr(module, "RULES", module.RULES + 1)
    assert debian_docs("fr", data_dir=tmp_path) == LINES
    assert len(read) == 4


def test_what_is_missing_is_fetched_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/bin:/usr/bin", prepend=":")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    build_both(tmp_path / "mirror")
    apt_get(
        tmp_path,
        f'test "$1 $2 $#" = "download -q 3" && echo "$3" >> {tmp_path}/asked\n'
        f"cp {tmp_path}/mirror/$3_*.deb .",
    )
    assert debian_docs("fr") == LINES
    assert (tmp_path / "asked").read_text().split() == ["a-doc", "manpages-fr"]
    cache = tmp_path / "cache" / "debian_docs"
    assert len(list(cache.glob("*.deb"))) == 2
    (cache / "fr.txt").unlink()
    (cache / "manpages-fr_4-1_all.deb").unlink()
    assert debian_docs("fr") == LINES
    assert (tmp_path / "asked").read_text().split() == ["a-doc", "manpages-fr", "manpages-fr"]


def test_a_failed_fetch_keeps_what_came_and_says_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/bin:/usr/bin", prepend=":")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    build_both(tmp_path / "mirror")
    apt_get(
        tmp_path,
        f"case $3 in a-doc) cp {tmp_path}/mirror/a-doc_* . ;; *) "
        "touch manpages-fr_4-1_all.deb.part; echo E: Unable to locate package $3 >&2; exit 100;; "
        "esac",
    )
    with pytest.raises(LabError) as caught:
        debian_docs("fr")
    message = str(caught.value)
    assert "apt-get download manpages-fr failed: E: Unable to locate package manpages-fr" in message
    assert "run apt-get update first" in message
    assert "debian_docs of a folder that you name with --data-dir or GONZO_DATA_DIR" in message
    assert [path.name for path in (tmp_path / "cache" / "debian_docs").iterdir()] == [
        "a-doc_1%3a2.0-1_all.deb"
    ]


def test_without_apt_get_the_way_out_is_said() -> None:
    with pytest.raises(LabError) as caught:
        debian_docs("fr")
    assert "apt-get, which is not on this machine" in str(caught.value)
    assert "download a-doc, manpages-fr from any Debian mirror" in str(caught.value)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the language to be one of 'fr', got 'es'"):
        debian_docs("es")  # ty: ignore[invalid-argument-type]
    with pytest.raises(LabError, match=r"--data-dir: .*absent is not a folder"):
        debian_docs("fr", data_dir=tmp_path / "absent")
    build_both(tmp_path)
    debian_docs("fr", data_dir=tmp_path)
    text = tmp_path / "cache" / "debian_docs" / "fr.txt"
    text.write_text("another text\n")
    with pytest.raises(LabError, match=r"fr\.txt is damaged .* Remove it; it is made again"):
        debian_docs("fr", data_dir=tmp_path)
    text.unlink()
    assert debian_docs("fr", data_dir=tmp_path) == LINES
    (text.parent / "fr.json").write_text("[")
    with pytest.raises(LabError, match=r"fr\.json is damaged .* Remove it; it is made again"):
        debian_docs("fr", data_dir=tmp_path)
    (tmp_path / "a-doc_9_all.deb").write_bytes(b"")
    with pytest.raises(LabError, match=r"a-doc_9_all\.deb are one package in two versions"):
        debian_docs("fr", data_dir=tmp_path)


def test_damaged_packages(tmp_path: Path) -> None:
    build_both(tmp_path)
    man = {"usr/share/man/fr/man1/ls.1.gz": gzip.compress(MAN.encode())[:-9]}
    build(tmp_path / "manpages-fr_4-1_all.deb", man)
    with pytest.raises(LabError, match=r"manpages-fr_4-1_all\.deb: usr/.*/ls\.1\.gz is damaged"):
        debian_docs("fr", data_dir=tmp_path)
    (tmp_path / "manpages-fr_4-1_all.deb").write_bytes(b"")
    with pytest.raises(LabError, match="not a readable Debian package"):
        debian_docs("fr", data_dir=tmp_path)
    assert not (tmp_path / "cache").exists()


def test_every_language_has_function_words_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert list(module.PAGES) == list(module.FUNCTION_WORDS) == ["en", "fr", "de"]
    words = [word for listed in module.FUNCTION_WORDS.values() for word in listed.split()]
    assert len(words) == len(set(words))
